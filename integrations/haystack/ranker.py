"""``ModernRankRanker``: a component of a Haystack pipeline that ranks documents.

documents of a retriever ──meta fields, content──▶ Reranker.rank ──▶ copies of the best, with their scores
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from modernrank import LongDocuments, RankedDocument, Reranker
from modernrank.integrations.ranking import arank, load_model, rank

try:
    from haystack import Document, component, default_from_dict, default_to_dict
except ImportError as error:
    raise ImportError(
        f"haystack_integrations.components.rankers.modernrank requires haystack-ai 3 or newer ({error}): "
        "pip install 'modernrank[cpu,haystack]'"
    ) from error


@component
class ModernRankRanker:
    """Keeps the documents that are most relevant to a query, best first.

    The model is loaded by ``warm_up``, which a pipeline and the first ``run`` call, and freed by ``close``. The results
    are copies of the documents with their scores; the documents themselves are not changed. Of several documents with
    one id, the one with the highest score of an earlier component is ranked, as Haystack's own rankers do.

    Args:
        model: the folder of an artifact; or a checkpoint, by its folder or hub id, which is exported once into the
            cache and requires ``modernrank[export]``.
        top_k: maximum number of results.
        meta_fields_to_embed: names of meta fields whose values are put before the content of a document that has them.
        embedding_separator: what stands between these values and the content.
        scale_score: whether scores are between 0 and 1, by a sigmoid, or raw logits.
        score_threshold: minimum score of a result; None for no minimum.
        max_length: a lower maximum number of tokens in a pair of query and document.
        long_documents: ``"truncate"`` or ``"chunk"``, as in ``Reranker.rank``. Documents that were cut are reported in
            a ``TruncationWarning``.
        load_options: further arguments of ``Reranker.load``, such as ``{"precision": "int8", "threads": 2}``.

    Raises:
        ValueError: ``top_k`` is not positive.

    >>> from haystack import Document
    >>> from haystack_integrations.components.rankers.modernrank import ModernRankRanker
    >>> ranker = ModernRankRanker(str(TINY), top_k=1)                            # an artifact's folder
    >>> len(ranker.run("capital of France?", [Document(content="A baguette"), Document(content="Paris")])["documents"])
    1
    >>> ranker.close()
    """

    def __init__(
        self,
        model: str | Path,
        top_k: int = 10,
        *,
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
        scale_score: bool = True,
        score_threshold: float | None = None,
        max_length: int | None = None,
        long_documents: LongDocuments = "truncate",
        load_options: dict[str, Any] | None = None,
    ) -> None:
        if not isinstance(model, str | Path):
            raise TypeError(
                f"model is {type(model).__name__}; pass the folder of an artifact, or the folder or hub id of a "
                "checkpoint, because a pipeline saves it"
            )
        _check_top_k(top_k)
        self.model = str(model)
        self.top_k = top_k
        self.meta_fields_to_embed = meta_fields_to_embed or []
        self.embedding_separator = embedding_separator
        self.scale_score = scale_score
        self.score_threshold = score_threshold
        self.max_length = max_length
        self.long_documents = long_documents
        self.load_options = load_options or {}
        self._loading = threading.Lock()
        self._loaded: Reranker | None = None

    def to_dict(self) -> dict[str, Any]:
        """The arguments of the constructor, for a saved pipeline."""
        saved: dict[str, Any] = default_to_dict(
            self,
            model=self.model,
            top_k=self.top_k,
            meta_fields_to_embed=self.meta_fields_to_embed,
            embedding_separator=self.embedding_separator,
            scale_score=self.scale_score,
            score_threshold=self.score_threshold,
            max_length=self.max_length,
            long_documents=self.long_documents,
            load_options=self.load_options,
        )
        return saved

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Make the ranker of ``to_dict``. No model is loaded."""
        made: Self = default_from_dict(cls, data)
        return made

    def warm_up(self) -> None:
        """Load the model, if it is not loaded yet.

        Raises:
            ArtifactError, ProviderError, InputError: as ``Reranker.load``, or the model has several labels.
        """
        self._model()

    async def warm_up_async(self) -> None:
        """The same without blocking the event loop."""
        await asyncio.to_thread(self._model)

    def close(self) -> None:
        """Free the model. Closing twice does nothing more; a later ``run`` loads it again."""
        with self._loading:
            loaded, self._loaded = self._loaded, None
        if loaded is not None:
            loaded.close()

    async def close_async(self) -> None:
        """The same without blocking the event loop."""
        await asyncio.to_thread(self.close)

    @component.output_types(documents=list[Document])
    def run(
        self,
        query: str,
        documents: list[Document],
        top_k: int | None = None,
        scale_score: bool | None = None,
        score_threshold: float | None = None,
    ) -> dict[str, list[Document]]:
        """Rank ``documents``: ``{"documents": [..]}``, copies of at most ``top_k``, best first; none of none.

        Args:
            query: the query.
            documents: what a retriever found. None of them is changed; no content is an empty text.
            top_k: another maximum for this call.
            scale_score: another scale for this call.
            score_threshold: another minimum for this call.

        Raises:
            ValueError: ``top_k`` is not positive.
            ArtifactError, ProviderError, InputError: as ``warm_up`` and ``Reranker.rank``.
        """
        most = self._most(top_k)
        if not documents:
            return {"documents": []}
        distinct = _distinct(documents)
        ranking = rank(self._model(), query, self._texts(distinct), most, **self._options(scale_score))
        return {"documents": self._chosen(distinct, ranking, score_threshold)}

    @component.output_types(documents=list[Document])
    async def run_async(
        self,
        query: str,
        documents: list[Document],
        top_k: int | None = None,
        scale_score: bool | None = None,
        score_threshold: float | None = None,
    ) -> dict[str, list[Document]]:
        """The same without blocking the event loop. If the task is cancelled, nothing more is computed for it."""
        most = self._most(top_k)
        if not documents:
            return {"documents": []}
        distinct = _distinct(documents)
        model = await asyncio.to_thread(self._model)
        ranking = await arank(model, query, self._texts(distinct), most, **self._options(scale_score))
        return {"documents": self._chosen(distinct, ranking, score_threshold)}

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles, of which each loads a model of its own."""
        return {name: value for name, value in vars(self).items() if name not in ("_loading", "_loaded")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _loading=threading.Lock(), _loaded=None)

    def _model(self) -> Reranker:
        with self._loading:  # one of several threads loads it, the others wait
            if self._loaded is None:
                self._loaded = load_model(self.model, self.load_options)
            return self._loaded

    def _most(self, top_k: int | None) -> int:
        return self.top_k if top_k is None else _check_top_k(top_k)

    def _options(self, scale_score: bool | None) -> dict[str, Any]:
        is_scaled = self.scale_score if scale_score is None else scale_score
        return {
            "activation": "sigmoid" if is_scaled else "logit",
            "max_length": self.max_length,
            "long_documents": self.long_documents,
        }

    def _texts(self, documents: Sequence[Document]) -> list[str]:
        return [
            self.embedding_separator.join(
                [
                    *(str(document.meta[name]) for name in self.meta_fields_to_embed if _has(document, name)),
                    document.content or "",
                ]
            )
            for document in documents
        ]

    def _chosen(
        self, documents: Sequence[Document], ranking: Sequence[RankedDocument], score_threshold: float | None
    ) -> list[Document]:
        least = self.score_threshold if score_threshold is None else score_threshold
        return [
            replace(documents[result.index], score=result.score)
            for result in ranking
            if least is None or result.score >= least
        ]


def _check_top_k(top_k: int) -> int:
    if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
        raise ValueError(f"top_k is {top_k!r}; it must be a whole number of at least 1")
    return top_k


def _has(document: Document, name: str) -> bool:
    return document.meta.get(name) not in (None, "")


def _distinct(documents: Sequence[Document]) -> list[Document]:
    """One document for each id, the one with the highest score; of equal ones the first."""
    best: dict[str, Document] = {}
    for document in documents:
        other = best.get(document.id)
        if other is None or _earlier_score(document) > _earlier_score(other):
            best[document.id] = document
    return list(best.values())


def _earlier_score(document: Document) -> float:
    return float("-inf") if document.score is None else document.score
