"""Padded graphs side by side in plain ONNX Runtime sessions: ours, and what optimum exports from the same checkpoint.

    python -m modernrank.benchmarks.padded_graphs artifacts/padded artifacts/reference --threads 2 --out FILE

The graphs take turns on the same arrays of token ids, so that noise of the machine affects them alike. Nothing is
tokenised. One sample is one run of a batch, or of MIXED_BATCHES batches of mixed lengths.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from modernrank.arrays import FloatArray, IntArray
from modernrank.artifact.folder import Artifact
from modernrank.backends.onnxruntime.telemetry import disable_telemetry
from modernrank.errors import InputError
from modernrank.export.optimum_graph import REFERENCE
from modernrank.export.report import Report, silent
from modernrank.host import available_threads
from modernrank.options import positive

from .reporting.result import Measurement, Result
from .reporting.table import markdown
from .run import describe_run

SHAPES = ((1, 128), (8, 128), (1, 512), (1, 2048))  # rows x tokens, without padding
MIXED_ROWS, MIXED_TOKENS, MIXED_BATCHES = 16, (20, 400), 3
ROUNDS = 15
SEED = 20240

Inputs = dict[str, IntArray]


@dataclass(frozen=True)
class Batches:
    """What is run for one sample.

    name:   of the workload.
    inputs: of each run.
    width:  tokens of every row, if all are of one length.
    """

    name: str
    inputs: Sequence[Inputs]
    width: int | None = None

    @property
    def rows(self) -> int:
        """Number of texts."""
        return sum(len(inputs["input_ids"]) for inputs in self.inputs)

    @property
    def tokens(self) -> int:
        """Number of tokens, without padding."""
        return sum(int(inputs["attention_mask"].sum()) for inputs in self.inputs)

    @property
    def padding(self) -> float:
        """The share of padding in the inputs."""
        return 1 - self.tokens / sum(inputs["input_ids"].size for inputs in self.inputs)


@dataclass
class Contender:
    """A graph that takes turns, and the samples and logits of the present workload."""

    artifact: Artifact
    session: Any
    seconds: list[float] = field(default_factory=list)
    logits: FloatArray = field(default_factory=lambda: np.zeros((0, 1), np.float32))

    @property
    def name(self) -> str:
        """As the result shows it."""
        return "optimum fp32" if self.dialect == REFERENCE else f"modernrank fp32 {self.dialect}"

    @property
    def dialect(self) -> str:
        """The dialect of its graph."""
        return self.artifact.manifest.graphs[0].dialect

    def run(self, batches: Batches) -> float:
        """Seconds of one sample."""
        started = time.perf_counter()
        logits = [self.session.run(["logits"], inputs)[0] for inputs in batches.inputs]
        seconds = time.perf_counter() - started
        self.logits = np.concatenate(logits)
        return seconds


def compare_padded(
    artifacts: Sequence[str | Path],
    *,
    threads: int | None = None,
    shapes: Sequence[tuple[int, int]] = SHAPES,
    rounds: int = ROUNDS,
    report: Report = silent,
) -> Result:
    """Measure padded graphs in turns, on batches of each shape and on mixed lengths.

    Args:
        artifacts: folders of artifacts with a padded graph. The first is what the others' logits are compared with.
        threads: of each session; by default all that this process may use.
        shapes: rows and tokens of the batches without padding.
        rounds: number of samples of each graph, after one that is not counted.
        report: called with a line for each workload.

    Raises:
        ArtifactError: a folder holds no artifact.
        InputError: an artifact's graph is not padded, or two are of the same kind.
    """
    positive("rounds", rounds)
    threads = threads or available_threads()
    contenders = [_open(Artifact.open(folder), threads) for folder in artifacts]
    names = [contender.name for contender in contenders]
    if len({*names}) < len(names):
        raise InputError(f"two artifacts are of the same kind: {', '.join(names)}", argument="artifacts", value=names)
    model = contenders[0].artifact.manifest.model
    measurements: list[Measurement] = []
    for batches in make_batches(shapes, min(c.artifact.manifest.model.vocabulary for c in contenders)):
        _take_turns(contenders, batches, rounds)
        measurements += [_measurement(contender, contenders[0], batches, threads) for contender in contenders]
        report(f"{batches.name}: " + ", ".join(f"{m.contender} {m.median:.3f} s" for m in measurements[-len(names) :]))
    environment = describe_run([contender.artifact for contender in contenders], SEED)
    return Result({**environment, "threads": threads, "layers": model.layers}, measurements)


def make_batches(shapes: Sequence[tuple[int, int]], vocabulary: int) -> list[Batches]:
    """Random tokens: a batch of each shape, and MIXED_BATCHES with texts of MIXED_TOKENS, padded to the longest."""
    rng = np.random.default_rng(SEED)

    def batch(lengths: IntArray) -> Inputs:
        mask = (np.arange(lengths.max())[None] < lengths[:, None]).astype(np.int64)
        return {"input_ids": rng.integers(vocabulary // 10, vocabulary // 2, mask.shape), "attention_mask": mask}

    batches = [Batches(f"{rows} x {tokens} tokens", [batch(np.full(rows, tokens))], tokens) for rows, tokens in shapes]
    low, high = MIXED_TOKENS
    mixed = [batch(rng.integers(low, high, MIXED_ROWS, endpoint=True)) for _ in range(MIXED_BATCHES)]
    return [*batches, Batches(f"{MIXED_ROWS} x {low} to {high} tokens", mixed)]


def _open(artifact: Artifact, threads: int) -> Contender:
    """The only graph of an artifact in a session of its own."""
    disable_telemetry()
    import onnxruntime

    graphs = [graph for graph in artifact.manifest.graphs if graph.layout == "padded"]
    if not graphs:
        raise InputError(
            f"{artifact.folder} has no padded graph; export one with --graph padded or --graph {REFERENCE}",
            argument="artifacts",
            value=str(artifact.folder),
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # The threads of a session that has run must not take the processor from the next one's.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    path = artifact.folder / graphs[0].file
    return Contender(artifact, onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]))


def _take_turns(contenders: Sequence[Contender], batches: Batches, rounds: int) -> None:
    """Sample the graphs in turns; in every other round from the last to the first."""
    for contender in contenders:
        contender.run(batches)
        contender.seconds = []
    for turn in range(rounds):
        for contender in contenders[:: -1 if turn % 2 else 1]:
            contender.seconds.append(contender.run(batches))


def _measurement(contender: Contender, first: Contender, batches: Batches, threads: int) -> Measurement:
    samples = len(contender.seconds)
    return Measurement(
        contender.name,
        "run",
        batches.name,
        parameters={"threads": threads},
        ours=contender.dialect != REFERENCE,
        precision="fp32",
        provider="cpu",
        tokens_per_pair=batches.width,
        pairs=batches.rows * samples,
        tokens=batches.tokens * samples,
        seconds=contender.seconds,
        elapsed=sum(contender.seconds),
        padding=batches.padding if contender.dialect == REFERENCE else 0.0,
        fidelity={"largest_difference": float(np.abs(contender.logits - first.logits).max())},
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifacts", type=Path, nargs="+", help="folders of artifacts with a padded graph")
    parser.add_argument("--threads", type=int, help="of each session (default: all)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"samples of each graph (default: {ROUNDS})")
    parser.add_argument("--out", type=Path, required=True, help="write the result as JSON")
    args = parser.parse_args(arguments)
    result = compare_padded(
        args.artifacts, threads=args.threads, rounds=args.rounds, report=lambda line: print(line, flush=True)
    )
    print(markdown(result, "optimum fp32"), end="")
    result.write(args.out)


if __name__ == "__main__":
    main()
