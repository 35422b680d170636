"""Some rows of a tensor are those of the whole one, in the checkpoint and in every changed view of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from modernrank.export.checkpoint.weights import Checkpoint, Weights
from modernrank.export.models.architecture import Architecture
from modernrank.export.models.registry import read_architecture
from modernrank.export.precision.int8.channel_order import ChannelOrders, ReorderedWeights
from modernrank.export.precision.int8.smooth import SmoothedWeights
from support.checkpoints import checkpoint

ARCHITECTURE = read_architecture(checkpoint("tiny-cls"))
NAMES = [name for name, shape in ARCHITECTURE.expected_tensors().shapes.items() if len(shape) == 2]


@pytest.fixture(scope="module")
def exact() -> Iterator[Checkpoint]:
    with Checkpoint(checkpoint("tiny-cls"), ARCHITECTURE.expected_tensors()) as weights:
        yield weights


def reordered(weights: Weights, architecture: Architecture = ARCHITECTURE) -> Weights:
    streams = {
        stream
        for layer in architecture.linear_layers()
        for parts in architecture.axes(f"{layer.name}.weight")
        for stream in parts
        if stream is not None
    }
    return ReorderedWeights(weights, ChannelOrders(architecture, {s.name: np.arange(s.width)[::-1] for s in streams}))


def smoothed(weights: Weights) -> Weights:
    rng = np.random.default_rng(0)
    layers = {layer.name for layer in ARCHITECTURE.linear_layers() if layer.can_be_smoothed}
    sizes = {layer: weights.tensor(f"{layer}.weight").shape[1] for layer in layers}
    scales = {layer: rng.uniform(0.5, 2, size).astype(np.float32) for layer, size in sizes.items()}
    return SmoothedWeights(weights, scales, ARCHITECTURE.absorbed_by)


VIEWS: dict[str, Callable[[Weights], Weights]] = {
    "checkpoint": lambda weights: weights,
    "reordered": reordered,
    "smoothed": smoothed,
    "both": lambda weights: smoothed(reordered(weights)),
}


@pytest.mark.parametrize("view", VIEWS)
def test_rows_are_those_of_the_whole_tensor(exact: Checkpoint, view: str) -> None:
    weights = VIEWS[view](exact)
    changed = 0
    for name in NAMES:
        whole = weights.tensor(name)
        changed += not np.array_equal(whole, exact.tensor(name))
        for start, stop in ((0, 1), (1, len(whole)), (0, len(whole)), (len(whole) - 1, len(whole))):
            rows = weights.rows(name, start, stop)
            assert rows.dtype == np.float32
            assert (rows == whole[start:stop]).all()
    assert bool(changed) == (view != "checkpoint")
