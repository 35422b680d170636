"""The gate of ``precision="auto"``: how much quality a precision loses compared with float32, and how much it may lose.

Both run on the processor (float16 is emulated) over an evaluation set with judgements. Without one they run over pairs
of the shipped calibration texts, which show how far the rankings agree, but not which ranking is better.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modernrank import Scorer
from modernrank.arrays import FloatArray
from modernrank.artifact.folder import Artifact
from modernrank.artifact.manifest import Manifest, OnnxGraph
from modernrank.backends.registry import PROVIDERS
from modernrank.errors import InputError, counted
from modernrank.evaluation.formats import QUERIES, EvaluationSet, read_folder
from modernrank.host import available_threads
from modernrank.options import EXACT
from modernrank.text.checks import Pair

from .precision.calibration import held_out_pairs
from .precision.fp16_emulation import backend_on_processor
from .precision.job import GraphJob, GraphSource
from .precision.registry import PRECISIONS
from .report import Report

if TYPE_CHECKING:  # scipy, which an exact export does not need
    from modernrank.evaluation.agreement import Fidelity

MEASURE = "nDCG@10"
MAX_LOSS = 0.005  # maximum share of float32's nDCG@10 that may be lost
MIN_AGREEMENT = 0.95  # minimum of Kendall's tau between the rankings, mean over queries
# The folder of a checkpoint that may hold its own evaluation set, in BEIR's layout.
FOLDER = "evaluation"


@dataclass(frozen=True)
class Quality:
    """How much quality a precision loses.

    source:    the name of the measured pairs or evaluation set.
    fidelity:  how far its scores and rankings agree with those of float32.
    exact:     nDCG@10 of float32; None without judgements.
    ndcg:      nDCG@10 of the precision; None without judgements.
    """

    source: str
    fidelity: Fidelity
    exact: float | None = None
    ndcg: float | None = None

    @property
    def loss(self) -> float | None:
        """The share of float32's nDCG@10 that is lost; negative for a gain, None without judgements."""
        if self.exact is None or self.ndcg is None:
            return None
        return (self.exact - self.ndcg) / self.exact if self.exact else 0.0  # nothing to lose

    @property
    def passed(self) -> bool:
        """Whether ``precision="auto"`` may take it."""
        return self.fidelity.kendall >= MIN_AGREEMENT and (self.loss is None or self.loss <= MAX_LOSS)

    @property
    def summary(self) -> str:
        """Verdict, figures and bounds in one line."""
        judged = "not measured, because there are no judgements"
        if self.loss is not None:
            judged = f"{self.ndcg:.4f}, {-self.loss:+.2%} of float32's {self.exact:.4f} (minimum {-MAX_LOSS:.1%})"
        return (
            f"{'passed' if self.passed else 'NOT PASSED'}: {MEASURE} {judged}; Kendall {self.fidelity.kendall:.4f} "
            f"(minimum {MIN_AGREEMENT}) over {counted(self.fidelity.queries, 'query', 'queries')} with "
            f"{counted(self.fidelity.pairs, 'pair')} ({self.source})"
        )

    def as_json(self) -> dict[str, Any]:
        """For the manifest."""
        ndcg = {} if self.loss is None else {"exact": self.exact, "found": self.ndcg, "loss": self.loss}
        return {
            "passed": self.passed,
            "summary": self.summary,
            "source": self.source,
            "ndcg10": ndcg,
            "fidelity": self.fidelity.as_json(),
            "bounds": {"loss": MAX_LOSS, "kendall": MIN_AGREEMENT},
        }


@dataclass(frozen=True)
class Material:
    """The material of the gate: pairs, and the evaluation set if they come from one."""

    source: str
    pairs: list[Pair]
    data: EvaluationSet | None = None


def evaluation_of(checkpoint: Path) -> Path | None:
    """The checkpoint's own evaluation set, or None."""
    return checkpoint / FOLDER if (checkpoint / FOLDER / QUERIES).is_file() else None


