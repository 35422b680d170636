"""txtai: a similarity for ``Reranker(embeddings, similarity)``, and a pipeline for its applications.

rows of Embeddings.search ──text──▶ ModernRankSimilarity ──▶ (index, score), best first
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

from modernrank import ActivationChoice, AsyncReranker, LongDocuments, Reranker

from ..ranking import checked_model, rank

try:
    from txtai.pipeline import Pipeline
except ModuleNotFoundError as error:
    raise ImportError(
        f"modernrank.integrations.search.txtai requires {error.name}: pip install 'modernrank[cpu,txtai]'"
    ) from error


class ModernRankSimilarity(Pipeline):
    """Scores texts for a query, as txtai's ``Similarity`` does.

    Args:
        model: a ``Reranker`` or an ``AsyncReranker`` of one label. Its owner closes it.
        activation: the scale of the scores, as in ``Reranker.score``.
        max_length: a lower maximum number of tokens in a pair of query and text.
        long_documents: ``"truncate"`` or ``"chunk"``, as in ``Reranker.rank``. Texts that were cut are reported in a
            ``TruncationWarning``.

    >>> from modernrank import Reranker
    >>> from modernrank.integrations.search.txtai import ModernRankSimilarity
    >>> with Reranker.load(TINY) as reranker:                                    # an artifact's folder
    ...     scored = ModernRankSimilarity(reranker)("capital of France?", ["A baguette", "Paris"])
    >>> sorted(index for index, _ in scored)
    [0, 1]
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

    @overload
    def __call__(self, query: str, texts: Sequence[str | None]) -> list[tuple[int, float]]: ...

    @overload
    def __call__(self, query: list[str], texts: Sequence[str | None]) -> list[list[tuple[int, float]]]: ...

    def __call__(
        self, query: str | list[str], texts: Sequence[str | None]
    ) -> list[tuple[int, float]] | list[list[tuple[int, float]]]:
        """Score ``texts`` for a query: ``(index, score)`` of each, best first; for several queries, a list for each.

        Args:
            query: a query, or a list of them.
            texts: to be scored; None is scored as an empty text.

        Raises:
            InputError: a text is not valid, or the model does not have this ``activation`` or ``max_length``.
        """
        if not isinstance(query, str):
            return [self(one, texts) for one in query]
        known = ["" if text is None else text for text in texts]
        return [(result.index, result.score) for result in rank(self._model, query, known, None, **self._options)]
