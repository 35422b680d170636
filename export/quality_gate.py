"""The gate of ``precision="auto"``: what a precision loses beside float32, and whether that is little enough.

Both run on the processor (float16 emulated) over an evaluation set with judgements, or, where there is none, over
pairs of the texts that ship for calibration, which tell how far the orders agree but not which is better.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modernrank import Scorer
from modernrank.arrays import FloatArray
from modernrank.artifact.folder import Artifact
from modernrank.artifact.manifest import Manifest, OnnxGraph
from modernrank.backends.registry import PROVIDERS
from modernrank.errors import InputError
from modernrank.evaluation.agreement import Fidelity, measure
from modernrank.evaluation.formats import EvaluationSet, read_folder
from modernrank.export.checkpoint.weights import Weights
from modernrank.export.graph.dialects import OPSET
from modernrank.export.models.modernbert.config import ModernBertConfig
from modernrank.export.models.modernbert.graph import write_graph
from modernrank.export.precision.calibration import held_out_pairs
from modernrank.export.precision.fp16_emulation import backend_on_processor
from modernrank.host import available_threads
from modernrank.text.checks import Pair

EXACT = "fp32"
MEASURE = "nDCG@10"
MOST_LOSS = 0.005  # of float32's nDCG@10
LEAST_AGREEMENT = 0.95  # Kendall's tau of the orders, mean over queries
# A checkpoint's own evaluation set, in BEIR's layout, lies in a folder of this name in it.
FOLDER = "evaluation"


@dataclass(frozen=True)
class Quality:
    """What a precision loses. ``exact`` and ``found`` are nDCG@10 of float32 and of it, None without judgements."""

    source: str
    fidelity: Fidelity
    exact: float | None = None
    found: float | None = None

    @property
    def loss(self) -> float | None:
        """The share of float32's nDCG@10 that is lost; negative where it gains."""
        if self.exact is None or self.found is None:
            return None
        return (self.exact - self.found) / self.exact if self.exact else 0.0  # nothing to lose

    @property
    def passed(self) -> bool:
        """Whether ``precision="auto"`` may take it."""
        return self.fidelity.kendall >= LEAST_AGREEMENT and (self.loss is None or self.loss <= MOST_LOSS)

    @property
    def summary(self) -> str:
        """The verdict, the figures and the bounds in a line."""
        judged = "not measured, for want of judgements"
        if self.loss is not None:
            judged = f"{self.found:.4f}, {-self.loss:+.2%} of float32's {self.exact:.4f} (at worst {-MOST_LOSS:.1%})"
        return (
            f"{'passed' if self.passed else 'NOT PASSED'}: {MEASURE} {judged}; Kendall {self.fidelity.kendall:.4f} (at "
            f"least {LEAST_AGREEMENT}) over {self.fidelity.queries} queries with {self.fidelity.pairs} pairs "
            f"({self.source})"
        )

    def as_json(self) -> dict[str, Any]:
        """For the manifest."""
        ndcg = {} if self.loss is None else {"exact": self.exact, "found": self.found, "loss": self.loss}
        return {
            "passed": self.passed,
            "summary": self.summary,
            "source": self.source,
            "ndcg10": ndcg,
            "fidelity": self.fidelity.as_json(),
            "bounds": {"loss": MOST_LOSS, "kendall": LEAST_AGREEMENT},
        }


@dataclass(frozen=True)
class Material:
    """What the gate measures on: pairs, and where there are judgements the set that they are of."""

    source: str
    pairs: list[Pair]
    data: EvaluationSet | None = None


def read_material(evaluation: Path | None) -> Material:
    """The pairs of an evaluation set in BEIR's layout, or for None of the shipped texts.

    Raises:
        InputError: it cannot be used, or no judgement is of a candidate.
    """
    if evaluation is None:
        return Material("the shipped calibration texts", held_out_pairs(every=8))
    import ir_measures  # noqa: F401 - that it is missing is told before the work, not after

    data = read_folder(evaluation)
    if not any(data.qrels[query].get(name, 0) > 0 for query, names in _judged(data) for name in names):
        raise InputError(f"in {evaluation} no candidate is relevant to its query: there is no {MEASURE} to lose")
    return Material(evaluation.resolve().name, _pairs(data), data)


