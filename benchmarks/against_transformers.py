"""Pairs and tokens per second of artifacts and of ``transformers`` on the same checkpoint, in one run.

    python -m modernrank.benchmarks.against_transformers CHECKPOINT ARTIFACT.. --pairs PAIRS.jsonl --out RESULT.json

The contenders take turns, so that a noisy machine is noisy for both; tokenising is part of the time. ``transformers``
runs as sentence-transformers runs it: float32, SDPA, sorted by length, padded batches of 32. Their scores are compared
too. Raw samples go to the result. Needs ``modernrank[cpu,verify]``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from modernrank import Reranker, __version__, jsonl
from modernrank.packing import FloatArray
from modernrank.threads import available_threads

Pairs = list[tuple[str, str]]
Scorer = Callable[[Pairs], FloatArray]
PACKAGES = ("onnxruntime", "onnxruntime-gpu", "torch", "transformers", "tokenizers", "numpy")
BATCH = 32  # the default of sentence-transformers


def transformers_scorer(checkpoint: Path, threads: int) -> Scorer:
    """Float32 logits of the first label by ``transformers``, as sentence-transformers batches them."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.set_num_threads(threads)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint, dtype=torch.float32).eval()

    def score(pairs: Pairs) -> FloatArray:
        order = sorted(range(len(pairs)), key=lambda i: -len(pairs[i][0]) - len(pairs[i][1]))
        scores = np.empty(len(pairs), np.float32)
        with torch.inference_mode():
            for start in range(0, len(order), BATCH):
                chosen = order[start : start + BATCH]
                batch = tokenizer([pairs[i] for i in chosen], padding=True, truncation=True, return_tensors="pt")
                scores[chosen] = model(**batch).logits[:, 0].numpy()
        return scores

    return score


def measure(
    contenders: dict[str, Scorer], pairs: Pairs, rounds: int
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """By contender: the seconds of each round, and the largest difference of a score from transformers'."""
    warm = {name: score(pairs) for name, score in contenders.items()}
    differences = {name: float(np.abs(scores - warm["transformers"]).max()) for name, scores in warm.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds):
        for name, score in contenders.items():
            start = time.perf_counter()
            score(pairs)
            seconds[name].append(time.perf_counter() - start)
            print(f"round {turn + 1} of {rounds}: {name} {seconds[name][-1]:.2f} s", file=sys.stderr)
    return seconds, differences


def result(
    seconds: dict[str, list[float]], differences: dict[str, float], pairs: int, tokens: int, reranker: Reranker
) -> dict[str, Any]:
    """The figures, their raw samples and all that they depend on."""
    medians = {name: statistics.median(samples) for name, samples in seconds.items()}
    there = {entry.metadata["Name"]: entry.version for entry in metadata.distributions()}
    versions = {name: there[name] for name in PACKAGES if name in there}
    return {
        "command": " ".join(["python", "-m", "modernrank.benchmarks.against_transformers", *sys.argv[1:]]),
        "pairs": pairs,
        "tokens": tokens,
        "contenders": {
            name: {
                "pairs_per_second": pairs / medians[name],
                "tokens_per_second": tokens / medians[name],
                "times_transformers": medians["transformers"] / medians[name],
                "largest_score_difference": differences[name],
                "seconds": samples,
            }
            for name, samples in seconds.items()
        },
        "machine": {"processor": processor(), "threads": available_threads()},
        "runtime": dataclasses.asdict(reranker.info)["runtime"],
        "source": reranker.manifest.source.files,
        "versions": {"modernrank": __version__, **versions},
    }


def processor() -> str:
    """The processor's name, as the system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def main() -> None:
    """Measure and print; write the result where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("artifacts", type=Path, nargs="+")
    parser.add_argument("--pairs", required=True, help='JSON lines {"query": .., "document": ..}')
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with jsonl.reading(args.pairs) as lines:
        pairs = list(jsonl.PairReader(lines, args.pairs))
    if not pairs:
        parser.error(f"{args.pairs} holds no pairs")
    with ExitStack() as opened:
        rerankers = [opened.enter_context(Reranker.load(folder)) for folder in args.artifacts]
        if any(len(reranker.labels) != 1 for reranker in rerankers):
            parser.error("a model of several labels is not compared")
        contenders: dict[str, Scorer] = {f"modernrank {r.info.precision}": r.score for r in rerankers}
        contenders["transformers"] = transformers_scorer(args.checkpoint, available_threads())
        seconds, differences = measure(contenders, pairs, args.rounds)
        found = result(seconds, differences, len(pairs), rerankers[0].plan(pairs).pair_tokens, rerankers[0])
    for name, figures in found["contenders"].items():
        print(
            f"{name:>16}  {figures['pairs_per_second']:7.1f} pairs/s  {figures['tokens_per_second']:7.0f} tokens/s  "
            f"{figures['times_transformers']:5.2f} x transformers  "
            f"scores within {figures['largest_score_difference']:.1e}"
        )
    if args.out:
        args.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
