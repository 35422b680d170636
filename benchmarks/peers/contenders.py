"""Who is measured in turns: precisions of our artifacts, and peers, each in its process."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from modernrank.artifact.folder import Artifact
from modernrank.benchmarks.defaults import PEER_BATCHES, PEER_FOLDER, TORCH
from modernrank.benchmarks.op_counts import flops_per_token
from modernrank.export.precision.calibration import SHIPPED
from modernrank.export.report import Report
from modernrank.text.checks import Pair

from . import own_process, peer_process
from .environments import PeerError, ensure, find_peer, last_line

START = (sys.executable, "-m", own_process.__name__)  # the process of a contender of ours
OWN_PLAN = 0  # the batch size of a contender that plans its batches by itself


@dataclass(frozen=True)
class Contender:
    """Who is measured.

    name:      shown in tables.
    command:   gives the command that starts its process.
    batches:   the batch sizes to try.
    precision: what it computes in.
    provider:  torch's device; "" if its process reports the provider.
    artifact:  what it runs; None for a peer.
    """

    name: str
    command: Callable[[], list[str]]
    batches: tuple[int, ...]
    precision: str = ""
    provider: str = ""
    artifact: Artifact | None = None

    @property
    def ours(self) -> bool:
        """Whether it is modernrank."""
        return self.artifact is not None

    def flops_per_token(self, info: Mapping[str, Any]) -> int | None:
        """Operations for each token in the graph that ran, as the process reported it; None for a peer."""
        return flops_per_token(self.artifact, self.precision, info.get("graph", "")) if self.artifact else None


def our_contenders(artifact: Artifact, load_options: Mapping[str, Any]) -> list[Contender]:
    """A contender for each precision of an artifact.

    Args:
        artifact: what runs.
        load_options: the arguments of ``Reranker.load`` besides ``path`` and ``precision``, as JSON holds them.
    """
    precisions = dict.fromkeys(graph.precision for graph in artifact.manifest.graphs)
    return [our_contender(artifact, precision, load_options) for precision in precisions]


def our_contender(
    artifact: Artifact, precision: str, load_options: Mapping[str, Any], start: Sequence[str] = START
) -> Contender:
    """A contender for one precision of an artifact; ``load_options`` as in ``our_contenders``.

    ``start`` starts the process, which takes its arguments as JSON.
    """
    arguments = {**load_options, "path": str(artifact.folder), "precision": precision}
    command = [*start, json.dumps(arguments, default=str)]
    cuda_graphs = {None: "", True: "with-cuda-graphs ", False: "without-cuda-graphs "}[load_options.get("cuda_graphs")]
    name = f"modernrank {cuda_graphs}{precision}"
    return Contender(name, lambda: command, (OWN_PLAN,), precision, artifact=artifact)


@dataclass(frozen=True)
class PeerSetup:
    """What peers run, and where.

    checkpoint: the folder of the checkpoint.
    threads:    number of threads.
    batches:    the batch sizes to try.
    device:     torch's name of the device.
    folder:     keeps the virtual environments and what peers export.
    torch:      pip's arguments that install torch.
    this_environment: run peers with this interpreter, whose environment must have what they require: for machines
                that cannot reach a package index.
    """

    checkpoint: Path
    threads: int
    batches: tuple[int, ...] = PEER_BATCHES
    device: str = peer_process.CPU
    folder: Path = PEER_FOLDER
    torch: str = TORCH
    this_environment: bool = False

    def python(self, environment: str, report: Report) -> Path:
        """The interpreter of an environment, which is made if it does not exist.

        Raises:
            PeerError: it cannot be made.
        """
        if self.this_environment:
            return Path(sys.executable)
        return ensure(self.folder, environment, self.torch, report)

    def settings(self) -> peer_process.Settings:
        """The settings that the process of a peer receives."""
        exports = self.folder / "exports" / self.checkpoint.resolve().name
        return peer_process.Settings(self.checkpoint, exports, SHIPPED, self.threads, self.device)


def peer_contender(name: str, setup: PeerSetup, report: Report) -> Contender:
    """A peer. Its environment is made when its process starts.

    Raises:
        PeerError: there is no peer of this name.
    """
    peer = find_peer(name)

    def command() -> list[str]:
        fields = {"peer": name, **dataclasses.asdict(setup.settings())}
        python = setup.python(peer.environment, report)
        return [str(python), peer_process.__file__, json.dumps(fields, default=str)]

    return Contender(name, command, setup.batches, peer.precision, setup.device)


def peer_names(device: str) -> list[str]:
    """The peers that run on a device of torch."""
    return list(peer_process.PEERS if device == peer_process.CPU else peer_process.GPU_PEERS)


@dataclass(frozen=True)
class Answer:
    """What a process reports of one request: seconds, a score for each pair, and its peak memory in bytes."""

    seconds: float
    scores: list[float]
    peak_memory: int


class ContenderProcess:
    """The process of a contender, as a context manager.

    A failure of the process is a ``PeerError`` with the last line that it wrote. ``versions`` are those of the packages
    that it runs with, and ``info`` is what runs, as it reports it.
    """

    def __init__(self, contender: Contender) -> None:
        self.contender = contender
        self.versions: dict[str, str] = {}
        self.info: dict[str, Any] = {}
        command = contender.command()
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in __exit__
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )

    def __enter__(self) -> Self:
        try:
            ready = self._read_line()
        except PeerError:
            self.__exit__(None, None, None)
            raise
        self.versions, self.info = ready["versions"], ready["info"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def score(self, pairs: list[Pair], batch: int) -> Answer:
        """Score pairs in batches of ``batch``; the process measures the time itself.

        Raises:
            PeerError: the process failed.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"pairs": pairs, "batch": batch}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the process has ended, and reading its answer says why
        return Answer(**self._read_line())

    def _read_line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            message: dict[str, Any] = json.loads(line)
            return message
        code = self._process.wait()
        self._errors.seek(0)
        reason = last_line(self._errors.read())
        if code < 0:
            reason = f"killed by signal {-code}, as happens when memory runs out; {reason}"
        raise PeerError(reason, peer=self.contender.name, exit_code=code)