def measure_quality(
    artifact: Artifact, weights: Weights, config: ModernBertConfig, material: Material, report: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """For each precision of the artifact but float32, what the manifest keeps of its quality.

    Args:
        artifact: its graphs are written, its manifest need not be.
        weights, config: of the checkpoint, for a float32 graph where the artifact has none.
        material: what to measure on.
        report: called with a line for each step.
    """
    report(f"quality: float32 scores {len(material.pairs)} pairs ({material.source})")
    with _exact_graph(artifact, weights, config) as (folder, graph):
        exact = _score(artifact, folder, graph, material.pairs)
    found: dict[str, dict[str, Any]] = {}
    for graph in artifact.manifest.graphs:
        if graph.precision == EXACT:
            continue
        report(f"quality: {graph.precision} scores them")
        quality = _judge(material, exact, _score(artifact, artifact.folder, graph, material.pairs))
        report(f"quality of {graph.precision} {quality.summary}")
        found[graph.precision] = quality.as_json() | ({"sha256": material.data.sha256} if material.data else {})
    return found


def _judge(material: Material, exact: FloatArray, found: FloatArray) -> Quality:
    fidelity, data = measure(material.pairs, exact, found), material.data
    if data is None:
        return Quality(material.source, fidelity)
    return Quality(material.source, fidelity, _ndcg(data, exact), _ndcg(data, found))


def _pairs(data: EvaluationSet) -> list[Pair]:
    return [(data.queries[query], data.documents[name]) for query, names in _judged(data) for name in names]


def _judged(data: EvaluationSet) -> Iterator[tuple[str, list[str]]]:
    return ((query, names) for query, names in data.candidates.items() if query in data.qrels)


def _ndcg(data: EvaluationSet, scores: FloatArray) -> float:
    """Mean nDCG@10 of scores in the order of ``_pairs``."""
    from modernrank.evaluation.metrics import by_query  # needs ir-measures, which an export without judgements does not

    ranking, first = {}, 0
    for query, names in _judged(data):
        order = np.argsort(-scores[first : first + len(names)], kind="stable")
        ranking[query] = [names[place] for place in order]
        first += len(names)
    return float(by_query(data, ranking)[MEASURE].mean())


@contextmanager
def _exact_graph(artifact: Artifact, weights: Weights, config: ModernBertConfig) -> Iterator[tuple[Path, OnnxGraph]]:
    """The artifact's float32 graph for processors, or one that is written for the time."""
    for graph in artifact.manifest.graphs:
        if graph.precision == EXACT and graph.dialect in PROVIDERS["cpu"].dialects:
            yield artifact.folder, graph
            return
    with tempfile.TemporaryDirectory(dir=artifact.folder.parent) as folder:  # the disk that has room for artifacts
        path = Path(folder) / "exact.onnx"
        write_graph(weights, config, "ort-cpu", path)
        data = path.with_name(path.name + ".data")
        name = data.name if data.is_file() else None
        yield Path(folder), OnnxGraph(EXACT, "ort-cpu", "packed", OPSET, path.name, name)


def _score(artifact: Artifact, folder: Path, graph: OnnxGraph, pairs: list[Pair]) -> FloatArray:
    """float32 ``[pairs]``; of the first label where there are several. Long pairs are cut as the runtime cuts them."""
    manifest: Manifest = artifact.manifest
    labels = len(manifest.model.labels)
    encoded = artifact.encoder().encode(pairs)
    with backend_on_processor(folder, graph, labels, available_threads()) as backend:
        logits = Scorer(backend, manifest.model, manifest.tokenizer.pad_token_id).score([pair.ids for pair in encoded])
    return logits[:, 0]
