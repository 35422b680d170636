"""graphiti: a cross encoder client for the searches of a knowledge graph.

Graphiti(.., cross_encoder=ModernRankClient(model)) ──▶ rank(query, passages), without blocking the event loop
"""

from __future__ import annotations

from collections.abc import Sequence

from modernrank import ActivationChoice, AsyncReranker, LongDocuments, Reranker

from ..ranking import arank, checked_model

try:
    from graphiti_core.cross_encoder.client import CrossEncoderClient
except ModuleNotFoundError as error:
    raise ImportError(
        f"modernrank.integrations.agents.graphiti requires {error.name}: pip install 'modernrank[cpu,graphiti]'"
    ) from error


class ModernRankClient(CrossEncoderClient):
    """Ranks what a search of graphiti found.

    Args:
        model: an ``AsyncReranker``, which all searches of a service share, or a ``Reranker``. Its owner closes it.
        activation: the scale of the scores, as in ``Reranker.score``. graphiti drops scores below
            ``reranker_min_score``, 0 by default, so logits would lose half of the results.
        max_length: a lower maximum number of tokens in a pair of query and passage.
        long_documents: ``"truncate"`` or ``"chunk"``, as in ``Reranker.rank``. Passages that were cut are reported in a
            ``TruncationWarning``.

    >>> import asyncio
    >>> from modernrank import AsyncReranker
    >>> from modernrank.integrations.agents.graphiti import ModernRankClient
    >>> async def main():
    ...     async with AsyncReranker(TINY) as reranker:                          # an artifact's folder
    ...         return await ModernRankClient(reranker).rank("capital of France?", ["A baguette", "Paris"])
    >>> len(asyncio.run(main()))
    2
    """

    def __init__(
        self,
        model: AsyncReranker | Reranker,
        *,
        activation: ActivationChoice = "sigmoid",
        max_length: int | None = None,
        long_documents: LongDocuments = "truncate",
    ) -> None:
        self._model = checked_model(model)
        self._options = {"activation": activation, "max_length": max_length, "long_documents": long_documents}

    async def rank(self, query: str, passages: Sequence[str | None]) -> list[tuple[str | None, float]]:
        """Rank passages: each with its score, best first.

        Args:
            query: the query.
            passages: texts; None, as an entity without a summary has it, is scored as an empty text.

        Raises:
            InputError: a passage is not a valid text, or the model does not have this ``activation``.
            OverloadedError, ClosedError: as ``AsyncReranker.rank``.
        """
        texts = ["" if passage is None else passage for passage in passages]
        ranking = await arank(self._model, query, texts, None, **self._options)
        return [(passages[result.index], result.score) for result in ranking]
