"""Artifacts and precisions side by side on one evaluation set: what ``modernrank eval`` runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modernrank.artifact.folder import Artifact
from modernrank.backends.open import auto_precision, usable_providers
from modernrank.backends.registry import choose_provider
from modernrank.errors import InputError
from modernrank.options import LongDocuments, PrecisionChoice, ProviderChoice, check_choice, checked_length
from modernrank.reranker import Reranker

from .formats import EvaluationSet
from .metrics import MEASURES, by_query
from .rank_candidates import rerank
from .significance import Estimate, Values, estimate, paired_p_value
from .trec_run import Ranking, RunFile

FIRST_STAGE = "first stage"  # the order in which the candidates came


@dataclass(frozen=True)
class Row:
    """The figures of one contender by measure, and how they compare with those of the first contender.

    name:      such as ``"gte int8"``.
    estimates: means over the judged queries, with their intervals.
    changes:   of the mean, relative to the first contender's; None where that is 0. Empty for the first contender.
    p_values:  of the paired test against the first contender; None for a single query. Empty for the first contender.
    """

    name: str
    estimates: dict[str, Estimate]
    changes: dict[str, float | None]
    p_values: dict[str, float | None]


def compare_artifacts(
    data: EvaluationSet,
    artifacts: Sequence[str | Path],
    *,
    precisions: Sequence[PrecisionChoice] = ("auto",),
    long_documents: LongDocuments = "truncate",
    runs: str | Path | None = None,
    show_progress: bool = False,
    **load_options: Any,
) -> list[Row]:
    """Rank the candidates with each artifact in each precision, and measure these rankings beside the first stage's.

    Args:
        data: from ``read_folder`` or ``read_files``.
        artifacts: folders that ``modernrank export`` wrote, of models of one label.
        precisions: those in which each artifact runs.
        long_documents: as in ``Reranker.rank``.
        runs: folder for the rankings as TREC run files; a comparison that was stopped is resumed from them.
        show_progress: draw a progress bar on standard error; requires tqdm.
        load_options: further arguments of ``Reranker.load``, such as ``provider``, ``threads`` or ``max_length``.

    Returns:
        A row for the order of the first stage, and one for each artifact and precision.

    Raises:
        ArtifactError: an artifact cannot be read, or it lacks a precision.
        ProviderError: the provider cannot run on this machine.
        InputError: two contenders have the same name, an artifact has several labels or does not accept ``max_length``,
            or an argument is out of its range. These are checked before anything is scored. Also raised if a run file
            holds rankings of another evaluation.

    >>> data = EvaluationSet(
    ...     queries={"q": "capital of France?"},
    ...     documents={"d1": "A baguette", "d2": "Paris"},
    ...     candidates={"q": ["d1", "d2"]},
    ...     qrels={"q": {"d2": 1}},
    ...     sha256="",
    ... )
    >>> [row.name for row in compare_artifacts(data, [TINY])]                   # an artifact's folder
    ['first stage', 'tiny fp32']
    """
    check_choice("long_documents", long_documents, LongDocuments)
    contenders = [_contender(folder, precision, load_options) for folder in artifacts for precision in precisions]
    _check_names(contenders)
    job = _Job(data, long_documents, None if runs is None else Path(runs), show_progress, load_options)
    rankings: dict[str, Mapping[str, Sequence[str]]] = {FIRST_STAGE: data.candidates}
    for contender in contenders:
        ranked = job.rank(contender)
        rankings[contender.name] = {query: [name for name, _ in ranking] for query, ranking in ranked.items()}
    return compare_rankings(data, rankings)


def compare_rankings(data: EvaluationSet, rankings: Mapping[str, Mapping[str, Sequence[str]]]) -> list[Row]:
    """Measure rankings, and compare each with the first.

    Args:
        data: holds the judgements.
        rankings: for each contender and query the ids of the documents, best first.

    Returns:
        A row for each contender.
    """
    values = {name: by_query(data, ranking) for name, ranking in rankings.items()}
    names = list(values)
    first = values[names[0]]
    return [_row(names[0], first, None), *(_row(name, values[name], first) for name in names[1:])]


def _row(name: str, values: Mapping[str, Values], first: Mapping[str, Values] | None) -> Row:
    estimates = {measure: estimate(values[measure]) for measure in MEASURES}
    if first is None:
        return Row(name, estimates, {}, {})
    changes = {measure: _change(first[measure], values[measure]) for measure in MEASURES}
    return Row(name, estimates, changes, {name: paired_p_value(first[name], values[name]) for name in MEASURES})


def _change(before: Values, after: Values) -> float | None:
    mean = float(before.mean())
    return float(after.mean()) / mean - 1 if mean else None


@dataclass(frozen=True)
class _Contender:
    """An artifact in one precision, which is no longer ``"auto"``."""

    artifact: Artifact
    precision: str

    @property
    def name(self) -> str:
        return f"{self.artifact.manifest.name} {self.precision}"


def _contender(folder: str | Path, precision: PrecisionChoice, load_options: Mapping[str, Any]) -> _Contender:
    """Check what the manifest records, so that no later contender fails after hours of work for an earlier one."""
    artifact = Artifact.open(folder)
    manifest = artifact.manifest
    labels = manifest.model.labels
    if len(labels) != 1:
        raise InputError(
            f"{folder} has {len(labels)} labels ({', '.join(labels)}), so it defines no order of documents; give "
            "artifacts of models of one label",
            labels=labels,
        )
    checked_length(load_options.get("max_length"), manifest.max_length, str(folder), manifest.limited_by)
    return _Contender(artifact, _resolved_precision(artifact, precision, load_options))


def _resolved_precision(artifact: Artifact, precision: PrecisionChoice, load_options: Mapping[str, Any]) -> str:
    """The precision that runs, from the manifest. If the manifest has no graph to run, loading raises the error."""
    provider: ProviderChoice = load_options.get("provider", "auto")
    check_choice("precision", precision, PrecisionChoice)
    check_choice("provider", provider, ProviderChoice)
    usable = usable_providers(artifact, precision)
    if not usable or provider not in {"auto", *usable}:
        with Reranker.load(artifact.folder, **{**load_options, "precision": precision}) as reranker:
            return reranker.info.precision
    chosen = choose_provider(provider, usable)
    return auto_precision(artifact, chosen.name) if precision == "auto" else precision


def _check_names(contenders: Sequence[_Contender]) -> None:
    names = [contender.name for contender in contenders]
    for name in names:
        if names.count(name) > 1:
            raise InputError(
                f"two contenders have the name {name!r}; give each artifact and each precision once, and export "
                "artifacts to folders of different names",
                value=name,
            )


@dataclass(frozen=True)
class _Job:
    """What all contenders have in common."""

    data: EvaluationSet
    long_documents: LongDocuments
    runs: Path | None
    show_progress: bool
    load_options: Mapping[str, Any]

    def rank(self, contender: _Contender) -> dict[str, Ranking]:
        """The rankings of one contender."""
        load_options = {**self.load_options, "precision": contender.precision}
        with Reranker.load(contender.artifact.folder, **load_options) as reranker, self._progress(contender) as advance:
            return rerank(self.data, reranker, self._run_file(contender, reranker), self.long_documents, advance)

    def _run_file(self, contender: _Contender, reranker: Reranker) -> RunFile | None:
        if self.runs is None:
            return None
        info = reranker.info
        provenance = {
            "evaluation": self.data.sha256,
            "artifact": {name: record.sha256 for name, record in reranker.manifest.files.items()},
            "precision": info.precision,
            "provider": info.provider,
            "runtime": info.runtime,
            "max_length": reranker.max_length,
            "truncation": reranker.encoder.truncation,
            "long_documents": self.long_documents,
        }
        # The name comes from a manifest, which must not lead out of the folder.
        name = re.sub(r"[^\w.-]+", "-", contender.name)
        return RunFile(self.runs / f"{name}.run", provenance)

    @contextmanager
    def _progress(self, contender: _Contender) -> Iterator[Callable[[int], object] | None]:
        if not self.show_progress:
            yield None
            return
        from tqdm import tqdm

        total = sum(map(len, self.data.judged_candidates.values()))
        with tqdm(total=total, unit=" pairs", desc=contender.name) as bar:
            yield bar.update
