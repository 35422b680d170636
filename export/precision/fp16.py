"""Float16: which places of the model it can hold, found by running the model on calibration pairs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from modernrank.arrays import IntArray
from modernrank.batching.policy import BatchPolicy, PackingPolicy, TokenBudget
from modernrank.errors import ArtifactError
from modernrank.export.checkpoint.weights import Weights
from modernrank.export.graph.float_types import FloatTypes
from modernrank.export.models.modernbert.config import ModernBertConfig
from modernrank.export.models.modernbert.graph import write_graph

from .calibration import read_calibration
from .observe import TOKENS_PER_RUN, encode, observed_runs

LARGEST = float(np.finfo(np.float16).max)  # 65,504
# Other texts than the calibration's may go this many times higher before a value overflows.
HEADROOM = 4.0
# No padding, whose activations are nobody's.
WHOLE_PAIRS = BatchPolicy(PackingPolicy(TokenBudget(TOKENS_PER_RUN), pairs_per_row=1, minimum_fill=1.0))


def write_half_graph(
    weights: Weights,
    config: ModernBertConfig,
    dialect: str,
    tokenizer_file: Path,
    path: Path,
    calibration_file: Path | None,
    report: Callable[[str], None],
) -> dict[str, Any]:
    """Write the graph of ``weights`` in float16 to ``path``; returns what the manifest records of how.

    A place whose values come within HEADROOM of float16's largest is kept in float32.

    Raises:
        ArtifactError: activations that are not finite in float32, or a weight that float16 does not hold.
    """
    calibration = read_calibration(calibration_file)
    ids = encode(calibration.pairs, tokenizer_file)
    report(f"watching the activations of {len(ids)} pairs with {sum(map(len, ids)):,} tokens ({calibration.source})")
    maxima = activation_maxima(weights, config, ids)
    types = choose_types(maxima)
    report(f"writing the {dialect} graph of {len(config.layers)} layers in float16")
    write_graph(weights, config, dialect, path, types=types)
    highest = max(maxima, key=lambda place: maxima[place])
    return {
        "summary": (
            f"float32 at {', '.join(sorted(types.kept)) or 'no place'} besides norms, softmax, pooling and head; "
            f"largest activation {maxima[highest]:,.0f} ({highest}), float16 holds {LARGEST:,.0f}; watched on "
            f"{len(calibration.pairs)} pairs ({calibration.source})"
        ),
        "calibration": calibration.as_json(),
        "float_places": sorted(types.kept),
        "headroom": HEADROOM,
        "maxima": maxima,
    }


def activation_maxima(weights: Weights, config: ModernBertConfig, ids: list[IntArray]) -> dict[str, float]:
    """The largest magnitude at each place of the model, in float32, over the pairs with token ``ids``."""
    largest: dict[str, float] = {}
    for _, maxima in observed_runs(weights, config, ids, "maxima", WHOLE_PAIRS):
        for place, value in maxima.items():
            largest[place] = float(np.maximum(largest.get(place, 0.0), value))  # unlike max(), NaN if any is
    return largest


def choose_types(maxima: dict[str, float]) -> FloatTypes:
    """Float16 but for the places whose ``maxima`` leave too little room.

    >>> choose_types({"residual": 12.0, "layers.0.attn": 3.0, "layers.0.mlp": 40_000.0}).kept
    frozenset({'layers.0.mlp'})

    Raises:
        ArtifactError: a maximum is not finite.
    """
    broken = sorted(place for place, value in maxima.items() if not np.isfinite(value))
    if broken:
        raise ArtifactError(
            f"the checkpoint's activations are not finite at {', '.join(broken[:3])}: its weights are damaged"
        )
    return FloatTypes(np.float16, frozenset(p for p, value in maxima.items() if value * HEADROOM > LARGEST))
