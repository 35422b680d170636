"""What the models and their queues count themselves, read when Prometheus asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from modernrank import Metrics
from modernrank.queue.metrics import WAIT_BOUNDS

from ..models import LoadedModel

Values = dict[str, tuple[str, Callable[[Metrics], float]]]

GAUGES: Values = {
    "queue_calls": ("Calls of which batches wait.", lambda found: found.waiting_calls),
    "queue_tokens": ("Tokens that wait.", lambda found: found.waiting_tokens),
    "queue_estimated_wait_seconds": (
        "Estimated seconds until what waits is done.",
        lambda found: found.estimated_wait or 0.0,
    ),
    "running_batches": ("Batches in progress.", lambda found: found.running),
}
COUNTERS: Values = {
    "pairs": ("Pairs that were scored.", lambda found: found.pairs),
    "pair_tokens": ("Their tokens.", lambda found: found.pair_tokens),
    "computed_tokens": ("Tokens that were computed, padding included.", lambda found: found.computed_tokens),
    "batches": ("Batches that were run.", lambda found: found.runs),
    "joined_batches": ("Batches that served several calls.", lambda found: found.joined_runs),
}
OUTCOMES = ("completed", "failed", "cancelled", "timed_out", "refused")


class ModelCollector(Collector):
    """A family of samples for each count, with a sample for each model.

    Args:
        models: the models that serve at this moment.
    """

    def __init__(self, models: Callable[[], Iterable[LoadedModel]]) -> None:
        self._models = models

    def describe(self) -> Iterable[Metric]:
        """Nothing in advance."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All families."""
        models = [(model, model.reranker.metrics) for model in self._models()]
        yield _info([model for model, _ in models])
        for values, family in ((GAUGES, GaugeMetricFamily), (COUNTERS, CounterMetricFamily)):
            for name, (text, value) in values.items():
                samples = family(f"modernrank_{name}", text, labels=["model"])
                for model, found in models:
                    samples.add_metric([model.name], value(found))
                yield samples
        calls = CounterMetricFamily("modernrank_calls", "Calls by how they ended.", labels=["model", "outcome"])
        stages = CounterMetricFamily(
            "modernrank_engine_seconds", "Seconds of each stage of the engine.", labels=["model", "stage"]
        )
        waits = HistogramMetricFamily(
            "modernrank_queue_wait_seconds", "From the arrival of a call to its first run.", labels=["model"]
        )
        for model, found in models:
            for outcome in OUTCOMES:
                calls.add_metric([model.name, outcome], getattr(found, outcome))
            for stage, seconds in asdict(found.stages).items():
                stages.add_metric([model.name, stage], seconds)
            waits.add_metric([model.name], _buckets(found.wait_counts), found.wait_seconds)
        yield from (calls, stages, waits)


def _info(models: Iterable[LoadedModel]) -> Metric:
    info = GaugeMetricFamily(
        "modernrank_model_info", "What runs.", labels=["model", "provider", "precision", "threads", "runtime"]
    )
    for model in models:
        running = model.reranker.info
        info.add_metric([model.name, running.provider, running.precision, str(running.threads), running.runtime], 1)
    return info


def _buckets(counts: Iterable[int]) -> list[tuple[str, float]]:
    """Cumulative counts by upper bound, as Prometheus has them."""
    total, buckets = 0, []
    for bound, count in zip((*map(str, WAIT_BOUNDS), "+Inf"), counts, strict=True):
        total += count
        buckets.append((bound, float(total)))
    return buckets
