"""All that only a GPU can show, in one command: engines that load, scores that agree, and how fast it is.

    python -m modernrank.benchmarks.gpu_check WORK --like FOLDER --provider tensorrt --out result.json

For a plain checkpoint and one with outliers, made in WORK with the shapes of ``--like``'s config: export float16, build
the engine, compare the logits on the GPU with ``transformers``. Then the plain one takes turns with torch on the same
pairs. The result holds the samples, the parities, and the rate of the GPU's own matrix products.

Needs ``modernrank[verify]`` with a CUDA build of torch, and what the provider needs. ``--provider cpu --device cpu``
goes through the same steps on a processor, which shows that the command works and nothing else.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modernrank.artifact.folder import Artifact
from modernrank.benchmarks.measure.environment import describe, gpu_peak
from modernrank.benchmarks.measure.workload import Workload, fixed, mix
from modernrank.benchmarks.peers.peer_process import CPU, GPU_PEERS
from modernrank.benchmarks.reporting.result import Measurement, Result
from modernrank.benchmarks.reporting.table import markdown
from modernrank.export import export_checkpoint
from modernrank.export.verification.verify import verify_artifact

from .make_checkpoint import make_checkpoint
from .peers import turns as race

STYLES = ("plain", "outliers")
SHAPES = ((1, 128), (32, 128), (1, 512), (64, 512), (1, 8192))  # documents of a query, tokens of a pair
PASSAGES = 100
GRAPH_OF = {"cuda": "ort-cuda", "ort-tensorrt": "tensorrt-decomposed", "cpu": "ort-cpu"}  # others: tensorrt
WITH_GRAPHS = ("tensorrt", "tensorrt-rtx", "cuda")  # providers that take CUDA graphs: measured with and without

Report = Callable[[str], None]


def prepare(work: Path, like: Path, style: str, provider: Any, longest: int, report: Report) -> dict[str, Any]:
    """Checkpoint, artifact and engine of a style; returns what the comparison with transformers found."""
    checkpoint, artifact = work / f"checkpoint-{style}", work / f"artifact-{style}"
    if not checkpoint.is_dir():
        report(f"making the checkpoint {checkpoint}")
        make_checkpoint(checkpoint, like, style)
    precision = "fp32" if provider == CPU else "fp16"
    graph = GRAPH_OF.get(provider, "tensorrt")
    export_checkpoint(checkpoint, artifact, precision=precision, graph=graph, force=True, report=report)
    if provider in ("tensorrt", "tensorrt-rtx"):
        from modernrank.export.tensorrt import build_engine

        build_engine(artifact, library=provider, report=report)
    parity = verify_artifact(artifact, checkpoint, longest=longest, provider=provider, report=report)
    report(parity.table())
    return parity.as_json()


def measure(work: Path, args: argparse.Namespace, report: Report) -> list[Measurement]:
    """The plain artifact and torch, in turns, on each shape and on passages."""
    artifact = work / "artifact-plain"
    opened = Artifact.open(artifact)
    count, most = opened.encoder().count, opened.manifest.model.max_length
    shapes = [(documents, tokens) for documents, tokens in SHAPES if tokens <= min(most, args.longest)]
    workloads = [_named(fixed(tokens, documents, 1, count, 0), documents, tokens) for documents, tokens in shapes]
    workloads.append(mix(PASSAGES, 1, count, 0))
    home = race.Home(work, "", here=True)
    graphs = (True, False) if args.provider in WITH_GRAPHS else (None,)
    ours = race.own_precisions([artifact], args.threads, args.provider, graphs)
    peers = [
        race.peer_contender(peer, work / "checkpoint-plain", home, args.threads, (32, 128), report, args.device)
        for peer in (args.peer or GPU_PEERS)
    ]
    found: list[Measurement] = []
    for workload in workloads:
        tokens = sum(map(count, workload.pairs))
        found += race.race(ours + peers, workload, tokens, args.rounds, report)
    return found


def _named(workload: Workload, documents: int, tokens: int) -> Workload:
    return Workload(f"{documents} x {tokens} tokens", workload.queries)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--like", type=Path, required=True, help="folder with the target's config and tokenizer")
    parser.add_argument("--provider", default="tensorrt")
    parser.add_argument("--device", default="cuda", help="of torch (%(default)s)")
    parser.add_argument("--longest", type=int, default=8192, help="leave out longer pairs (%(default)s)")
    parser.add_argument("--rounds", type=int, default=100, help="samples of each (%(default)s)")
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--peer", action="append", help="may be repeated (all of torch's on GPUs)")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    def report(message: str) -> None:
        print(message, file=sys.stderr)

    args.work.mkdir(parents=True, exist_ok=True)
    parity = {s: prepare(args.work, args.like, s, args.provider, args.longest, report) for s in STYLES}
    environment = describe(0) | {"parity": parity}
    environment["peak"] = {} if args.device == CPU else gpu_peak(args.device)
    result = Result(environment, measure(args.work, args, report))
    result.write(args.out)
    print(markdown(result), end="")


if __name__ == "__main__":
    main()
