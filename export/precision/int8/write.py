"""Write the int8 graph: observe, order channels, choose, smooth, write."""

from __future__ import annotations

from typing import Any

import numpy as np

from modernrank.errors import counted
from modernrank.export.graph.options import GraphOptions
from modernrank.export.precision.calibration import Calibration, read_calibration
from modernrank.export.precision.job import GraphJob, WrittenGraph
from modernrank.export.precision.observe import encode, observe

from .channel_order import ChannelOrders, ReorderedWeights
from .choose import Quantisation, quantise
from .linear import Int8Linear
from .smooth import SmoothedWeights


def write_int8(job: GraphJob) -> WrittenGraph:
    """Write the int8 graph of ``job``.

    The linear layers of the encoder are int8, the embedding table is float16, all else is float32.
    """
    source, architecture = job.source, job.source.architecture
    calibration = read_calibration(job.calibration)
    ids = encode(source, calibration.pairs)
    job.report(
        f"calibrating on {counted(len(ids), 'pair')} with {counted(sum(map(len, ids)), 'token')} ({calibration.source})"
    )
    observations = observe(source, ids)
    job.report("choosing scales")
    orders = ChannelOrders.choose(source.weights, architecture, observations)
    weights = ReorderedWeights(source.weights, orders)
    for name, observed in observations.items():
        observations[name] = observed.reordered(orders.numbers(f"{name}.weight", 1, len(observed.lowest)))
    chosen = quantise(weights, architecture.linear_layers(), observations)
    job.report(f"writing the int8 graph of {architecture.facts.layers} layers")
    smoothed = SmoothedWeights(weights, chosen.scales, architecture.absorbed_by)
    options = GraphOptions(job.dialect, linear=Int8Linear(chosen.layers), table_type=np.float16)
    architecture.write_graph(smoothed, job.path, options)
    return job.written(options.spelling.opset, made=_record(calibration, chosen, orders))


def _record(calibration: Calibration, chosen: Quantisation, orders: ChannelOrders) -> dict[str, Any]:
    """What the manifest keeps; channels by their number in the checkpoint."""
    inputs, outputs = {}, {}
    for name, choice in chosen.layers.items():
        weight = f"{name}.weight"
        if choice.input.float_inputs:
            numbers = orders.numbers(weight, 1, choice.inputs)
            inputs[name] = sorted(int(numbers[place]) for place in choice.input.float_inputs)
        if choice.input.float_outputs:
            numbers = orders.numbers(weight, 0, choice.outputs)
            outputs[name] = sorted(int(numbers[place]) for place in choice.input.float_outputs)
    worst = max(chosen.errors, key=lambda name: chosen.errors[name])
    return {
        "summary": (
            f"{len(chosen.layers)} of {len(chosen.errors)} linear layers; float32 for large channels at the input of "
            f"{len(inputs)} and the output of {len(outputs)} of them; calibrated on "
            f"{counted(len(calibration.pairs), 'pair')} ({calibration.source}); "
            f"largest error of a layer {chosen.errors[worst]:.1%} ({worst})"
        ),
        "calibration": calibration.as_json(),
        "float_layers": list(chosen.float_layers),
        "float_inputs": inputs,
        "float_outputs": outputs,
        "token_scales": [name for name, choice in chosen.layers.items() if choice.input.scale is None],
        "smoothed_layers": sorted(chosen.scales),
        "layer_errors": chosen.errors,
    }
