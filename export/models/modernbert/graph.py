"""A ModernBERT encoder with a head as an ONNX graph, module by module as in ``transformers``.

input_ids      [rows, tokens]    token ids; padding is pad_token_id
position_ids   [rows, tokens]    position within the pair, from 0
segment_ids    [rows, tokens]    1, 2, .. for the row's pairs in order, 0 for padding
slots          [slots]           1, 2, .. slots
logits         float32 [rows, slots, labels]; a slot without tokens gives 0

The inputs are int64, or int32 in the dialects for TensorRT. The padded dialect makes all of these but ``input_ids`` in
the graph (``export/graph/padded/inputs.py``), for one row, and its logits are ``[batch, labels]``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from modernrank.arrays import FloatArray
from modernrank.errors import ArtifactError
from modernrank.export.checkpoint.weights import Weights
from modernrank.export.graph.activations import activation
from modernrank.export.graph.attention import AttentionShape, PackedAttention
from modernrank.export.graph.builder import GraphBuilder, Value, data_file, short_file
from modernrank.export.graph.float_types import RESIDUAL, FloatType
from modernrank.export.graph.options import GraphOptions
from modernrank.export.models.heads.head import Head
from modernrank.export.models.rope import Rope

from .config import Layer, ModernBertConfig
from .fused_norms import fuse_norms
from .tensors import EMBEDDINGS

ROWS_AT_ONCE = 8192  # of the table of embeddings
TURNED = ("q_proj", "k_proj")  # what rotary position embeddings turn


@dataclass(frozen=True)
class ModelToWrite:
    """An encoder's config, its head, and the tensors of both."""

    config: ModernBertConfig
    head: Head
    weights: Weights


def write_graph(model: ModelToWrite, path: Path, options: GraphOptions) -> dict[str, str]:
    """Write the graph as ``Architecture.write_graph`` describes it."""
    with GraphBuilder(data_file(path), options.spelling.opset, options.spelling.ir_version) as g:
        names = _write(g, model, path, options, options.spelling.attention)
        if options.spelling.short_attention is not None and options.observe is None:
            g.restart()
            _write(g, model, short_file(path), options, options.spelling.short_attention)
    return names


def _write(
    g: GraphBuilder, source: ModelToWrite, path: Path, options: GraphOptions, attention: type[PackedAttention]
) -> dict[str, str]:
    """Write one graph; its constants go to the data file of ``g``."""
    layout = options.spelling.layout
    model = ModernBertGraph(g, source, options, attention, layout.token_ids(g))
    logits = layout.logits(g, model.logits())
    outputs = {logits: _float_output("logits", [*layout.outputs, len(source.head.labels)])}
    observed: dict[str, Value] = {}
    if options.observe == "linear_inputs":
        observed = model.linear_inputs
    elif options.observe == "maxima":
        observed = model.maxima()
    if options.spelling.fused_norms:
        g.rewrite(fuse_norms)
    names = {name: f"observed_{i}" for i, name in enumerate(observed)}
    outputs |= {value: _float_output(names[name], None) for name, value in observed.items()}
    inputs = [
        helper.make_tensor_value_info(name, options.spelling.index_type, shape) for name, shape in layout.inputs.items()
    ]
    onnx.save(g.model("modernbert", inputs, outputs), path)
    return names


def places(config: ModernBertConfig) -> list[str]:
    """The residual stream, and the attention and the MLP of each layer."""
    layers = range(len(config.layers))
    return [RESIDUAL, *(f"layers.{i}.{part}" for i in layers for part in ("attn", "mlp"))]