def read_material(evaluation: Path | None) -> Material:
    """The pairs of an evaluation set in BEIR's layout, or for None of the shipped texts.

    Raises:
        InputError: the set cannot be used, or no candidate is relevant.
    """
    import modernrank.evaluation.agreement  # noqa: F401 - if scipy is missing, fail before the work and not after it

    if evaluation is None:
        return Material("the shipped calibration texts", held_out_pairs(step=8, document_step=2))
    import ir_measures  # noqa: F401 - as above

    data = read_folder(evaluation)
    if not any(data.qrels[query].get(name, 0) > 0 for query, names in _judged(data) for name in names):
        raise InputError(
            f"in {evaluation} no candidate is relevant to its query, so {MEASURE} cannot be measured; give a set with "
            "relevant candidates",
            path=evaluation,
        )
    return Material(evaluation.resolve().name, _pairs(data), data)


def measure_quality(
    artifact: Artifact, source: GraphSource, material: Material, report: Report
) -> dict[str, dict[str, Any]]:
    """For each precision of the artifact except float32, what the manifest keeps of its quality.

    Args:
        artifact: its graphs are written, its manifest need not be.
        source: the checkpoint, for a float32 graph if the artifact has none.
        material: pairs to measure on, and their judgements if there are any.
        report: called with a line for each step.
    """
    report(f"quality: float32 scores {counted(len(material.pairs), 'pair')} ({material.source})")
    with _exact_graph(artifact, source) as (folder, graph):
        exact = _score(artifact, folder, graph, material.pairs)
    records: dict[str, dict[str, Any]] = {}
    for graph in artifact.manifest.graphs:
        if graph.precision == EXACT:
            continue
        report(f"quality: {graph.precision} scores them")
        quality = _judge(material, exact, _score(artifact, artifact.folder, graph, material.pairs))
        report(f"quality of {graph.precision} {quality.summary}")
        records[graph.precision] = quality.as_json() | ({"sha256": material.data.sha256} if material.data else {})
    return records


def _judge(material: Material, exact: FloatArray, scores: FloatArray) -> Quality:
    from modernrank.evaluation.agreement import measure

    fidelity, data = measure(material.pairs, exact, scores), material.data
    if data is None:
        return Quality(material.source, fidelity)
    return Quality(material.source, fidelity, _ndcg(data, exact), _ndcg(data, scores))


def _pairs(data: EvaluationSet) -> list[Pair]:
    return [(data.queries[query], data.documents[name]) for query, names in _judged(data) for name in names]


def _judged(data: EvaluationSet) -> Iterator[tuple[str, list[str]]]:
    return ((query, names) for query, names in data.candidates.items() if query in data.qrels)


def _ndcg(data: EvaluationSet, scores: FloatArray) -> float:
    """Mean nDCG@10 of scores in the order of ``_pairs``."""
    from modernrank.evaluation.metrics import by_query  # requires ir-measures, unlike an export without judgements

    ranking, first = {}, 0
    for query, names in _judged(data):
        order = np.argsort(-scores[first : first + len(names)], kind="stable")
        ranking[query] = [names[place] for place in order]
        first += len(names)
    return float(by_query(data, ranking)[MEASURE].mean())


@contextmanager
def _exact_graph(artifact: Artifact, source: GraphSource) -> Iterator[tuple[Path, OnnxGraph]]:
    """The artifact's float32 graph for processors, or a temporary one."""
    for graph in artifact.manifest.graphs:
        if graph.precision == EXACT and graph.dialect in PROVIDERS["cpu"].dialects:
            yield artifact.folder, graph
            return
    with tempfile.TemporaryDirectory(dir=artifact.folder.parent) as folder:  # the disk that has room for artifacts
        exact = PRECISIONS[EXACT]
        yield Path(folder), exact.write(GraphJob(source, EXACT, exact.dialects[0], Path(folder))).graph


def _score(artifact: Artifact, folder: Path, graph: OnnxGraph, pairs: list[Pair]) -> FloatArray:
    """The logits of the first label, float32 ``[pairs]``. Long pairs are cut as the runtime cuts them."""
    manifest: Manifest = artifact.manifest
    labels = len(manifest.model.labels)
    encoded = artifact.encoder().encode(pairs)
    with backend_on_processor(folder, graph, labels, available_threads()) as backend:
        logits = Scorer(backend, manifest.model, manifest.tokenizer.pad_token_id).score([pair.ids for pair in encoded])
    return logits[:, 0]
