"""modernrank under the same harness as its peers: a process of its own, the same requests and answers.

python -m modernrank.benchmarks.peers.own_process ARTIFACT PRECISION THREADS PROVIDER GRAPHS
"""

from __future__ import annotations

import sys
from typing import Any

from modernrank import Reranker

from .peer_process import Pairs, Scorer, serve

AS_IT_COMES, WITH_GRAPHS, WITHOUT_GRAPHS = "as-it-comes", "with-cuda-graphs", "without-cuda-graphs"


def load(artifact: str, precision: Any, threads: int, provider: Any, graphs: str) -> Scorer:
    """``Reranker.score``; the batch size of a request is the planner's business, and left out."""
    wanted = {AS_IT_COMES: None, WITH_GRAPHS: True, WITHOUT_GRAPHS: False}[graphs]
    reranker = Reranker.load(artifact, provider=provider, precision=precision, threads=threads, cuda_graphs=wanted)

    def score(pairs: Pairs, batch: int) -> list[float]:
        return [float(value) for value in reranker.score(pairs)]

    return score


if __name__ == "__main__":
    name, kind, count, where, chosen = sys.argv[1:]
    serve(lambda: load(name, kind, int(count), where, chosen))
