"""LangChain: a document compressor that ranks, and a cross encoder for ``CrossEncoderReranker``.

documents of a retriever ──page_content──▶ Reranker.rank ──▶ copies of the best, with ``metadata["relevance_score"]``
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from modernrank import ActivationChoice, AsyncReranker, LongDocuments, RankedDocument, Reranker

from .ranking import arank, checked_model, in_threads, rank

try:
    from langchain_core.callbacks import Callbacks
    from langchain_core.cross_encoders import BaseCrossEncoder
    from langchain_core.documents import BaseDocumentCompressor, Document
    from pydantic import BeforeValidator, ConfigDict, Field
except ImportError as error:
    raise ImportError(
        f"modernrank.integrations.langchain requires langchain-core 1.2.19 or newer ({error}): "
        "pip install 'modernrank[cpu,langchain]'"
    ) from error

# Where LangChain's own compressors put the score.
SCORE = "relevance_score"


class ModernRankRerank(BaseDocumentCompressor):
    """Keeps the documents that are most relevant to a query, best first.

    The results are copies of the documents with their ids, metadata and ``metadata["relevance_score"]``; the documents
    themselves are not changed. Documents of equal text have equal scores and keep their order.

    Args:
        model: a ``Reranker``, or the ``AsyncReranker`` of a service, which asynchronous calls then share. Its owner
            closes it.
        top_n: maximum number of results; None for all.
        score_threshold: minimum score of a result, on the scale of ``activation``; None for no minimum.
        activation: the scale of the scores, as in ``Reranker.score``; ``"model"`` is that of sentence-transformers.
        max_length: a lower maximum number of tokens in a pair of query and document.
        long_documents: ``"truncate"`` or ``"chunk"``, as in ``Reranker.rank``. Documents that were cut are reported in
            a ``TruncationWarning``.

    >>> from langchain_core.documents import Document
    >>> from modernrank import Reranker
    >>> from modernrank.integrations.langchain import ModernRankRerank
    >>> documents = [Document("A baguette", id="a"), Document("Paris", id="b")]
    >>> with Reranker.load(TINY) as reranker:                                    # an artifact's folder
    ...     ranked = ModernRankRerank(model=reranker).compress_documents(documents, "capital of France?")
    >>> len(ranked), sorted(document.id for document in ranked), documents[0].metadata
    (2, ['a', 'b'], {})
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    model: Annotated[Reranker | AsyncReranker, BeforeValidator(checked_model)] = Field(exclude=True)
    top_n: int | None = Field(default=3, ge=1)
    score_threshold: float | None = None
    activation: ActivationChoice = "model"
    max_length: int | None = Field(default=None, ge=1)
    long_documents: LongDocuments = "truncate"

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """Rank ``documents``, and return copies of at most ``top_n``, best first; none of none.

        Args:
            documents: what a retriever found. None of them is changed.
            query: the query.
            callbacks: not used, because nothing below this call has callbacks.

        Raises:
            InputError: a text is not valid Unicode, or the model does not have this ``activation`` or ``max_length``.
            OverloadedError, ClosedError: as ``Reranker.rank``.
        """
        if not documents:
            return []
        texts = [document.page_content for document in documents]
        return self._chosen(documents, rank(self.model, query, texts, self.top_n, **self._options))

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """The same without blocking the event loop. If the task is cancelled, nothing more is computed for it."""
        if not documents:
            return []
        texts = [document.page_content for document in documents]
        return self._chosen(documents, await arank(self.model, query, texts, self.top_n, **self._options))

    @property
    def _options(self) -> dict[str, object]:
        return {
            "activation": self.activation,
            "max_length": self.max_length,
            "long_documents": self.long_documents,
        }

    def _chosen(self, documents: Sequence[Document], ranking: Sequence[RankedDocument]) -> list[Document]:
        return [
            documents[result.index].model_copy(
                update={"metadata": {**documents[result.index].metadata, SCORE: result.score}}
            )
            for result in ranking
            if self.score_threshold is None or result.score >= self.score_threshold
        ]


class ModernRankCrossEncoder(BaseCrossEncoder):
    """Scores pairs of texts, for ``CrossEncoderReranker`` and whatever else takes a ``BaseCrossEncoder``.

    Args:
        model: a ``Reranker`` or an ``AsyncReranker`` of one label. Its owner closes it.
        activation: the scale of the scores, as in ``Reranker.score``.
        max_length: a lower maximum number of tokens in a pair.

    >>> from modernrank import Reranker
    >>> from modernrank.integrations.langchain import ModernRankCrossEncoder
    >>> with Reranker.load(TINY) as reranker:                                    # an artifact's folder
    ...     scores = ModernRankCrossEncoder(reranker).score([("capital of France?", "Paris")])
    >>> len(scores), type(scores[0])
    (1, <class 'float'>)
    """

    def __init__(
        self,
        model: Reranker | AsyncReranker,
        *,
        activation: ActivationChoice = "model",
        max_length: int | None = None,
    ) -> None:
        self._model = checked_model(model)
        self._activation = activation
        self._max_length = max_length

    def score(self, text_pairs: list[tuple[str, str]]) -> list[float]:
        """Score each (query, document) pair: a list of as many floats, in their order.

        Raises:
            InputError: these are not pairs of valid strings, or the model does not have this ``activation`` or
                ``max_length``.
        """
        scores = in_threads(self._model).score(text_pairs, activation=self._activation, max_length=self._max_length)
        numbers: list[float] = scores.tolist()
        return numbers
