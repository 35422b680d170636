"""Check in one command everything that requires a GPU: that engines load and scores agree, and how fast they run.

    python -m modernrank.benchmarks.gpu_check WORK --like FOLDER --provider tensorrt --out result.json

It makes two checkpoints in WORK with the shapes of ``--like``'s config, a plain one and one with outliers. For each it
exports float16, builds the engine and compares the logits on the GPU with ``transformers``. Then the plain one takes
turns with torch on the same pairs. The result holds the samples, the comparisons with ``transformers``, and the rate of
the GPU's own matrix products.

Requires ``modernrank[verify]`` with a CUDA build of torch, and what the provider requires. ``--provider cpu --device
cpu`` takes the same steps on a processor, which shows only that the command works.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modernrank.artifact.folder import Artifact
from modernrank.backends.registry import PROVIDERS
from modernrank.benchmarks.measure.environment import describe
from modernrank.benchmarks.measure.workload import CountTokens, Workload, fixed, mix
from modernrank.benchmarks.reporting.result import Measurement, Result
from modernrank.benchmarks.reporting.table import markdown
from modernrank.export import export_checkpoint
from modernrank.export.report import Report
from modernrank.export.verification.verify import verify_artifact
from modernrank.options import PrecisionName, ProviderName, check_choice, names_of, positive

from .make_checkpoint import STYLES, Style, make_checkpoint
from .measure.machine_peak import gpu_peak
from .peers.contenders import Contender, PeerSetup, our_contenders, peer_contender, peer_names
from .peers.peer_process import CPU
from .peers.turns import take_turns

SHAPES = ((1, 128), (32, 128), (1, 512), (64, 512), (1, 8192))  # documents of a query, tokens of a pair
PASSAGES = 100
PEER_BATCHES = (32, 128)


@dataclass(frozen=True)
class GpuCheck:
    """What is checked.

    work:       the folder for checkpoints and artifacts.
    like:       a folder with the target's config and tokenizer.
    provider:   what runs the artifacts.
    device:     torch's name of the device on which peers run.
    max_tokens: longer pairs are left out.
    rounds:     number of samples of each contender.
    threads:    number of threads.
    peers:      names of the peers; empty for all that run on the device.

    Raises:
        InputError: the provider is unknown, or a number is not a whole number of at least 1.
    """

    work: Path
    like: Path
    provider: ProviderName = "tensorrt"
    device: str = "cuda"
    max_tokens: int = 8192
    rounds: int = 100
    threads: int = 4
    peers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_choice("provider", self.provider, ProviderName)
        for name in ("max_tokens", "rounds", "threads"):
            positive(name, getattr(self, name))

    def checkpoint(self, style: Style) -> Path:
        """The folder of the checkpoint in a style."""
        return self.work / f"checkpoint-{style}"

    def artifact(self, style: Style) -> Path:
        """The folder of the artifact in a style."""
        return self.work / f"artifact-{style}"


def run_gpu_check(check: GpuCheck, report: Report) -> Result:
    """Prepare a checkpoint and an artifact in each style, compare them with transformers, and measure the plain one.

    ``environment["parity"]`` of the result holds the comparison for each style.

    Raises:
        ModernRankError: a step failed. Peers that fail stay in the result.
    """
    check.work.mkdir(parents=True, exist_ok=True)
    parity = {style: prepare(check, style, report) for style in STYLES}
    environment = describe(seed=0) | {"parity": parity}
    environment["peak"] = {} if check.device == CPU else gpu_peak(check.device)
    return Result(environment, measure(check, report))


def prepare(check: GpuCheck, style: Style, report: Report) -> dict[str, Any]:
    """Make the checkpoint, the artifact and the engine of a style; returns the comparison with transformers."""
    checkpoint, artifact = check.checkpoint(style), check.artifact(style)
    provider = PROVIDERS[check.provider]
    if not checkpoint.is_dir():
        report(f"making the checkpoint {checkpoint}")
        make_checkpoint(checkpoint, check.like, style)
    precision: PrecisionName = "fp16" if provider.needs_gpu else "fp32"
    dialect = provider.dialects[0]
    export_checkpoint(checkpoint, artifact, precision=precision, graph=dialect, force=True, report=report)
    if provider.runs_engines:
        from modernrank.export.tensorrt import build_engine

        build_engine(artifact, library=check.provider, report=report)
    parity = verify_artifact(artifact, checkpoint, longest=check.max_tokens, provider=check.provider, report=report)
    report(parity.table())
    return parity.as_json()


def measure(check: GpuCheck, report: Report) -> list[Measurement]:
    """Let the plain artifact and torch take turns, on each of SHAPES and on passages."""
    artifact = Artifact.open(check.artifact("plain"))
    count_tokens = artifact.encoder().count
    setup = PeerSetup(
        check.checkpoint("plain"), check.threads, PEER_BATCHES, check.device, check.work, this_environment=True
    )
    contenders = _ours(check, artifact)
    contenders += [peer_contender(name, setup, report) for name in check.peers or peer_names(check.device)]
    measurements: list[Measurement] = []
    for workload in _workloads(min(check.max_tokens, artifact.manifest.max_length), count_tokens):
        measurements += take_turns(contenders, workload, count_tokens, check.rounds, report)
    return measurements


def _ours(check: GpuCheck, artifact: Artifact) -> list[Contender]:
    """The artifact with CUDA graphs and without them, if the provider takes the option."""
    load_options = {"provider": check.provider, "threads": check.threads}
    if "cuda_graphs" not in PROVIDERS[check.provider].options:
        return our_contenders(artifact, load_options)
    return [
        contender
        for cuda_graphs in (True, False)
        for contender in our_contenders(artifact, {**load_options, "cuda_graphs": cuda_graphs})
    ]


def _workloads(max_tokens: int, count_tokens: CountTokens) -> list[Workload]:
    workloads = []
    for documents, tokens in SHAPES:
        if tokens <= max_tokens:
            workload = fixed(tokens, documents, 1, count_tokens, seed=0)
            workloads.append(dataclasses.replace(workload, name=f"{documents} x {tokens} tokens"))
    return [*workloads, mix(PASSAGES, 1, count_tokens, seed=0)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder for checkpoints and artifacts")
    parser.add_argument("--like", type=Path, required=True, help="folder with the target's config and tokenizer")
    parser.add_argument("--provider", default="tensorrt", choices=names_of(ProviderName), help="(%(default)s)")
    parser.add_argument("--device", default="cuda", help="torch's name of the device (default: %(default)s)")
    parser.add_argument(
        "--longest", type=int, default=8192, help="maximum number of tokens in a pair (default: %(default)s)"
    )
    parser.add_argument(
        "--rounds", type=int, default=100, help="number of samples of each contender (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=4, help="number of threads (default: %(default)s)")
    parser.add_argument("--peer", action="append", help="repeat it for several (default: all that run on the device)")
    parser.add_argument("--out", type=Path, required=True, help="write the result as JSON, with its raw samples")
    args = parser.parse_args(arguments)
    check = GpuCheck(
        work=args.work,
        like=args.like,
        provider=args.provider,
        device=args.device,
        max_tokens=args.longest,
        rounds=args.rounds,
        threads=args.threads,
        peers=tuple(args.peer or ()),
    )
    result = run_gpu_check(check, lambda message: print(message, file=sys.stderr))
    result.write(args.out)
    print(markdown(result), end="")


if __name__ == "__main__":
    main()