def _float_output(name: str, shape: list[str | int] | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


class ModernBertGraph:
    """Writes the model's nodes to ``g``; names of weights and scopes are those of ``transformers``."""

    def __init__(
        self,
        g: GraphBuilder,
        source: ModelToWrite,
        options: GraphOptions,
        attention: type[PackedAttention],
        token_ids: Value,
    ) -> None:
        config = source.config
        self.g = g
        self.token_ids = token_ids
        self.weights = source.weights
        self.config = config
        self.head = source.head
        self.linear_kind = options.linear
        self.linear_inputs: dict[str, Value] = {}
        self.places: dict[str, list[Value]] = {}  # values that are kept in the type of a place
        self.types = options.types
        self.table_type = options.embeddings
        self.half_norms = options.spelling.half_norms
        self.biased_norms = options.spelling.biased_norms
        self.width_step = options.spelling.width_step
        shape = AttentionShape(config.num_attention_heads, config.head_size, config.reach)
        self.attend = attention(g, shape, Value("segment_ids"), Value("position_ids"))
        self.rope_tables: dict[tuple[Rope, FloatType], tuple[Value, Value]] = {}

    def logits(self) -> Value:
        """``[rows, slots, labels]``."""
        hidden = self.embeddings()
        for i, layer in enumerate(self.config.layers):
            with self.g.scope(f"layers.{i}"):
                hidden = self.encoder_layer(hidden, layer, f"layers.{i}", is_first=i == 0)
        hidden = self.norm(hidden, "final_norm", "model.final_norm", self.types.of(RESIDUAL), np.float32)
        return self.classify(hidden)

    def maxima(self) -> dict[str, Value]:
        """For each place the largest magnitude of its values, a scalar."""
        g = self.g
        largest = {}
        for place, values in self.places.items():
            with g.scope(f"maximum.{place}"):
                each = [g.op("ReduceMax", g.op("Abs", value), keepdims=0) for value in values]
                largest[place] = g.op("Max", *each)
        return largest

    def embeddings(self) -> Value:
        """``[rows, tokens, hidden_size]``. Their layer norm is applied to the whole table at export."""
        with self.g.scope("embeddings"):
            table = self.g.constant("normalised_table", self.normalised_table())
            rows = self.g.op("Gather", table, self.token_ids)
            return self.keep(self.g.convert(rows, self.table_type, self.types.of(RESIDUAL)), RESIDUAL)

    def normalised_table(self) -> np.ndarray[Any, Any]:
        """The layer norm of each row of the embedding table, ``[vocab_size, hidden_size]`` in the table's type.

        Some rows at a time: the table of a large vocabulary takes most of the memory of an export.
        """
        weight = self.weights.tensor("model.embeddings.norm.weight")
        bias = self.weights.tensor("model.embeddings.norm.bias") if self.config.norm_bias else None
        table = np.empty((self.config.vocab_size, self.config.hidden_size), self.table_type)
        for start in range(0, len(table), ROWS_AT_ONCE):
            rows = self.weights.rows(EMBEDDINGS, start, min(start + ROWS_AT_ONCE, len(table)))
            rows = rows - rows.mean(axis=1, keepdims=True)
            rows /= np.sqrt(np.mean(rows**2, axis=1, keepdims=True) + self.config.norm_eps)
            rows *= weight
            if bias is not None:
                rows += bias
            table[start : start + len(rows)] = _as(rows, self.table_type, "the normalised table of embeddings")
        return table

    def encoder_layer(self, hidden: Value, layer: Layer, name: str, is_first: bool) -> Value:
        """Pre-norm attention and MLP, each added to the residual stream."""
        stream, weights = self.types.of(RESIDUAL), f"model.{name}"
        place = f"{name}.attn"
        if is_first:
            normed = self.g.convert(hidden, stream, self.types.of(place))
        else:
            normed = self.norm(hidden, "attn_norm", f"{weights}.attn_norm", stream, self.types.of(place))
        hidden = self.add(hidden, self.attention(normed, layer, place), place)
        place = f"{name}.mlp"
        normed = self.norm(hidden, "mlp_norm", f"{weights}.mlp_norm", stream, self.types.of(place))
        return self.add(hidden, self.mlp(normed, place), place)

    def add(self, hidden: Value, x: Value, place: str) -> Value:
        """The residual stream with what a place adds to it."""
        x = self.g.convert(x, self.types.of(place), self.types.of(RESIDUAL))
        return self.keep(self.g.op("Add", hidden, x), RESIDUAL)

    def keep(self, x: Value, place: str) -> Value:
        """Record that ``x`` is held in the type of ``place``."""
        self.places.setdefault(place, []).append(x)
        return x

    def attention(self, x: Value, layer: Layer, place: str) -> Value:
        """Q, K and V are products of their own: splitting one product would copy its result."""
        dtype, weights, has_bias = self.types.of(place), f"model.{place}", self.config.attention_bias
        with self.g.scope("attn"):
            names = (*TURNED, "v_proj")
            q, k, v = (self.keep(y, place) for y in self.split_linear(x, names, f"{weights}.Wqkv", has_bias, dtype))
            q, k = self.rotate(q, layer, "q_rope", dtype), self.rotate(k, layer, "k_rope", dtype)
            mix = self.attend.global_attention if layer.is_global else self.attend.sliding_attention
            return self.keep(self.linear(mix(q, k, v, dtype), "Wo", f"{weights}.Wo", has_bias, dtype), place)

    def rotate(self, x: Value, layer: Layer, name: str, dtype: FloatType) -> Value:
        """Rotary position embedding of every head of ``x`` ``[rows, tokens, hidden_size]``."""
        cos, sin = self._rope_tables(layer, self.attend.rope_type(dtype))
        with self.g.scope(name):
            return self.attend.rotate(x, cos, sin, dtype)

    def mlp(self, x: Value, place: str) -> Value:
        """Gated linear unit: Wo(act(up) * gate)."""
        dtype, weights, has_bias = self.types.of(place), f"model.{place}", self.config.mlp_bias
        with self.g.scope("mlp"):
            parts = self.split_linear(x, ("up", "gate"), f"{weights}.Wi", has_bias, dtype)
            up, gate = (self.keep(y, place) for y in parts)
            x = self.keep(self.g.op("Mul", activation(self.g, up, self.config.hidden_activation), gate), place)
            return self.keep(self.linear(x, "Wo", f"{weights}.Wo", has_bias, dtype), place)

    def classify(self, hidden: Value) -> Value:
        """The head's logits, and 0 for a slot without tokens."""
        logits, is_used = self.head.write(self.g, self.weights, hidden)
        return self.g.op("Where", is_used, logits, self.g.scalar(0.0))

    def norm(self, x: Value, name: str, weights: str, source: FloatType, target: FloatType) -> Value:
        """Layer normalisation over the width, with float32 statistics, of ``x`` of one type into another."""
        g = self.g
        inside = source if self.half_norms and source is target else np.float32
        with g.scope(name):
            parameters = [g.constant("weight", self.tensor(f"{weights}.weight", inside))]
            if self.config.norm_bias:
                parameters.append(g.constant("bias", self.tensor(f"{weights}.bias", inside)))
            elif self.biased_norms:
                parameters.append(g.constant("bias", np.zeros(self.config.hidden_size, inside)))
            x = g.convert(x, source, inside)
            # Its mean and variance are float32 by default (`stash_type`), whatever the type of x.
            normed = g.op("LayerNormalization", x, *parameters, epsilon=self.config.norm_eps)
            return g.convert(normed, inside, target)

    def linear(self, x: Value, name: str, weights: str, has_bias: bool, dtype: FloatType = np.float32) -> Value:
        """``x @ weight.T + bias`` with the whole of a checkpoint's linear layer."""
        (result,) = self.split_linear(x, (name,), weights, has_bias, dtype)
        return result

    def split_linear(
        self, x: Value, names: tuple[str, ...], weights: str, has_bias: bool, dtype: FloatType
    ) -> list[Value]:
        """One product for each of ``names``, with its equal share of a linear layer's outputs, in order."""
        weight = self._split(f"{weights}.weight", names, dtype)
        bias = self._split(f"{weights}.bias", names, dtype) if has_bias else [None] * len(names)
        if weights.startswith("model.layers."):
            self.linear_inputs[weights] = x
        products = []
        for name, part, part_bias in zip(names, weight, bias, strict=True):
            with self.g.scope(name):
                products.append(self.linear_kind.product(self.g, x, weights, part, part_bias))
        return products

    def _split(self, tensor: str, names: tuple[str, ...], dtype: FloatType) -> list[Any]:
        """Equal parts of a tensor; those that are turned are in the order that the dialect takes."""
        parts = np.split(self.tensor(tensor, dtype), len(names))
        if not self.attend.takes_neighbours:
            return list(parts)
        return [self.neighbours(part) if name in TURNED else part for name, part in zip(names, parts, strict=True)]

    def neighbours(self, outputs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Rows of a weight, or values of a bias, with those of a head that turn together beside each other.

        Queries and keys are reordered alike, so their products are the same.
        """
        halves = outputs.reshape(self.config.num_attention_heads, 2, self.config.head_size // 2, -1)
        return np.swapaxes(halves, 1, 2).reshape(outputs.shape)

    def tensor(self, name: str, dtype: FloatType) -> np.ndarray[Any, Any]:
        """A tensor of the checkpoint in the type of its place."""
        return _as(self.weights.tensor(name), dtype, name)

    def _rope_tables(self, layer: Layer, dtype: FloatType) -> tuple[Value, Value]:
        """Cos and sin of every position's angles, for as many heads as the dialect turns together.

        They are computed in float64 and then rounded, because an angle of thousands of radians would otherwise lose
        precision.
        """
        key = layer.rope, dtype
        if key not in self.rope_tables:
            # A row may be as wide as the next step, and ONNX Runtime refuses a row that is wider than its table.
            positions = -(-self.config.max_position_embeddings // self.width_step) * self.width_step
            name = "rope_global" if layer.is_global else "rope_sliding"
            name = name if dtype is np.float32 else f"{name}_{np.dtype(dtype)}"
            with self.g.top():
                cos, sin = (
                    self.g.constant(f"{name}.{kind}", np.tile(values, self.attend.heads_turned_together).astype(dtype))
                    for kind, values in zip(("cos", "sin"), layer.rope.table(positions), strict=True)
                )
            self.rope_tables[key] = cos, sin
        return self.rope_tables[key]


def _as(values: FloatArray, dtype: FloatType, name: str) -> np.ndarray[Any, Any]:
    """``values`` in ``dtype``.

    Raises:
        ArtifactError: a value would become infinite.
    """
    with np.errstate(over="ignore"):
        converted = values.astype(dtype, copy=False)
    if not np.isfinite(converted).all():
        raise ArtifactError(
            f"{name} has a value of {np.abs(values).max():g}, beyond the range of {np.dtype(dtype)}; export fp32",
            tensor=name,
        )
    return converted
