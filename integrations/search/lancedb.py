"""LanceDB: a reranker for vector, full-text, hybrid and multivector searches.

rows of a search ──column──▶ Reranker.rank ──▶ the same rows, best first, with ``_relevance_score``
"""

from __future__ import annotations

from typing import Literal

from modernrank import ActivationChoice, AsyncReranker, InputError, LongDocuments
from modernrank import Reranker as Model

from ..ranking import checked_model, rank

try:
    import pyarrow as pa
    from lancedb.rerankers import Reranker
except ModuleNotFoundError as error:
    raise ImportError(
        f"modernrank.integrations.search.lancedb requires {error.name}: pip install 'modernrank[cpu,lancedb]'"
    ) from error

SCORE = "_relevance_score"
ROW = "_rowid"
# The columns of LanceDB's own scores, which ``return_score="all"`` keeps.
OWN_SCORES = ("_distance", "_score")


class ModernRankReranker(Reranker):
    """Reranks the rows of a LanceDB search, for ``.rerank(..)``.

    Args:
        model: a ``Reranker`` or an ``AsyncReranker`` of one label. Its owner closes it.
        column: name of the column of texts. A null is scored as an empty text.
        return_score: ``"relevance"`` drops ``_distance`` and ``_score``, ``"all"`` keeps them.
        activation: the scale of ``_relevance_score``, as in ``Reranker.score``; ``"model"`` is the scale of LanceDB's
            own ``CrossEncoderReranker``.
        max_length: a lower maximum number of tokens in a pair of query and text.
        long_documents: ``"truncate"`` or ``"chunk"``, as in ``Reranker.rank``. Texts that were cut are reported in a
            ``TruncationWarning``.

    >>> import pyarrow as pa
    >>> from modernrank import Reranker
    >>> from modernrank.integrations.search.lancedb import ModernRankReranker
    >>> rows = pa.table({"text": ["A baguette", "Paris"], "_distance": pa.array([0.1, 0.2], pa.float32())})
    >>> with Reranker.load(TINY) as reranker:                                    # an artifact's folder
    ...     ModernRankReranker(reranker).rerank_vector("capital of France?", rows).column_names
    ['text', '_relevance_score']
    """

    def __init__(
        self,
        model: Model | AsyncReranker,
        column: str = "text",
        return_score: Literal["relevance", "all"] = "relevance",
        *,
        activation: ActivationChoice = "model",
        max_length: int | None = None,
        long_documents: LongDocuments = "truncate",
    ) -> None:
        super().__init__(return_score)
        self.column = column
        self._model = checked_model(model)
        self._options = {"activation": activation, "max_length": max_length, "long_documents": long_documents}

    def rerank_vector(self, query: str, vector_results: pa.Table) -> pa.Table:
        """Rank the rows of a vector search; it needs the text of the query: ``.rerank(.., query_string=TEXT)``.

        Raises:
            InputError: there is no text of the query, no such column, or it holds other than texts.
        """
        return self._ranked(query, vector_results)

    def rerank_fts(self, query: str, fts_results: pa.Table) -> pa.Table:
        """Rank the rows of a full-text search. Errors as in ``rerank_vector``."""
        return self._ranked(query, fts_results)

    def rerank_hybrid(self, query: str, vector_results: pa.Table, fts_results: pa.Table) -> pa.Table:
        """Rank the rows of both searches, each once. Errors as in ``rerank_vector``."""
        rows = self.merge_results(vector_results, fts_results)
        if self.score == "all":  # the merge keeps the first search's copy of a row, which lacks the other's score
            rows = _with_scores(rows, vector_results, fts_results)
        return self._ranked(query, rows)

    def _ranked(self, query: str, rows: pa.Table) -> pa.Table:
        if not isinstance(query, str):
            raise InputError(
                f"the query is {type(query).__name__}, and a reranker reads texts; pass the text of the query to "
                "rerank(reranker, query_string=TEXT)",
                argument="query_string",
            )
        if self.column not in rows.column_names:
            raise InputError(
                f"the results have no column {self.column!r}, only {', '.join(rows.column_names)}; select it, or pass "
                "column=NAME",
                argument="column",
                value=self.column,
            )
        texts = ["" if text is None else text for text in rows[self.column].to_pylist()]
        ranking = rank(self._model, query, texts, None, **self._options)
        ranked = rows.take(pa.array([result.index for result in ranking], pa.int64()))
        if SCORE in ranked.column_names:  # of a reranker before this one
            ranked = ranked.drop_columns([SCORE])
        scores = pa.array([result.score for result in ranking], pa.float32())
        return self._keep_relevance_score(ranked.append_column(SCORE, scores))


def _with_scores(rows: pa.Table, *searches: pa.Table) -> pa.Table:
    """The rows with the scores that each search gave them, null where it did not find them."""
    found = rows[ROW].to_pylist()
    for name in OWN_SCORES:
        score_of: dict[int, float] = {}
        for search in searches:
            if name in search.column_names:
                score_of.update(zip(search[ROW].to_pylist(), search[name].to_pylist(), strict=True))
        scores = pa.array([score_of.get(row) for row in found], pa.float32())
        if name in rows.column_names:
            rows = rows.set_column(rows.column_names.index(name), name, scores)
        else:
            rows = rows.append_column(name, scores)
    return rows
