"""Contenders take turns on the same pairs, so that a noisy machine is noisy for all of them alike."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from modernrank.arrays import FloatArray
from modernrank.artifact.folder import Artifact
from modernrank.benchmarks.measure.workload import Workload
from modernrank.benchmarks.reporting.result import Measurement
from modernrank.evaluation.agreement import measure
from modernrank.text.checks import Pair

from . import own_process as own
from . import peer_process as worker
from .environments import PeerError, ensure, environment_of, last_line

Report = Callable[[str], None]
DEFAULT_BATCH = 32  # of sentence-transformers
REFERENCES = ("transformers fp32", "sentence-transformers fp32")
PLANNED = 0  # the batch of a contender that plans by itself


@dataclass(frozen=True)
class Contender:
    """Who runs, and the command that starts it. ``batches`` are the sizes that it is tried at."""

    name: str
    start: Callable[[], list[str]]
    batches: tuple[int, ...]


def own_contender(
    artifact: Path, precision: str, threads: int, provider: str = "auto", graphs: bool | None = None
) -> Contender:
    """Ourselves, with one precision of an artifact on one provider; ``graphs`` switches CUDA graphs on or off."""
    chosen = {None: own.AS_IT_COMES, True: own.WITH_GRAPHS, False: own.WITHOUT_GRAPHS}[graphs]
    command = [sys.executable, "-m", own.__name__, str(artifact), precision, str(threads), provider, chosen]
    named = "" if graphs is None else f"{chosen} "
    return Contender(f"modernrank {named}{precision}", lambda: command, (PLANNED,))


@dataclass(frozen=True)
class Home:
    """Where peers live: their virtual environments and exports under ``root``, and the torch that is installed there.

    With ``here`` they run in the environment of this process, which must have what they need: for machines that no
    package index reaches.
    """

    root: Path
    torch: str
    here: bool = False

    def python(self, peer: str, report: Report) -> Path:
        """The interpreter of a peer; its environment is made if it is not there."""
        return Path(sys.executable) if self.here else ensure(self.root, environment_of(peer), self.torch, report)


def peer_contender(
    peer: str, checkpoint: Path, home: Home, threads: int, batches: tuple[int, ...], report: Report, device: str = "cpu"
) -> Contender:
    """A peer, started at home when the race begins."""

    def start() -> list[str]:
        cache = home.root / "exports" / checkpoint.resolve().name
        command = [home.python(peer, report), worker.__file__, peer, checkpoint, cache, threads, device]
        return [str(part) for part in command]

    environment_of(peer)  # an unknown name is told at once
    return Contender(peer, start, batches)


class Runner:
    """A contender's process. Anything that goes wrong in it is a ``PeerError`` with the last line that it wrote."""

    def __init__(self, contender: Contender) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in __exit__
        self._process = subprocess.Popen(
            contender.start(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )
        self.versions: dict[str, str] = {}

    def __enter__(self) -> Runner:
        self.versions = self._answer()["ready"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def score(self, pairs: list[Pair], batch: int) -> dict[str, Any]:
        """``{"seconds", "scores", "peak_memory"}``, measured in the process."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"pairs": pairs, "batch": batch}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended: the answer says why
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        code = self._process.wait()
        self._errors.seek(0)
        said = last_line(self._errors.read())
        raise PeerError(f"killed by signal {-code}, as for lack of memory; {said}" if code < 0 else said)


@dataclass
class _Entry:
    """One contender at one batch size, and what it has shown so far."""

    contender: str
    batch: int
    seconds: list[float] = field(default_factory=list)
    scores: FloatArray = field(default_factory=lambda: np.empty(0, np.float32))
    peak_memory: int = 0
    error: str | None = None


def race(
    contenders: list[Contender], workload: Workload, tokens: int, rounds: int, report: Report
) -> list[Measurement]:
    """All contenders on ``workload``, ``rounds`` times, in turns.

    Each is warmed up at every batch size that it is tried at; those rounds decide which size is its best. Measured
    are its best and DEFAULT_BATCH. A contender that fails stays in the result, with its error.
    """
    failed: list[Measurement] = []
    entries: list[tuple[_Entry, Runner]] = []
    versions: dict[str, dict[str, str]] = {}
    with ExitStack() as running:
        for contender in contenders:
            report(f"{contender.name}: loading")
            try:
                with ExitStack() as starting:
                    runner = starting.enter_context(Runner(contender))
                    entries += [(entry, runner) for entry in _warmed(contender, runner, workload, report)]
                    running.push(starting.pop_all())
                versions[contender.name] = runner.versions
            except PeerError as error:
                report(f"{contender.name} failed: {error}")
                failed.append(Measurement(contender.name, "query", workload.name, error=str(error)))
        for turn in range(rounds):
            for entry, runner in entries:
                _one_round(entry, runner, workload, report, f"round {turn + 1} of {rounds}")
    reference = _reference([entry for entry, _ in entries])
    measured = [_measurement(entry, workload, tokens, reference, versions) for entry, _ in entries]
    return measured + failed


def _warmed(contender: Contender, runner: Runner, workload: Workload, report: Report) -> Iterator[_Entry]:
    """The entries to measure: the default batch, where it is tried, and the one that was quickest."""
    first: dict[int, dict[str, Any]] = {}
    for batch in contender.batches:
        if batch > len(workload.pairs) and first:
            continue
        first[batch] = runner.score(workload.pairs, batch)
        report(f"{contender.name}, batch {batch}: {first[batch]['seconds']:.2f} s to warm up")
    if len(first) > 1:  # the first size paid for what all share: ask it again
        size = next(iter(first))
        first[size] = runner.score(workload.pairs, size)
    best = min(first, key=lambda size: float(first[size]["seconds"]))
    for batch in sorted({best, DEFAULT_BATCH} & first.keys()):
        yield _Entry(contender.name, batch, scores=np.array(first[batch]["scores"], np.float32))


def _one_round(entry: _Entry, runner: Runner, workload: Workload, report: Report, where: str) -> None:
    if entry.error:
        return
    try:
        answer = runner.score(workload.pairs, entry.batch)
    except PeerError as error:
        entry.error = str(error)
        return
    entry.seconds.append(answer["seconds"])
    entry.scores = np.array(answer["scores"], np.float32)
    entry.peak_memory = answer["peak_memory"]
    report(f"{where}: {entry.contender} {_batch(entry.batch)}{answer['seconds']:.2f} s")


def _reference(entries: list[_Entry]) -> _Entry | None:
    for name in REFERENCES:
        for entry in entries:
            if entry.contender == name:
                return entry
    return None


def _measurement(
    entry: _Entry, workload: Workload, tokens: int, reference: _Entry | None, versions: dict[str, dict[str, str]]
) -> Measurement:
    pairs = workload.pairs
    fidelity: dict[str, float] = {}
    if reference is not None:
        fidelity["largest_difference"] = float(np.abs(entry.scores - reference.scores).max())
        if len(pairs) > 2:
            fidelity |= measure(pairs, reference.scores, entry.scores).as_json()
    return Measurement(
        entry.contender,
        "query",
        workload.name,
        {"documents": len(pairs), **({"batch": entry.batch} if entry.batch else {})},
        pairs=len(pairs) * len(entry.seconds),
        tokens=tokens * len(entry.seconds),
        seconds=entry.seconds,
        elapsed=sum(entry.seconds),
        peak_memory=entry.peak_memory or None,
        fidelity=fidelity,
        runtime={"versions": versions.get(entry.contender, {})},
        error=entry.error,
    )


def _batch(batch: int) -> str:
    return f"(batch {batch}) " if batch else ""


def own_precisions(
    artifacts: list[Path], threads: int, provider: str = "auto", graphs: Sequence[bool | None] = (None,)
) -> list[Contender]:
    """A contender for each precision of each artifact, and for each of ``graphs``, as ``own_contender`` takes them."""
    found = []
    for artifact in artifacts:
        precisions = [graph.precision for graph in Artifact.open(artifact).manifest.graphs]
        found += [own_contender(artifact, precision, threads, provider, g) for precision in precisions for g in graphs]
    return found
