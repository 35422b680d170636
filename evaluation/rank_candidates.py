"""A reranker ranks the candidates of each query."""

from __future__ import annotations

from collections.abc import Callable

from modernrank.options import LongDocuments
from modernrank.reranker import Reranker

from .formats import EvaluationSet
from .trec_run import Ranking, RunFile


def rerank(
    data: EvaluationSet,
    reranker: Reranker,
    run_file: RunFile | None = None,
    long_documents: LongDocuments = "truncate",
    advance: Callable[[int], object] | None = None,
) -> dict[str, Ranking]:
    """Rank the candidates of each judged query by score, ties in the order of the first stage.

    Args:
        data: queries, documents and candidates.
        reranker: a model of one label.
        run_file: where each ranking is written; rankings that it already holds are not computed again.
        long_documents: as in ``Reranker.rank``.
        advance: called after each query with the number of its candidates.

    Returns:
        Rankings by query.

    Raises:
        InputError: the model has several labels, or the run file belongs to another evaluation.
    """
    known = run_file.resume(data) if run_file else {}
    rankings: dict[str, Ranking] = {}
    for query, names in data.judged_candidates.items():
        rankings[query] = known[query] if query in known else _rank(data, query, names, reranker, long_documents)
        if run_file and query not in known:
            run_file.add(query, rankings[query])
        if advance:
            advance(len(names))
    return rankings


def _rank(
    data: EvaluationSet, query: str, names: list[str], reranker: Reranker, long_documents: LongDocuments
) -> Ranking:
    texts = [data.documents[name] for name in names]
    documents = reranker.rank(data.queries[query], texts, long_documents=long_documents)
    return [(names[document.index], document.score) for document in documents]
