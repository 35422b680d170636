"""modernrank in the harness of its peers: a process of its own, with the same requests and answers.

python -m modernrank.benchmarks.peers.own_process '{"path": ARTIFACT, "precision": "int8", "threads": 2}'

The argument holds the arguments of ``Reranker.load``.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

from modernrank import Reranker

from .peer_process import Pairs, Scorer, serve


def load(arguments: dict[str, Any]) -> tuple[Scorer, dict[str, Any]]:
    """A scorer and its ``BackendInfo``. The scorer ignores the batch size of requests, because modernrank plans."""
    reranker = Reranker.load(**arguments)

    def score(pairs: Pairs, batch: int) -> list[float]:
        return [float(value) for value in reranker.score(pairs)]

    return score, dataclasses.asdict(reranker.info)


if __name__ == "__main__":
    serve(lambda: load(json.loads(sys.argv[1])))
