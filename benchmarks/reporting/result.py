"""The one format of all results: what was measured, its raw samples, and everything that affects them.

A file is a ``Result``; a ``Measurement`` is one contender in one scenario on one workload. Tables, plots and
comparisons are made from files alone, so that they can be made again at any time.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modernrank.errors import InputError

SCHEMA = 2
PERCENTILES = (50.0, 90.0, 99.0, 99.9)
# On a quiet machine the distance between the quartiles is at most this share of the median.
NOISY_SPREAD = 0.1

# Scenarios in which calls overlap, so that latencies vary because calls wait for each other.
OVERLAPPING = ("server", "mixed", "callers", "serve")

Parameters = dict[str, float | int | str]


@dataclass(frozen=True)
class Measurement:
    """One contender in one scenario on one workload.

    contender:     its name, which is shown: ``"modernrank int8"``, ``"sentence-transformers fp32"``.
    scenario:      how calls arrive, a ``ScenarioName``.
    workload:      name of the pairs that are scored: ``"mix"``, ``"128 tokens"`` or a file's name.
    parameters:    of the scenario: documents per query, batch size, arrivals per second.
    ours:          whether the contender is modernrank.
    precision:     what the contender computes in: ``"int8"``; "" if it is unknown.
    provider:      modernrank's provider (``"cpu"``, ``"tensorrt"``), or a peer's torch device; "" if it is unknown.
    tokens_per_pair: number of tokens in every pair; None if pairs differ in length.
    flops_per_token: number of operations that a token costs in the linear layers of the graph that ran; None if it is
                   unknown. An addition counts as one, and so does a multiplication.
    pairs, tokens: sums over all samples, without padding.
    seconds:       a sample for each call, in the order in which the calls were made.
    elapsed:       wall time of all calls, seconds. It is less than the sum of ``seconds`` if calls overlap.
    padding:       share of the computed tokens that was padding; None if it is unknown.
    stages:        seconds in each stage, summed over threads and calls.
    peak_memory:   maximum number of resident bytes during the calls; None if it is unknown.
    fidelity:      how the scores differ from those of the reference: largest difference, relative RMS error, ...
    runtime:       what ran, as the contender reports it.
    details:       further figures of a scenario, such as the parts of a cold start.
    error:         why the contender failed; the figures are then missing.
    """

    contender: str
    scenario: str
    workload: str
    parameters: Parameters = field(default_factory=dict)
    ours: bool = False
    precision: str = ""
    provider: str = ""
    tokens_per_pair: int | None = None
    flops_per_token: int | None = None
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
        """Two measurements with the same key can be compared."""
        return (self.contender, self.scenario, self.workload, json.dumps(self.parameters, sort_keys=True))

    @property
    def median(self) -> float:
        """Median of the samples, seconds."""
        return statistics.median(self.seconds)

    @property
    def pairs_per_second(self) -> float:
        """Throughput over the wall time if calls overlap, else that of the median call, which outliers do not move."""
        return self._rate(self.pairs)

    @property
    def tokens_per_second(self) -> float:
        """Throughput in tokens, computed as ``pairs_per_second``."""
        return self._rate(self.tokens)

    def _rate(self, amount: int) -> float:
        if self.scenario in OVERLAPPING:
            return amount / self.elapsed
        return amount / len(self.seconds) / self.median

    @property
    def percentiles(self) -> dict[str, float]:
        """Nearest-rank percentiles of the samples, seconds. Those that need more samples are omitted.

        >>> Measurement("a", "single", "b", seconds=[1.0, 2.0, 3.0]).percentiles
        {'p50': 2.0}
        """
        return dict(percentiles(self.seconds))

    @property
    def spread(self) -> float:
        """Distance between the quartiles divided by the median; 0 for fewer than four samples."""
        if len(self.seconds) < 4:
            return 0.0
        low, middle, high = statistics.quantiles(self.seconds, n=4)
        return (high - low) / middle


def percentiles(seconds: Sequence[float]) -> Iterator[tuple[str, float]]:
    """``("p99", seconds)`` for each percentile above which at least one sample lies: p99 requires 100 samples."""
    ordered = sorted(seconds)
    for percentile in PERCENTILES:
        share = percentile / 100
        if ordered and len(ordered) * (1 - share) >= 1 - 1e-9:
            yield f"p{percentile:g}", ordered[math.ceil(len(ordered) * share - 1e-9) - 1]


@dataclass(frozen=True)
class Result:
    """The measurements of one run.

    environment:  machine, versions, peaks, artifacts, commit, seed and command.
    measurements: in the order of the table.
    """

    environment: dict[str, Any]
    measurements: list[Measurement]

    def write(self, path: Path) -> None:
        """Write JSON. The file appears whole, or not at all."""
        partial = path.with_suffix(path.suffix + ".part")
        content = {"schema": SCHEMA, **dataclasses.asdict(self)}
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        partial.replace(path)

    @staticmethod
    def read(path: Path) -> Result:
        """The result in ``path``, of this schema or of an earlier one.

        Raises:
            InputError: the file cannot be read, is not a result, or has a later schema.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            schema, environment = content["schema"], content["environment"]
            if schema not in (1, SCHEMA):
                raise InputError(
                    f"{path} has schema {schema}, and this version reads 1 and {SCHEMA}; update modernrank, or "
                    "measure again",
                    file=str(path),
                    schema=schema,
                )
            entries = content["measurements"]
            if schema == 1:
                entries = [_with_fields_of_schema_2(entry, environment) for entry in entries]
            return Result(environment, [Measurement(**entry) for entry in entries])
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}", file=str(path)) from error
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path} is not a result of `modernrank bench` ({type(error).__name__}: {error})", file=str(path)
            ) from error


def _with_fields_of_schema_2(entry: dict[str, Any], environment: dict[str, Any]) -> dict[str, Any]:
    """A measurement of schema 1, with the fields that schema 1 only expressed in names.

    There a contender was called ``"modernrank int8"`` or ``"modernrank int8 tensorrt"`` (a provider other than the CPU
    came last), a peer ``"transformers bf16"`` or ``"transformers bf16, compiled"``; a workload of pairs of one length
    was called ``"128 tokens"``. The environment held the operations per token, which were those of the CPU's graph.
    """
    contender, runtime = entry["contender"], entry.get("runtime", {})
    words = re.findall(r"[\w-]+", contender)
    named = next((word for word in words if word in ("int8", "bf16", "fp16", "fp32")), "")
    length = re.fullmatch(r"(\d+) tokens", entry["workload"])
    ours = words[0] == "modernrank"
    on_cpu = words[-1] == named
    return entry | {
        "ours": ours,
        "precision": runtime.get("precision", named),
        "provider": runtime.get("provider", ""),
        "tokens_per_pair": int(length[1]) if length else None,
        "flops_per_token": environment.get("artifact", {}).get("linear_flops") if ours and on_cpu else None,
    }
