"""Every setting of the server: its name, its default and what it is for. Flags, variables and TOML have the same names.

``max_documents`` is ``--max-documents``, ``MODERNRANK_MAX_DOCUMENTS`` and ``max_documents = ..`` in a TOML file.
"""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from modernrank import LongDocuments, PrecisionChoice, ProviderChoice
from modernrank.errors import InputError

from .limits import MEBIBYTE, BodyLimits, Rules


def _setting(default: Any, text: str, at_least: float | None = None, unit: str = "VALUE") -> Any:
    return field(default=default, metadata={"help": text, "at least": at_least, "unit": unit})


@dataclass(frozen=True)
class Settings:
    """What ``modernrank serve`` is told.

    Raises:
        InputError: a value is out of its range.
    """

    artifacts: tuple[str, ...] = _setting((), "folders that `modernrank export` wrote, or NAME=FOLDER")

    host: str = _setting("127.0.0.1", "address to listen on; 0.0.0.0 for all", unit="ADDRESS")
    port: int = _setting(8080, "port to listen on; 0 for any that is free", 0, unit="N")
    uds: Path | None = _setting(None, "listen on this Unix socket instead", unit="PATH")
    metrics_port: int | None = _setting(None, "serve health and metrics on this port, and nowhere else", 0, unit="N")
    api_key_file: Path | None = _setting(
        None, "file of keys, one on each line; MODERNRANK_API_KEYS holds keys too", unit="FILE"
    )
    page: bool = _setting(True, "serve the page at /")

    provider: ProviderChoice = _setting("auto", "provider that runs the models")
    precision: PrecisionChoice = _setting("auto", "precision of the graphs")
    threads: int | None = _setting(None, "threads of each model; by default the cores that are granted", 1, unit="N")
    workers: int | None = _setting(None, "batches side by side on these threads; by default one for each", 1, unit="N")
    max_length: int | None = _setting(
        None, "maximum number of tokens in a pair; by default the artifact's limit", 1, unit="TOKENS"
    )
    strict_models: bool = _setting(False, "refuse names of models that are not served; otherwise the first one answers")
    long_documents: LongDocuments = _setting(
        "chunk", "a document beyond max_length: chunk scores its parts and takes the best, truncate cuts it"
    )
    span_tokens: int = _setting(128, "tokens of the parts that relevant_spans shows", 16, unit="TOKENS")

    max_body_bytes: int = _setting(16 * MEBIBYTE, "bytes of a body, packed and unpacked", 1024, unit="BYTES")
    max_json_values: int = _setting(100_000, "JSON values in a body", 16, unit="N")
    max_documents: int = _setting(1000, "documents, or pairs, of a request", 1, unit="N")
    max_characters: int = _setting(10_000_000, "characters of all texts of a request", 1, unit="N")
    max_query_characters: int = _setting(100_000, "characters of a query", 1, unit="N")
    max_tokens: int = _setting(2_000_000, "tokens of all pairs of a request", 1, unit="TOKENS")
    max_buffered_bytes: int = _setting(
        512 * MEBIBYTE, "bytes of all bodies that are arriving or waiting", 1024, unit="BYTES"
    )
    max_requests: int = _setting(512, "requests in progress", 1, unit="N")
    max_connections: int = _setting(2000, "open connections", 1, unit="N")
    max_waiting_tokens: int = _setting(
        4_000_000, "tokens that wait for a worker; at least max_length", 1, unit="TOKENS"
    )
    max_queue_seconds: float = _setting(60.0, "estimated wait from which on requests are refused", 0, unit="SECONDS")

    header_timeout: float = _setting(10.0, "seconds until the headers of a request have arrived", 0.01, unit="SECONDS")
    body_timeout: float = _setting(30.0, "seconds until a body has arrived", 0.01, unit="SECONDS")
    request_timeout: float = _setting(300.0, "seconds until a request is given up", 0.01, unit="SECONDS")
    write_timeout: float = _setting(
        30.0, "seconds that a client may take to receive what is buffered", 0.01, unit="SECONDS"
    )
    keep_alive: float = _setting(75.0, "seconds that an idle connection stays open", 0.01, unit="SECONDS")
    shutdown_delay: float = _setting(
        0.0, "seconds not ready, but serving, before draining: for balancers to notice", 0, unit="SECONDS"
    )
    shutdown_timeout: float = _setting(25.0, "seconds to drain; what still runs is then cancelled", 0, unit="SECONDS")

    log_format: Literal["json", "text"] = _setting("json", "json lines, or text for people")
    log_level: Literal["debug", "info", "warning", "error"] = _setting("info", "what is logged")
    access_log: bool = _setting(True, "log each request; its texts are never logged")

    def __post_init__(self) -> None:
        for entry in fields(self):
            value, least = getattr(self, entry.name), entry.metadata["at least"]
            wrong = isinstance(value, float) and not math.isfinite(value)
            if value is not None and least is not None and (wrong or value < least):
                raise InputError(
                    f"{entry.name} is {value}; the minimum is {least}", argument=entry.name, value=value, limit=least
                )
        for name in ("port", "metrics_port"):
            if (getattr(self, name) or 0) > 65535:
                raise InputError(f"{name} is {getattr(self, name)}; the maximum is 65535", argument=name, limit=65535)

    @property
    def load_options(self) -> dict[str, Any]:
        """Arguments of ``Reranker.load``."""
        names = ("provider", "precision", "threads", "workers", "max_length", "max_waiting_tokens")
        return {name: getattr(self, name) for name in names}

    @property
    def rules(self) -> Rules:
        """What holds for each call."""
        return Rules(
            self.max_documents,
            self.max_characters,
            self.max_query_characters,
            self.max_tokens,
            self.request_timeout,
            self.long_documents,
            self.span_tokens,
        )

    @property
    def body_limits(self) -> BodyLimits:
        """What holds for each body."""
        return BodyLimits(self.max_body_bytes, self.max_json_values, self.body_timeout)

    @property
    def is_open_to_others(self) -> bool:
        """Whether other machines can connect."""
        if self.uds is not None or self.host == "localhost":
            return False
        try:
            return not ipaddress.ip_address(self.host).is_loopback
        except ValueError:  # a host's name
            return True
