"""``modernrank bench serve``: measures ``modernrank serve`` beside the model that it serves and other servers."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from modernrank import Reranker
from modernrank.artifact.folder import Artifact
from modernrank.errors import BackendError, InputError
from modernrank.export.report import Report, silent

from .measure.http_client import Address
from .measure.scenarios import Subject
from .measure.serving import Server, ServingOptions, measure_servers
from .measure.workload import WorkloadOptions, make_workloads
from .reporting.result import Measurement, Result
from .run import describe_run

LISTENING = re.compile(r"listening for requests on (http://\S+),")


@dataclass(frozen=True)
class ServeOptions:
    """What ``run_serving`` measures.

    workloads: which pairs are scored; one query is one request.
    serving:   the loads.
    others:    URLs of other servers on this machine, by the names that are shown.
    flags:     further flags of ``modernrank serve``.
    """

    workloads: WorkloadOptions = field(default_factory=WorkloadOptions)
    serving: ServingOptions = field(default_factory=ServingOptions)
    others: Sequence[tuple[str, str]] = ()
    flags: Sequence[str] = ()


def run_serving(
    artifact: str | Path, options: ServeOptions | None = None, *, report: Report = silent, **load_options: Any
) -> Result:
    """Start a server of an artifact, and measure it in turns with the model and with other servers.

    Args:
        artifact: its folder.
        options: what to measure.
        report: called with messages about the progress.
        load_options: ``precision``, ``provider``, ``threads`` and ``workers`` of both the server and the model.

    Raises:
        ModernRankError: the artifact cannot be loaded, a server cannot be reached, or it answers with an error.
    """
    options = options or ServeOptions()
    opened = Artifact.open(artifact)
    measurements: list[Measurement] = []
    with Reranker.load(artifact, **load_options) as reranker:
        subject = Subject(opened, reranker, load_options)
        running = {**load_options, "precision": reranker.info.precision, "provider": reranker.info.provider}
        with _own_server(Path(artifact), running, options.flags) as address:
            others = [Server(name, Address.of(url)) for name, url in options.others]
            servers = [Server(f"modernrank serve {reranker.info.precision}", address, ours=True), *others]
            for workload in make_workloads(options.workloads, opened.encoder().count):
                measurements += measure_servers(subject, workload, servers, options.serving, report)
    return Result(describe_run([opened], options.workloads.seed), measurements)


@contextmanager
def _own_server(artifact: Path, load_options: dict[str, Any], flags: Sequence[str]) -> Iterator[Address]:
    given = {name: value for name, value in load_options.items() if value is not None}
    command = [sys.executable, "-m", "modernrank", "serve", str(artifact), "--port", "0"]
    command += [text for name, value in given.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    process = subprocess.Popen([*command, *flags], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        lines: list[str] = []
        address = None
        for line in process.stderr:
            lines.append(line)
            if found := LISTENING.search(line):
                address = Address.of(found[1])
            if address is not None and " is ready: " in line:
                break
        else:
            raise BackendError(f"the server did not start: {lines[-1].strip() if lines else 'it printed nothing'}")
        threading.Thread(target=_drop, args=(process.stderr,), daemon=True).start()  # a full pipe would stop it
        yield address
    finally:
        process.terminate()
        process.wait(60)


def _drop(lines: IO[str]) -> None:
    for _ in lines:
        pass


def named_server(text: str) -> tuple[str, str]:
    """``NAME=URL`` as a name and a URL.

    Raises:
        InputError: it is something else.

    >>> named_server("infinity=http://127.0.0.1:7997/rerank")
    ('infinity', 'http://127.0.0.1:7997/rerank')
    """
    name, separator, url = text.partition("=")
    if not (separator and name):
        raise InputError(f"--server {text}: give NAME=URL", argument="--server", value=text)
    Address.of(url)
    return name, url
