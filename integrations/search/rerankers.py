"""rerankers (answerdotai): the ranker ``"ModernRankRanker"``, which importing this module adds to the library.

Reranker(folder, model_type="ModernRankRanker") ──▶ rank(query, docs) ──▶ RankedResults
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modernrank import ActivationChoice, AsyncReranker, LongDocuments
from modernrank import Reranker as Model

from ..ranking import open_model, rank

try:
    from rerankers.documents import Document
    from rerankers.models import AVAILABLE_RANKERS
    from rerankers.models.ranker import BaseRanker
    from rerankers.results import RankedResults, Result
    from rerankers.utils import prep_docs
except ModuleNotFoundError as error:
    raise ImportError(
        f"modernrank.integrations.search.rerankers requires {error.name}: pip install 'modernrank[cpu,rerankers]'"
    ) from error


class ModernRankRanker(BaseRanker):
    """A ranker of the library ``rerankers``.

    Args:
        model_name_or_path: the folder of an artifact; the folder of a checkpoint or a hub id, which is exported into
            the cache; or a loaded ``Reranker`` or ``AsyncReranker``, which its owner closes.
        verbose: accepted; nothing is printed.
        activation: the scale of the scores, as in ``Reranker.score``; logits, as the library's cross encoders return.
        max_length: a lower maximum number of tokens in a pair of query and document.
        long_documents: ``"truncate"`` or ``"chunk"``, as in ``Reranker.rank``. A ``TruncationWarning`` reports
            documents that were cut.
        load_options: further arguments of ``Reranker.load`` for a folder.

    >>> from rerankers import Reranker
    >>> import modernrank.integrations.search.rerankers
    >>> ranker = Reranker(str(TINY), model_type="ModernRankRanker", verbose=0)   # an artifact's folder
    >>> len(ranker.rank("capital of France?", ["A baguette", "Paris"]).results)
    2
    """

    def __init__(
        self,
        model_name_or_path: str | Path | Model | AsyncReranker,
        verbose: int = 1,
        *,
        activation: ActivationChoice = "logit",
        max_length: int | None = None,
        long_documents: LongDocuments = "truncate",
        **load_options: Any,
    ) -> None:
        self.verbose = verbose
        self.model = open_model(model_name_or_path, load_options)
        self._options = {"activation": activation, "max_length": max_length, "long_documents": long_documents}

    def rank(
        self,
        query: str,
        docs: str | list[str] | Document | list[Document],
        doc_ids: list[str] | list[int] | None = None,
        metadata: list[dict[str, Any]] | None = None,
    ) -> RankedResults:
        """Rank documents, best first; ranks begin with 1. No documents give no results.

        Args:
            query: the query.
            docs: texts, or documents of the library, which keep their ids and metadata.
            doc_ids: ids of the texts; by default their indices.
            metadata: of the texts.

        Raises:
            InputError: a text is not valid Unicode, or the model does not have this ``activation`` or ``max_length``.
        """
        documents = prep_docs(docs, doc_ids, metadata) if isinstance(docs, str | Document) or len(docs) else []
        ranking = rank(self.model, query, [document.text for document in documents], None, **self._options)
        results = [Result(documents[result.index], result.score, place) for place, result in enumerate(ranking, 1)]
        return RankedResults(results, query, has_scores=True)

    def score(self, query: str, doc: str) -> float:
        """The score of one document. Errors as in ``rank``."""
        return rank(self.model, query, [doc], None, **self._options)[0].score


AVAILABLE_RANKERS[ModernRankRanker.__name__] = ModernRankRanker
