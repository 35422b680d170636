"""Run the float32 graph over calibration pairs, and record what goes into each linear layer."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from modernrank.arrays import FloatArray, IntArray
from modernrank.backends.onnxruntime.loading import packed_inputs
from modernrank.backends.onnxruntime.telemetry import disable_telemetry
from modernrank.batching.batch import Batch, assemble
from modernrank.batching.packing import plan
from modernrank.batching.policy import BatchPolicy, PackingPolicy, TokenBudget
from modernrank.export.graph.options import GraphOptions, Observed
from modernrank.host import available_threads
from modernrank.text.checks import Pair

from .job import GraphSource

LONGEST = 512  # tokens of a calibration pair; longer ones are cut
SAMPLES = 16  # rows kept of each batch
ROWS = 256  # rows of each batch whose products of channels are added up
TOKENS_PER_RUN = 512
TINY = 1e-30  # for a token of zeros
DIALECT = "ort-cpu"  # dialect of the graph that is observed


@dataclass
class Observation:
    """What went into one linear layer.

    lowest, highest: minimum and maximum of each channel, ``[channels]``.
    products:        sum over ``tokens`` of ``x_i * x_j``, ``[channels, channels]``, where each token is divided by its
                     typical magnitude: tokens of large magnitude would otherwise decide alone.
    rows:            some whole rows, each ``[tokens, channels]``.
    """

    lowest: FloatArray
    highest: FloatArray
    products: FloatArray
    tokens: int = 0
    rows: list[FloatArray] = field(default_factory=list)

    @staticmethod
    def of_nothing(channels: int) -> Observation:
        """Before the first values."""
        infinite = np.full(channels, np.inf, np.float32)
        return Observation(infinite, -infinite, np.zeros((channels, channels), np.float32))

    @property
    def largest(self) -> FloatArray:
        """Largest magnitude of each channel."""
        result: FloatArray = np.maximum(np.abs(self.lowest), np.abs(self.highest))
        return result

    @property
    def moments(self) -> FloatArray:
        """Mean of ``x_i * x_j`` over tokens of typical magnitude 1, ``[channels, channels]``."""
        result: FloatArray = self.products / np.float32(self.tokens)
        return result

    @property
    def samples(self) -> FloatArray:
        """``[rows, channels]``."""
        return np.concatenate(self.rows)

    def without(self, channels: tuple[int, ...]) -> Observation:
        """The same with some channels held at 0."""
        keep = np.ones_like(self.lowest)
        keep[list(channels)] = 0
        return self._scaled(keep)

    def divided_by(self, divisor: FloatArray) -> Observation:
        """The same with each channel divided by a positive number."""
        return self._scaled(np.reciprocal(divisor))

    def _scaled(self, factor: FloatArray) -> Observation:
        products = self.products * factor * factor[:, None]
        rows = [rows * factor for rows in self.rows]
        return Observation(self.lowest * factor, self.highest * factor, products, self.tokens, rows)

    def reordered(self, order: IntArray) -> Observation:
        """The same with channel ``order[i]`` at place i."""
        products = self.products[np.ix_(order, order)]
        rows = [rows[:, order] for rows in self.rows]
        return Observation(self.lowest[order], self.highest[order], products, self.tokens, rows)

    def add(self, values: FloatArray, rng: np.random.Generator) -> None:
        """Include ``values`` ``[tokens, channels]``."""
        np.minimum(self.lowest, values.min(axis=0), out=self.lowest)
        np.maximum(self.highest, values.max(axis=0), out=self.highest)
        rows = values[rng.choice(len(values), min(ROWS, len(values)), replace=False)]
        self.rows.append(rows[:SAMPLES].copy())
        rows /= np.maximum(np.median(np.abs(rows[:, ::8]), axis=1, keepdims=True), TINY)
        self.products += rows.T @ rows
        self.tokens += len(rows)


def encode(source: GraphSource, pairs: Sequence[Pair]) -> list[IntArray]:
    """Token ids of calibration pairs, encoded as the artifact encodes pairs and cut to LONGEST."""
    return [pair.ids for pair in source.encoder(LONGEST).encode(pairs)]


def observed_runs(
    source: GraphSource, ids: list[IntArray], observe: Observed, policy: BatchPolicy
) -> Iterator[tuple[Batch, dict[str, FloatArray]]]:
    """Run the float32 graph over the pairs with token ``ids``; yields each batch and the values observed in it.

    Args:
        source: the model.
        ids: token ids of each pair.
        observe: which values.
        policy: how the pairs are packed.
    """
    disable_telemetry()
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "observed.onnx"
        names = source.architecture.write_graph(source.weights, path, GraphOptions(DIALECT, observe=observe))
        options = ort.SessionOptions()
        options.intra_op_num_threads = available_threads()
        options.add_session_config_entry("session.disable_prepacking", "1")  # a second copy of the weights for few runs
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        for planned in plan([len(i) for i in ids], policy).batches:
            batch = assemble(planned, ids, source.architecture.facts.pad_token_id)
            yield batch, dict(zip(names, session.run(list(names.values()), packed_inputs(batch)), strict=True))


def observe(source: GraphSource, ids: list[IntArray]) -> dict[str, Observation]:
    """Observations by the name of the linear layer, from one pass over the pairs with token ``ids``."""
    policy = BatchPolicy(PackingPolicy(TokenBudget(TOKENS_PER_RUN)))
    rng = np.random.default_rng(0)
    observations: dict[str, Observation] = {}
    for batch, inputs in observed_runs(source, ids, "linear_inputs", policy):
        real = batch.segment_ids > 0
        for name, values in inputs.items():
            rows = values[real]
            if name not in observations:
                observations[name] = Observation.of_nothing(rows.shape[1])
            observations[name].add(rows, rng)
    return observations
