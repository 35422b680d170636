"""Milvus: a rerank function of pymilvus-model, for the texts of search results."""

from __future__ import annotations

from collections.abc import Sequence

from modernrank import ActivationChoice, AsyncReranker, LongDocuments, Reranker

from ..ranking import checked_model, rank

try:
    from pymilvus.model.base import BaseRerankFunction, RerankResult
except ModuleNotFoundError as error:
    raise ImportError(
        f"modernrank.integrations.search.pymilvus requires {error.name}: pip install 'modernrank[cpu,pymilvus]'"
    ) from error


class ModernRankRerankFunction(BaseRerankFunction):
    """A rerank function, called as those of pymilvus-model are.

    Args:
        model: a ``Reranker`` or an ``AsyncReranker`` of one label. Its owner closes it.
        activation: the scale of the scores, as in ``Reranker.score``; ``"model"`` is the scale of pymilvus-model's own
            ``CrossEncoderRerankFunction``.
        max_length: a lower maximum number of tokens in a pair of query and document.
        long_documents: ``"truncate"`` or ``"chunk"``, as in ``Reranker.rank``. A ``TruncationWarning`` reports
            documents that were cut.

    >>> from modernrank import Reranker
    >>> from modernrank.integrations.search.pymilvus import ModernRankRerankFunction
    >>> with Reranker.load(TINY) as reranker:                                    # an artifact's folder
    ...     results = ModernRankRerankFunction(reranker)("capital of France?", ["A baguette", "Paris"], top_k=1)
    >>> len(results)
    1
    """

    def __init__(
        self,
        model: Reranker | AsyncReranker,
        *,
        activation: ActivationChoice = "model",
        max_length: int | None = None,
        long_documents: LongDocuments = "truncate",
    ) -> None:
        self._model = checked_model(model)
        self._options = {"activation": activation, "max_length": max_length, "long_documents": long_documents}

    def __call__(self, query: str, documents: Sequence[str | None], top_k: int | None = 5) -> list[RerankResult]:
        """Rank documents, best first.

        Args:
            query: the query.
            documents: texts; None, the value of a nullable field, is scored as an empty text.
            top_k: maximum number of results; None for all.

        Returns:
            Results of ``text``, ``score`` and ``index`` in ``documents``.

        Raises:
            InputError: a document is not a valid text, or ``top_k`` is below 1.
        """
        texts = ["" if document is None else document for document in documents]
        ranking = rank(self._model, query, texts, top_k, **self._options)
        return [RerankResult(documents[result.index], result.score, result.index) for result in ranking]
