"""Run the float32 graph over calibration pairs and keep what goes into each linear layer."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from modernrank.arrays import FloatArray, IntArray
from modernrank.backends.onnxruntime.loading import packed_inputs
from modernrank.batching.batch import Batch, assemble
from modernrank.batching.packing import plan
from modernrank.batching.policy import BatchPolicy, PackingPolicy, TokenBudget
from modernrank.export.checkpoint.weights import Weights
from modernrank.export.models.modernbert.config import ModernBertConfig
from modernrank.export.models.modernbert.graph import write_graph
from modernrank.host import available_threads
from modernrank.text.encoder import PairEncoder

LONGEST = 512  # tokens of a calibration pair
SAMPLES = 32  # rows kept of each run
TOKENS_PER_RUN = 1024


@dataclass
class Observation:
    """What went into one linear layer: least and largest value of each channel, and some whole rows."""

    lowest: FloatArray
    highest: FloatArray
    rows: list[FloatArray] = field(default_factory=list)

    @property
    def largest(self) -> FloatArray:
        """Largest magnitude of each channel."""
        result: FloatArray = np.maximum(np.abs(self.lowest), np.abs(self.highest))
        return result

    @property
    def samples(self) -> FloatArray:
        """``[rows, channels]``."""
        return np.concatenate(self.rows)

    def without(self, channels: tuple[int, ...]) -> Observation:
        """The same with some channels held at 0."""
        keep = np.ones_like(self.lowest)
        keep[list(channels)] = 0
        return Observation(self.lowest * keep, self.highest * keep, [rows * keep for rows in self.rows])

    def add(self, values: FloatArray, rng: np.random.Generator) -> None:
        """Take note of ``values`` ``[tokens, channels]``."""
        np.minimum(self.lowest, values.min(axis=0), out=self.lowest)
        np.maximum(self.highest, values.max(axis=0), out=self.highest)
        self.rows.append(values[rng.choice(len(values), min(SAMPLES, len(values)), replace=False)].copy())


def encode(pairs: list[tuple[str, str]], tokenizer_file: Path) -> list[IntArray]:
    """Token ids of calibration pairs, long ones cut."""
    return [pair.ids for pair in PairEncoder(tokenizer_file, LONGEST).encode(pairs)]


def observed_runs(
    weights: Weights, config: ModernBertConfig, ids: list[IntArray], what: str, policy: BatchPolicy
) -> Iterator[tuple[Batch, dict[str, FloatArray]]]:
    """Run the float32 graph over the pairs with token ``ids``; yields each batch and the values observed in it.

    Args:
        weights, config: the model.
        ids: token ids of each pair.
        what: ``"linear_inputs"`` or ``"maxima"``, as ``write_graph`` takes it.
        policy: how the pairs are packed.
    """
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "observed.onnx"
        names = write_graph(weights, config, "ort-cpu", path, observe=what)
        options = ort.SessionOptions()
        options.intra_op_num_threads = available_threads()
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        for planned in plan([len(i) for i in ids], policy).batches:
            batch = assemble(planned, ids, config.pad_token_id)
            yield batch, dict(zip(names, session.run(list(names.values()), packed_inputs(batch)), strict=True))


def observe(weights: Weights, config: ModernBertConfig, ids: list[IntArray]) -> dict[str, Observation]:
    """Observations by the name of the linear layer, from one pass over the pairs with token ``ids``."""
    rng = np.random.default_rng(0)
    observations: dict[str, Observation] = {}
    for batch, inputs in observed_runs(
        weights, config, ids, "linear_inputs", BatchPolicy(PackingPolicy(TokenBudget(TOKENS_PER_RUN)))
    ):
        real = batch.segment_ids > 0
        for name, values in inputs.items():
            rows = values[real]
            if name not in observations:
                infinite = np.full(rows.shape[1], np.inf, np.float32)
                observations[name] = Observation(infinite, -infinite)
            observations[name].add(rows, rng)
    return observations
