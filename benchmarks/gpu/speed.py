"""Lists of pairs as a search service scores them, tokenising included, in turns with torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modernrank.artifact.folder import Artifact
from modernrank.backends.registry import PROVIDERS
from modernrank.benchmarks.measure.workload import CountTokens, Workload, fixed, mix
from modernrank.benchmarks.peers.contenders import (
    Contender,
    PeerSetup,
    our_contenders,
    peer_contender,
    peer_names,
)
from modernrank.benchmarks.peers.turns import Turns
from modernrank.benchmarks.reporting.result import Measurement
from modernrank.export.report import Report

# Documents of a query, and tokens of a pair.
SHAPES = ((32, 100), (1, 128), (1, 512), (64, 512), (1, 8192), (1024, 512))
PASSAGES = 100
PEER_BATCHES = (32, 128)


@dataclass(frozen=True)
class Race:
    """What is scored, and by whom.

    artifact, precision, provider: ours.
    checkpoint: the peers'.
    device:     torch's name of the peers' device.
    work:       folder for what peers keep.
    max_tokens: longer pairs are left out.
    rounds:     maximum number of samples of each contender.
    seconds:    maximum time for a workload.
    threads:    number of threads.
    peers:      names of the peers; empty for all that run on the device.
    """

    artifact: Artifact
    precision: str
    provider: str
    checkpoint: Path
    device: str
    work: Path
    max_tokens: int
    rounds: int
    seconds: float
    threads: int
    peers: tuple[str, ...]

    def run(self, report: Report) -> Iterator[list[Measurement]]:
        """The measurements of one workload after the other; each contender is loaded once."""
        count_tokens = self.artifact.encoder().count
        setup = PeerSetup(self.checkpoint, self.threads, PEER_BATCHES, self.device, self.work, this_environment=True)
        contenders = self.ours()
        contenders += [peer_contender(name, setup, report) for name in self.peers or peer_names(self.device)]
        with Turns(contenders, count_tokens, report) as turns:
            for workload in workloads(self.max_tokens, count_tokens):
                yield turns.measure(workload, self.rounds, self.seconds)

    def ours(self) -> list[Contender]:
        """The artifact with CUDA graphs and without them, if the provider takes the option."""
        common: dict[str, Any] = {"provider": self.provider, "threads": self.threads}
        options = [common]
        if "cuda_graphs" in PROVIDERS[self.provider].options:
            options = [{**common, "cuda_graphs": cuda_graphs} for cuda_graphs in (True, False)]
        contenders = [contender for entry in options for contender in our_contenders(self.artifact, entry)]
        return [contender for contender in contenders if contender.precision == self.precision]


def workloads(max_tokens: int, count_tokens: CountTokens) -> Iterator[Workload]:
    """A query with passages, and SHAPES."""
    yield mix(PASSAGES, 1, count_tokens, seed=0)
    for documents, tokens in SHAPES:
        if tokens <= max_tokens:
            workload = fixed(tokens, documents, 1, count_tokens, seed=0)
            yield dataclasses.replace(workload, name=f"{documents} x {tokens} tokens")
