"""The server's metrics, in the format of Prometheus; those of the queue are read from the models when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from ..models import LoadedModel
from .model_metrics import ModelCollector
from .record import Record

CONTENT_TYPE = CONTENT_TYPE_LATEST
disable_created_metrics()  # type: ignore[no-untyped-call] # a second series for each, which no dashboard reads
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
DOCUMENTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
TOKENS = (64, 256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576)


class ServerMetrics:
    """Counts requests.

    Args:
        models: the models that serve at this moment.
        connections: the number of open connections.
        lost_lines: the number of log lines that could not be written.
    """

    def __init__(
        self,
        models: Callable[[], Iterable[LoadedModel]],
        connections: Callable[[], int] = lambda: 0,
        lost_lines: Callable[[], int] = lambda: 0,
    ) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self.registry)
        self.registry.register(ModelCollector(models))
        self.requests = Counter(
            "modernrank_requests", "Requests that ended.", ["wire", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "modernrank_request_seconds",
            "From a request to its answer.",
            ["wire"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.stages = Histogram(
            "modernrank_stage_seconds",
            "Time of a request in each stage: parse, tokenise, queue, run.",
            ["stage"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.documents = Histogram(
            "modernrank_request_documents", "Documents of a request.", buckets=DOCUMENTS, registry=self.registry
        )
        self.tokens = Histogram(
            "modernrank_request_tokens", "Tokens of a request.", buckets=TOKENS, registry=self.registry
        )
        self.truncated = Counter(
            "modernrank_truncated_pairs", "Pairs that exceeded a limit of tokens and were cut.", registry=self.registry
        )
        self.in_progress = self._gauge("requests_in_progress", "Requests in progress.")
        self.ready = self._gauge("ready", "1 while the server is ready, else 0.")
        self._gauge("connections", "Open connections.").set_function(connections)
        self._gauge("lost_log_lines", "Log lines that could not be written.").set_function(lost_lines)
        self._stage = {name: self.stages.labels(name) for name in ("parse", "tokenise", "queue", "run")}

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"modernrank_{name}", text, registry=self.registry)

    def count(self, record: Record) -> None:
        """Count a request that has ended."""
        self.requests.labels(record.wire or "none", str(record.status)).inc()
        if not record.is_scoring:
            return
        self.seconds.labels(record.wire).observe(record.seconds)
        if record.documents:
            self.documents.observe(record.documents)
        report = record.report
        if report.tokens:
            self.tokens.observe(report.tokens)
            self._stage["parse"].observe(record.parse_seconds)
            self._stage["tokenise"].observe(report.tokenise_seconds)
            self._stage["queue"].observe(report.wait_seconds)
            self._stage["run"].observe(report.run_seconds)
        if record.truncated:
            self.truncated.inc(record.truncated)

    def text(self) -> bytes:
        """All metrics."""
        return generate_latest(self.registry)
