"""Checked requests, ready to be carried out: what ``Reranker`` and ``AsyncReranker`` have in common.

arguments ──▶ request: steps ──▶ (windows are scored) ──▶ request: scores, or the ranking
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modernrank.activations import activate, resolve_activation
from modernrank.arrays import FloatArray
from modernrank.artifact.manifest import Manifest
from modernrank.errors import InputError
from modernrank.options import ActivationChoice, LongDocuments, check_choice, positive
from modernrank.text.checks import check_text, check_texts
from modernrank.text.encoder import PairEncoder

from .windows import (
    DocumentLogit,
    DocumentPartSteps,
    PairSteps,
    PartOptions,
    Steps,
    WholeDocumentSteps,
)


@dataclass(frozen=True)
class DocumentPart:
    """A part of a document, ``document[start:end]``, and its score."""

    start: int
    end: int
    score: float


@dataclass(frozen=True)
class RankedDocument:
    """A document in the result of ``Reranker.rank``: its index in the input, its score and its text.

    ``tokens_cut`` counts the tokens that its pair lost to the limits, of the query and of the document. ``parts`` are
    those that were scored, in their order, where ``rank`` was asked for them.
    """

    index: int
    score: float
    document: str
    tokens_cut: int
    parts: tuple[DocumentPart, ...] = ()


class ScoreRequest:
    """Pairs or single texts to be scored.

    Args:
        manifest: of the model.
        steps: of the pairs or the texts.
        activation: as in ``Reranker.score``.

    Raises:
        InputError: the model has no such activation.
    """

    def __init__(self, manifest: Manifest, steps: PairSteps, activation: ActivationChoice) -> None:
        self._activation = resolve_activation(activation, manifest.model)
        self._labels = len(manifest.model.labels)
        self.steps = steps

    def scores(self, *logits: FloatArray) -> FloatArray:
        """The scores of windows: ``[pairs]`` for a model of one label, ``[pairs, labels]`` for one of several."""
        windows = [activate(self._activation, window) for window in logits]
        scores = np.concatenate(windows) if windows else np.empty((0, self._labels), np.float32)
        return scores[:, 0] if self._labels == 1 else scores


class RankRequest:
    """Documents to be ranked for a query.

    Args:
        manifest: of the model, which has one label.
        encoder: with the limits of the call.
        query: a string.
        documents: strings.
        top_k: as in ``Reranker.rank``.
        activation: as in ``Reranker.rank``.
        long_documents: as in ``Reranker.rank``.
        parts: how long documents are cut.

    Raises:
        InputError: the model has several labels, or an argument is out of its range.
    """

    def __init__(
        self,
        manifest: Manifest,
        encoder: PairEncoder,
        query: str,
        documents: Iterable[str],
        top_k: int | None,
        activation: ActivationChoice,
        long_documents: LongDocuments,
        parts: PartOptions,
    ) -> None:
        _check_one_label(manifest)
        self._top_k = None if top_k is None else positive("top_k", top_k)
        check_choice("long_documents", long_documents, LongDocuments)
        self.in_parts = long_documents == "chunk"
        if parts.given and not self.in_parts:
            raise InputError(f"{parts.given} requires long_documents='chunk'", argument=parts.given)
        self._activation = resolve_activation(activation, manifest.model)
        check_text(query, "the query")
        self._documents = check_texts(documents, "document")
        self._distinct = _first_indices(self._documents)
        self.steps: Steps[tuple[str, int], Any, list[DocumentLogit]]
        if self.in_parts:
            self.steps = DocumentPartSteps(encoder, query, self._distinct, parts)
        else:
            self.steps = WholeDocumentSteps(encoder, query, self._distinct)

    def ranking(self, windows: Iterable[Sequence[DocumentLogit]]) -> list[RankedDocument]:
        """The documents, best first, from the results of all windows."""
        results = (result for window in windows for result in window)
        result_of = dict(zip(self._distinct, results, strict=True))
        texts = self._documents
        order = sorted(range(len(texts)), key=lambda i: (-result_of[texts[i]].logit, i))[: self._top_k]
        ranked = [result_of[texts[i]] for i in order]
        scores = self._scores([result.logit for result in ranked])
        return [
            RankedDocument(i, score, texts[i], result.tokens_cut, self._parts(result))
            for i, score, result in zip(order, scores, ranked, strict=True)
        ]

    def _parts(self, result: DocumentLogit) -> tuple[DocumentPart, ...]:
        scores = self._scores([part.logit for part in result.parts])
        return tuple(DocumentPart(*part.characters, score) for part, score in zip(result.parts, scores, strict=True))

    def _scores(self, logits: list[float]) -> list[float]:
        scores: list[float] = activate(self._activation, np.array(logits, np.float32).reshape(-1, 1))[:, 0].tolist()
        return scores


def _check_one_label(manifest: Manifest) -> None:
    labels = manifest.model.labels
    if len(labels) != 1:
        raise InputError(
            f"rank requires a model of one label, and {manifest.name} has {len(labels)} ({', '.join(labels)}); use "
            "score and choose a label",
            labels=labels,
        )


def _first_indices(texts: Sequence[str]) -> dict[str, int]:
    """Each distinct text and its first index, in order of appearance.

    >>> _first_indices(["b", "a", "b"])
    {'b': 0, 'a': 1}
    """
    first: dict[str, int] = {}
    for index, text in enumerate(texts):
        first.setdefault(text, index)
    return first
