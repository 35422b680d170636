"""Both stages: bm25 finds candidates by their words, the reranker reads each of them with the query."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from modernrank import Reranker
from modernrank.evaluation.formats import EvaluationSet

from .text_index import Hit, TextIndex

CANDIDATES = 50


@dataclass(frozen=True)
class Result:
    """A candidate of the first stage: its rank there, from 1, and the logit of the second."""

    hit: Hit
    rank_before: int
    logit: float


@dataclass(frozen=True)
class Found:
    """What both stages found. ``results`` are in the order of the second, ``seconds`` what each stage took."""

    results: list[Result]
    seconds: tuple[float, float]


class TwoStages:
    """Search in two stages.

    Args:
        index: the first stage.
        reranker: the second, of one label.
        candidates: the number of documents that the first stage hands to the second.
    """

    def __init__(self, index: TextIndex, reranker: Reranker, candidates: int = CANDIDATES) -> None:
        self.index = index
        self.reranker = reranker
        self.candidates = candidates

    def find(self, query: str) -> Found:
        """Search, and rank what was found."""
        start = time.perf_counter()
        hits = self.index.find(query, self.candidates)
        middle = time.perf_counter()
        ranking = self.reranker.rank(query, [hit.text for hit in hits])
        end = time.perf_counter()
        results = [Result(hits[place.index], place.index + 1, place.score) for place in ranking]
        return Found(results, (middle - start, end - middle))


def rankings(
    stages: TwoStages, data: EvaluationSet, progress: Callable[[int], object] = lambda done: None
) -> dict[str, dict[str, list[str]]]:
    """The names of each query's documents, best first, by the first stage (``"bm25"``) and by both (``"reranked"``).

    Args:
        stages: the search.
        data: queries and judgements; its own candidates are not used.
        progress: called with the number of queries done.
    """
    orders: dict[str, dict[str, list[str]]] = {"bm25": {}, "reranked": {}}
    for done, name in enumerate(data.judged, start=1):
        results = stages.find(data.queries[name]).results
        orders["reranked"][name] = [result.hit.name for result in results]
        results.sort(key=lambda result: result.rank_before)
        orders["bm25"][name] = [result.hit.name for result in results]
        progress(done)
    return orders
