"""The one format of all results: what was measured, its raw samples, and all that it depends on.

A file is a ``Result``; ``Measurement`` is one contender in one scenario on one workload. Tables, plots and comparisons
are made from files alone, so that anything shown can be made again from what is kept.
"""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modernrank.errors import InputError

SCHEMA = 1
PERCENTILES = (50.0, 90.0, 99.0, 99.9)
# Half of the samples lie within this share of their median on a quiet machine.
NOISY_SPREAD = 0.1

Parameters = dict[str, float | int | str]


@dataclass(frozen=True)
class Measurement:
    """One contender in one scenario on one workload.

    contender:     who: ``"modernrank int8"``, ``"sentence-transformers fp32"``.
    scenario:      how calls arrive: ``query``, ``single``, ``offline``, ``server`` or ``cold``.
    workload:      what is scored: ``"mix"``, ``"128 tokens"`` or a file's name.
    parameters:    of the scenario: documents a query, batch size, arrivals a second.
    pairs, tokens: of all samples together; tokens are those of the pairs, padding left out.
    seconds:       one sample a call, in the order in which they were taken.
    elapsed:       wall time of all calls; less than the sum of ``seconds`` where calls overlap.
    padding:       share of the computed tokens that was padding; None where it is not known.
    stages:        seconds by stage, summed over threads, of all calls together.
    peak_memory:   most bytes resident while it ran.
    fidelity:      of the scores, against the reference of the same run: largest difference, RMS over the deviation ..
    details:       what a scenario found besides, such as the parts of a cold start.
    error:         why there is nothing else: the contender failed.
    """

    contender: str
    scenario: str
    workload: str
    parameters: Parameters = field(default_factory=dict)
    pairs: int = 0
    tokens: int = 0
    seconds: list[float] = field(default_factory=list)
    elapsed: float = 0.0
    padding: float | None = None
    stages: dict[str, float] = field(default_factory=dict)
    peak_memory: int | None = None
    fidelity: dict[str, float] = field(default_factory=dict)
    runtime: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    error: str | None = None

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What makes two measurements comparable."""
        return (self.contender, self.scenario, self.workload, json.dumps(self.parameters, sort_keys=True))

    @property
    def median(self) -> float:
        """Of the samples, seconds."""
        return statistics.median(self.seconds)

    @property
    def pairs_per_second(self) -> float:
        """Over the wall time where calls overlap, else at the median call, which a disturbed one does not move."""
        return self._rate(self.pairs)

    @property
    def tokens_per_second(self) -> float:
        """As ``pairs_per_second``."""
        return self._rate(self.tokens)

    def _rate(self, amount: int) -> float:
        if self.scenario == "server":
            return amount / self.elapsed
        return amount / len(self.seconds) / self.median

    @property
    def percentiles(self) -> dict[str, float]:
        """Nearest-rank percentiles of the samples, those only that their count carries.

        >>> Measurement("a", "single", "b", seconds=[1.0, 2.0, 3.0]).percentiles
        {'p50': 2.0}
        """
        return dict(percentiles(self.seconds))

    @property
    def spread(self) -> float:
        """Distance between the quartiles over the median; 0 for fewer than four samples."""
        if len(self.seconds) < 4:
            return 0.0
        low, middle, high = statistics.quantiles(self.seconds, n=4)
        return (high - low) / middle


def percentiles(seconds: Sequence[float]) -> Iterator[tuple[str, float]]:
    """``("p99", seconds)`` for each percentile beyond which at least one sample of a hundred, say, can lie."""
    ordered = sorted(seconds)
    for percentile in PERCENTILES:
        share = percentile / 100
        if ordered and len(ordered) * (1 - share) >= 1 - 1e-9:
            yield f"p{percentile:g}", ordered[math.ceil(len(ordered) * share - 1e-9) - 1]


@dataclass(frozen=True)
class Result:
    """One run of the suite. ``environment`` holds machine, versions, peaks, artifact, commit, seed and command."""

    environment: dict[str, Any]
    measurements: list[Measurement]
    schema: int = SCHEMA

    def write(self, path: Path) -> None:
        """As JSON: whole, or not at all."""
        partial = path.with_suffix(path.suffix + ".part")
        partial.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n", encoding="utf-8")
        partial.replace(path)

    @staticmethod
    def read(path: Path) -> Result:
        """The result in ``path``.

        Raises:
            InputError: it cannot be read, is no result, or one of another schema.
        """
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["schema"] != SCHEMA:
                raise InputError(f"{path} has schema {found['schema']}, this version reads {SCHEMA}; measure again")
            return Result(found["environment"], [Measurement(**entry) for entry in found["measurements"]])
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path} is not a result of `modernrank bench` ({type(error).__name__}: {error})"
            ) from error
