"""Order the channels of a model so that columns with large weights have neighbours with small ones.

Two neighbouring weights share the limit of ``weights.NEIGHBOURS_MAX``, so scales can be finer with a large and a small
one together. Another order of channels changes nothing but the order of additions, and costs nothing at run time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from modernrank.arrays import FloatArray, IntArray
from modernrank.export.checkpoint.weights import Weights
from modernrank.export.models.architecture import Architecture, Stream
from modernrank.export.precision.observe import Observation

from .choose import large_inputs


@dataclass(frozen=True)
class ChannelOrders:
    """In which order each stream of a model has its channels.

    architecture: knows which axes of a tensor hold which streams.
    orders:       for each stream by name, the checkpoint's number of the channel at each place, ``[width]``.
    """

    architecture: Architecture
    orders: Mapping[str, IntArray]

    @staticmethod
    def choose(weights: Weights, architecture: Architecture, observations: Mapping[str, Observation]) -> ChannelOrders:
        """The best order of each stream that linear layers read, from what was observed to go into them."""
        sizes: dict[Stream, list[FloatArray]] = {}
        for layer in architecture.linear_layers():
            (stream,) = architecture.axes(f"{layer.name}.weight")[1]
            if stream is not None:
                largest = observations[layer.name].largest
                sizes.setdefault(stream, []).append(_sizes(weights.tensor(f"{layer.name}.weight"), largest))
        orders = {stream.name: _paired(np.mean(each, axis=0), stream.blocks) for stream, each in sizes.items()}
        return ChannelOrders(architecture, orders)

    def numbers(self, tensor: str, axis: int, size: int) -> IntArray:
        """The checkpoint's number of the channel at each place of an axis of ``size`` channels."""
        axes = self.architecture.axes(tensor)
        parts = axes[axis] if axes else (None,)
        unchanged = np.arange(size // len(parts))
        orders = [unchanged if stream is None else self.orders.get(stream.name, unchanged) for stream in parts]
        return np.concatenate([order + part * len(unchanged) for part, order in enumerate(orders)])


class ReorderedWeights:
    """The tensors of a checkpoint with their channels in another order; the model computes the same."""

    def __init__(self, weights: Weights, orders: ChannelOrders) -> None:
        self._weights = weights
        self._orders = orders

    def tensor(self, name: str) -> FloatArray:
        """One tensor as float32."""
        return self._reordered(name, self._weights.tensor(name), first_axis=0)

    def rows(self, name: str, start: int, stop: int) -> FloatArray:
        """Rows of a tensor as float32."""
        axes = self._orders.architecture.axes(name)
        if axes and any(axes[0]):  # they come from other rows
            return self.tensor(name)[start:stop]
        return self._reordered(name, self._weights.rows(name, start, stop), first_axis=1)

    def _reordered(self, name: str, values: FloatArray, first_axis: int) -> FloatArray:
        for axis, parts in list(enumerate(self._orders.architecture.axes(name)))[first_axis:]:
            if any(parts):
                values = values.take(self._orders.numbers(name, axis, values.shape[axis]), axis=axis)
        return values


def _sizes(weight: FloatArray, largest: FloatArray) -> FloatArray:
    """How large each column's weights will be after smoothing, about 1 on average; 0 for those that stay float32.

    Smoothing with strength 1/2 multiplies a column by ``(max|x| / max|w|) ** 0.5`` (``smooth.smoothing_scale``).
    """
    sizes = np.sqrt(largest * np.sqrt(np.mean(np.square(weight), axis=0)))
    sizes[list(large_inputs(largest))] = 0
    result: FloatArray = sizes / max(sizes.mean(), np.finfo(np.float32).tiny)
    return result


def _paired(sizes: FloatArray, blocks: int) -> IntArray:
    """In each block the largest beside the smallest, the second largest beside the second smallest, and so on.

    >>> _paired(np.array([3.0, 9.0, 1.0, 4.0]), 1).tolist()
    [1, 2, 3, 0]
    """
    numbers = []
    for block in np.split(np.arange(len(sizes)), blocks):
        order = block[np.argsort(-sizes[block], kind="stable")]
        half = len(order) // 2
        pairs = np.stack([order[:half], order[::-1][:half]], axis=1).ravel()
        numbers.append(np.concatenate([pairs, order[half : len(order) - half]]))
    return np.concatenate(numbers)
