"""One step for one checkpoint, in a process of its own: ``python -m .. STEP WORK PRECISION`` prints a line of JSON.

export    WORK/checkpoint to WORK/artifact
score     load the artifact, and score a list several times
compare   its scores beside those of sentence-transformers; nothing where it is not installed
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from modernrank import Reranker
from modernrank.benchmarks.peers.peer_process import peak_memory

PAIRS, TOKENS = 20, 128
ROUNDS = 5
COMPARED = 6  # pairs that sentence-transformers scores too


def pairs_of(reranker: Reranker, count: int, tokens: int) -> list[tuple[str, str]]:
    """Pairs of exactly so many tokens, of words of the tokenizer."""
    rng = np.random.default_rng(0)
    words = ["search", "engine", "music", "file", "network", "of", "the", "and", "a", "to"]
    text = " ".join(rng.choice(words, 4 * tokens))
    pairs = []
    for number in range(count):
        cut = next(n for n in range(len(text), 0, -1) if reranker.count_tokens([(f"{number}", text[:n])])[0] <= tokens)
        pairs.append((f"{number}", text[:cut]))
    return pairs


def export(work: Path, precision: str) -> dict[str, Any]:
    """Export the checkpoint."""
    from modernrank.export import export_checkpoint

    started = time.perf_counter()
    manifest = export_checkpoint(work / "checkpoint", work / "artifact", precision=precision)
    seconds = time.perf_counter() - started
    size = sum(record.size for record in manifest.files.values())
    return {"seconds": seconds, "artifact_bytes": size}


def score(work: Path, precision: str) -> dict[str, Any]:
    """Load the artifact and score."""
    started = time.perf_counter()
    with Reranker.load(work / "artifact", precision=precision) as reranker:  # type: ignore[arg-type]
        loaded = time.perf_counter() - started
        pairs = pairs_of(reranker, PAIRS, TOKENS)
        reranker.score(pairs[:4])
        samples = []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            reranker.score(pairs)
            samples.append(time.perf_counter() - started)
    return {"load_seconds": loaded, "pairs": PAIRS, "tokens_per_pair": TOKENS, "seconds": samples}


def compare(work: Path, precision: str) -> dict[str, Any]:
    """The largest difference from sentence-transformers."""
    if importlib.util.find_spec("sentence_transformers") is None:
        return {"against": None}
    import sentence_transformers
    import torch

    with Reranker.load(work / "artifact", precision=precision) as reranker:  # type: ignore[arg-type]
        pairs = [(f"query {i}", "document " * 30 * i) for i in range(COMPARED)]
        ours = reranker.score(pairs)
    model = sentence_transformers.CrossEncoder(str(work / "checkpoint"), local_files_only=True)
    theirs = model.predict(pairs, activation_fn=torch.nn.Identity(), batch_size=1)
    return {
        "against": f"sentence-transformers {sentence_transformers.__version__}",
        "largest_difference": float(np.abs(ours - theirs).max()),
        "deviation": float(theirs.std()),
    }


if __name__ == "__main__":
    step, folder, chosen = sys.argv[1:]
    report = {"export": export, "score": score, "compare": compare}[step](Path(folder), chosen)
    print(json.dumps({**report, "peak_bytes": peak_memory()}))
