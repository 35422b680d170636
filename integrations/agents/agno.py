"""Agno: a reranker for ``Knowledge`` and for vector databases.

documents of a search ──content──▶ Reranker.rank ──▶ copies, best first, with ``reranking_score``
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

from modernrank import ActivationChoice, AsyncReranker, LongDocuments, RankedDocument
from modernrank import Reranker as Model

from ..ranking import arank, checked_model, rank

try:
    from agno.knowledge.document import Document
    from agno.knowledge.reranker.base import Reranker
    from pydantic import BeforeValidator, Field
except ModuleNotFoundError as error:
    raise ImportError(
        f"modernrank.integrations.agents.agno requires {error.name}: pip install 'modernrank[cpu,agno]'"
    ) from error


class ModernRankReranker(Reranker):
    """Reranks the documents of a knowledge base.

    Unlike Agno's own rerankers it raises an error where it cannot rank, and never returns the search's order instead.

    Args:
        model: a ``Reranker``, or the ``AsyncReranker`` of a service, which asynchronous calls then share. Its owner
            closes it.
        top_n: maximum number of results; None for all, of which Agno keeps as many as were asked for.
        activation: the scale of ``reranking_score``, as in ``Reranker.score``.
        max_length: a lower maximum number of tokens in a pair of query and document.
        long_documents: ``"truncate"`` or ``"chunk"``, as in ``Reranker.rank``. A ``TruncationWarning`` reports
            documents that were cut.

    >>> from agno.knowledge.document import Document
    >>> from modernrank import Reranker
    >>> from modernrank.integrations.agents.agno import ModernRankReranker
    >>> documents = [Document("A baguette"), Document("Paris")]
    >>> with Reranker.load(TINY) as reranker:                                    # an artifact's folder
    ...     ranked = ModernRankReranker(model=reranker).rerank("capital of France?", documents)
    >>> len(ranked), documents[0].reranking_score
    (2, None)
    """

    model: Annotated[Model | AsyncReranker, BeforeValidator(checked_model)] = Field(exclude=True)
    top_n: int | None = Field(default=None, ge=1)
    activation: ActivationChoice = "model"
    max_length: int | None = Field(default=None, ge=1)
    long_documents: LongDocuments = "truncate"

    def rerank(self, query: str, documents: Sequence[Document], limit: int | None = None) -> list[Document]:
        """Rank ``documents``, and return copies of them, best first; none of none.

        Args:
            query: the query.
            documents: what a search found. None of them is changed; a content of None is scored as an empty text.
            limit: how many of them the caller keeps; no more are returned.

        Raises:
            InputError: a text is not valid Unicode, or the model does not have this ``activation`` or ``max_length``.
            OverloadedError, ClosedError: as ``Reranker.rank``.
        """
        return _chosen(documents, rank(self.model, query, _texts(documents), self._most(limit), **self._options))

    async def arerank(self, query: str, documents: Sequence[Document], limit: int | None = None) -> list[Document]:
        """The same without blocking the event loop. If the task is cancelled, nothing more is computed for it."""
        ranking = await arank(self.model, query, _texts(documents), self._most(limit), **self._options)
        return _chosen(documents, ranking)

    @property
    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = self.model_dump(include={"activation", "max_length", "long_documents"})
        return options

    def _most(self, limit: int | None) -> int | None:
        return min((most for most in (self.top_n, limit) if most is not None), default=None)


def _texts(documents: Sequence[Document]) -> list[str]:
    return ["" if document.content is None else document.content for document in documents]


def _chosen(documents: Sequence[Document], ranking: Sequence[RankedDocument]) -> list[Document]:
    return [replace(documents[result.index], reranking_score=result.score) for result in ranking]
