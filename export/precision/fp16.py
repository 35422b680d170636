"""Float16: a graph whose places are float16 where the model's values fit, measured on calibration pairs."""

from __future__ import annotations

from typing import Any

import numpy as np

from modernrank.arrays import IntArray
from modernrank.batching.policy import BatchPolicy, PackingPolicy, TokenBudget
from modernrank.errors import ArtifactError, counted
from modernrank.export.graph.dialects import DIALECTS
from modernrank.export.graph.float_types import FloatTypes
from modernrank.export.graph.options import GraphOptions

from .calibration import Calibration, read_calibration
from .job import GraphJob, GraphSource, WrittenGraph
from .observe import TOKENS_PER_RUN, encode, observed_runs

LARGEST = float(np.finfo(np.float16).max)  # 65,504
# Texts other than the calibration's may exceed its maximum by this factor before a value overflows.
HEADROOM = 4.0
# Without padding, whose activations belong to no pair.
WHOLE_PAIRS = BatchPolicy(PackingPolicy(TokenBudget(TOKENS_PER_RUN), pairs_per_row=1, minimum_fill=1.0))


def write_fp16(job: GraphJob) -> WrittenGraph:
    """Write the float16 graph of ``job``.

    A place whose values come within HEADROOM of float16's maximum is kept in float32.

    Raises:
        ArtifactError: activations are not finite in float32, or a weight exceeds float16's range.
    """
    calibration = read_calibration(job.calibration)
    ids = encode(job.source, calibration.pairs)
    job.report(
        f"measuring the activations of {counted(len(ids), 'pair')} with {counted(sum(map(len, ids)), 'token')} "
        f"({calibration.source})"
    )
    maxima = activation_maxima(job.source, ids)
    options = GraphOptions(job.dialect, DIALECTS[job.dialect].linear(), choose_types(maxima))
    architecture = job.source.architecture
    job.report(f"writing the {job.dialect} graph of {architecture.facts.layers} layers in float16")
    architecture.write_graph(job.source.weights, job.path, options)
    return job.written(options.spelling.opset, made=_record(calibration, maxima, options.types))


def _record(calibration: Calibration, maxima: dict[str, float], types: FloatTypes) -> dict[str, Any]:
    highest = max(maxima, key=lambda place: maxima[place])
    return {
        "summary": (
            f"float32 at {', '.join(sorted(types.kept)) or 'no place'} besides norms, softmax, pooling and head; "
            f"largest activation {maxima[highest]:,.0f} ({highest}), the maximum of float16 is {LARGEST:,.0f}; "
            f"measured on {counted(len(calibration.pairs), 'pair')} ({calibration.source})"
        ),
        "calibration": calibration.as_json(),
        "float_places": sorted(types.kept),
        "headroom": HEADROOM,
        "maxima": maxima,
    }


def activation_maxima(source: GraphSource, ids: list[IntArray]) -> dict[str, float]:
    """The largest magnitude at each place of the model, in float32, over the pairs with token ``ids``."""
    largest = dict.fromkeys(source.architecture.places(), 0.0)
    for _, maxima in observed_runs(source, ids, "maxima", WHOLE_PAIRS):
        for place, value in maxima.items():
            largest[place] = float(np.maximum(largest[place], value))  # unlike max(), NaN if any is
    return largest


def choose_types(maxima: dict[str, float]) -> FloatTypes:
    """Float16, and float32 at the places whose ``maxima`` come too close to float16's.

    >>> choose_types({"residual": 12.0, "layers.0.attn": 3.0, "layers.0.mlp": 40_000.0}).kept
    frozenset({'layers.0.mlp'})

    Raises:
        ArtifactError: a maximum is not finite.
    """
    broken = sorted(place for place, value in maxima.items() if not np.isfinite(value))
    if broken:
        raise ArtifactError(
            f"the checkpoint's activations are not finite at {', '.join(broken[:3])}: its weights are damaged",
            places=broken,
        )
    return FloatTypes(np.float16, frozenset(p for p, value in maxima.items() if value * HEADROOM > LARGEST))
