"""Write the int8 graph: observe, choose, smooth, write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from modernrank.export.checkpoint.weights import Weights
from modernrank.export.graph.linear import Int8Linear
from modernrank.export.models.modernbert.config import ModernBertConfig
from modernrank.export.models.modernbert.graph import write_graph
from modernrank.export.precision.calibration import Calibration, read_calibration
from modernrank.export.precision.observe import encode, observe

from .choose import Quantisation, quantise
from .smooth import SmoothedWeights


def write_int8_graph(
    weights: Weights,
    config: ModernBertConfig,
    tokenizer_file: Path,
    path: Path,
    calibration_file: Path | None,
    report: Callable[[str], None],
) -> dict[str, Any]:
    """Write the graph of ``weights`` in int8 to ``path``; returns what the manifest records of how.

    The linear layers of the encoder are int8, the embedding table is float16, all else is float32.
    """
    calibration = read_calibration(calibration_file)
    ids = encode(calibration.pairs, tokenizer_file)
    report(f"calibrating on {len(ids)} pairs with {sum(map(len, ids)):,} tokens ({calibration.source})")
    observations = observe(weights, config, ids)
    report("choosing scales")
    chosen = quantise(weights, config, observations)
    report(f"writing the int8 graph of {len(config.layers)} layers")
    smoothed = SmoothedWeights(weights, chosen.scales)
    write_graph(smoothed, config, "ort-cpu", path, linear=Int8Linear(chosen.inputs), table_type=np.float16)
    return _record(calibration, chosen)


def _record(calibration: Calibration, chosen: Quantisation) -> dict[str, Any]:
    inputs = {name: list(q.float_inputs) for name, q in chosen.inputs.items() if q.float_inputs}
    outputs = {name: list(q.float_outputs) for name, q in chosen.inputs.items() if q.float_outputs}
    worst = max(chosen.errors, key=lambda name: chosen.errors[name])
    return {
        "summary": (
            f"{len(chosen.inputs)} of {len(chosen.errors)} linear layers; float32 for large channels at the input of "
            f"{len(inputs)} and the output of {len(outputs)} of them; calibrated on {len(calibration.pairs)} pairs "
            f"({calibration.source}); largest error of a layer {chosen.errors[worst]:.1%} ({worst})"
        ),
        "calibration": calibration.as_json(),
        "float_layers": list(chosen.float_layers),
        "float_inputs": inputs,
        "float_outputs": outputs,
        "smoothed_layers": sorted(chosen.scales),
        "layer_errors": chosen.errors,
    }
