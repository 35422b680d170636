"""The server's metrics, in the format of Prometheus; those of the queue are read from the models when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from modernrank.queue.metrics import WAIT_BOUNDS

from ..models import LoadedModel
from .record import Record

CONTENT_TYPE = CONTENT_TYPE_LATEST
disable_created_metrics()  # a second series for each, which no dashboard reads
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
        self.registry.register(_ModelCollector(models))
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
        self.in_progress = Gauge("modernrank_requests_in_progress", "Requests in progress.", registry=self.registry)
        self.ready = Gauge("modernrank_ready", "1 while the server is ready, else 0.", registry=self.registry)
        Gauge("modernrank_connections", "Open connections.", registry=self.registry).set_function(connections)
        lost = Gauge("modernrank_lost_log_lines", "Log lines that could not be written.", registry=self.registry)
        lost.set_function(lost_lines)
        self._stage = {name: self.stages.labels(name) for name in ("parse", "tokenise", "queue", "run")}

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

    def names(self) -> list[str]:
        """Of all samples: what a dashboard may ask for."""
        return sorted({sample.name for family in self.registry.collect() for sample in family.samples})


class _ModelCollector(Collector):
    """What the queues of the models count themselves."""

    def __init__(self, models: Callable[[], Iterable[LoadedModel]]) -> None:
        self._models = models

    def describe(self) -> Iterable[Metric]:
        """Nothing in advance."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The families, with a sample for each model."""
        info = GaugeMetricFamily(
            "modernrank_model_info", "What runs.", labels=["model", "provider", "precision", "threads", "runtime"]
        )
        gauges = {
            name: GaugeMetricFamily(f"modernrank_{name}", text, labels=["model"])
            for name, text in {
                "queue_calls": "Calls of which batches wait.",
                "queue_tokens": "Tokens that wait.",
                "queue_estimated_wait_seconds": "Estimated seconds until what waits is done.",
                "running_batches": "Batches in progress.",
            }.items()
        }
        counters = {
            name: CounterMetricFamily(f"modernrank_{name}", text, labels=["model"])
            for name, text in {
                "pairs": "Pairs that were scored.",
                "pair_tokens": "Their tokens.",
                "computed_tokens": "Tokens that were computed, padding included.",
                "batches": "Batches that were run.",
                "joined_batches": "Batches that served several calls.",
            }.items()
        }
        calls = CounterMetricFamily("modernrank_calls", "Calls by how they ended.", labels=["model", "outcome"])
        stages = CounterMetricFamily(
            "modernrank_engine_seconds", "Seconds of each stage of the engine.", labels=["model", "stage"]
        )
        waits = HistogramMetricFamily(
            "modernrank_queue_wait_seconds", "From the arrival of a call to its first run.", labels=["model"]
        )
        for model in self._models():
            found, running = model.reranker.metrics, model.reranker.info
            info.add_metric([model.name, running.provider, running.precision, str(running.threads), running.runtime], 1)
            gauges["queue_calls"].add_metric([model.name], found.waiting_calls)
            gauges["queue_tokens"].add_metric([model.name], found.waiting_tokens)
            gauges["queue_estimated_wait_seconds"].add_metric([model.name], found.estimated_wait or 0.0)
            gauges["running_batches"].add_metric([model.name], found.running)
            counters["pairs"].add_metric([model.name], found.pairs)
            counters["pair_tokens"].add_metric([model.name], found.pair_tokens)
            counters["computed_tokens"].add_metric([model.name], found.computed_tokens)
            counters["batches"].add_metric([model.name], found.runs)
            counters["joined_batches"].add_metric([model.name], found.joined_runs)
            for outcome in ("completed", "failed", "cancelled", "timed_out", "refused"):
                calls.add_metric([model.name, outcome], getattr(found, outcome))
            for stage, seconds in asdict(found.stages).items():
                stages.add_metric([model.name, stage], seconds)
            waits.add_metric([model.name], _buckets(found.wait_counts), found.wait_seconds)
        yield from (info, *gauges.values(), *counters.values(), calls, stages, waits)


def _buckets(counts: Iterable[int]) -> list[tuple[str, float]]:
    """Cumulative counts by upper bound, as Prometheus has them."""
    total, buckets = 0, []
    for bound, count in zip((*map(str, WAIT_BOUNDS), "+Inf"), counts, strict=True):
        total += count
        buckets.append((bound, float(total)))
    return buckets
