"""ModernBertForSequenceClassification as an ONNX graph, module by module as in ``transformers``.

input_ids      int64 [rows, tokens]    token ids; padding is pad_token_id
position_ids   int64 [rows, tokens]    position within the pair, from 0
segment_ids    int64 [rows, tokens]    1, 2, .. for the row's pairs in order, 0 for padding
slots          int64 [slots]           1, 2, .. slots
logits         float32 [rows, slots, labels]; a slot without tokens gives 0
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from modernrank import __version__
from modernrank.packing import FloatArray

from ..checkpoint import Weights
from ..config import Layer, ModernBertConfig
from .attention import DIALECTS
from .builder import GraphBuilder, Value
from .linear import FloatLinear

OPSET = 23


def write_graph(
    weights: Weights,
    config: ModernBertConfig,
    dialect: str,
    path: Path,
    *,
    linear: FloatLinear | None = None,
    table_type: type[np.floating[Any]] = np.float32,
    observe: bool = False,
) -> dict[str, str]:
    """Write the graph to ``path`` and its weights to ``path`` + ``.data``, one tensor in memory at a time.

    Args:
        weights: the model's tensors.
        config: its shape.
        dialect: one of ``DIALECTS``: how attention is spelled.
        path: of the ``.onnx`` file.
        linear: how linear layers are spelled; float32 by default.
        table_type: in which the table of embeddings is stored: float32 or float16.
        observe: make the inputs of the encoder's linear layers outputs of the graph, to calibrate int8 by.

    Returns:
        With ``observe``, the output's name for each linear layer; else nothing.
    """
    with GraphBuilder(path.with_name(path.name + ".data")) as g:
        model = ModernBert(g, weights, config, dialect, linear or FloatLinear(), table_type)
        logits = model.logits()
    per_token = ("input_ids", "position_ids", "segment_ids")
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["rows", "tokens"]) for name in per_token]
    inputs.append(helper.make_tensor_value_info("slots", TensorProto.INT64, ["slots"]))
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", "slots", len(config.labels)])
    outputs = {logits: output}
    names = {}
    if observe:
        for i, (layer, value) in enumerate(model.linear_inputs.items()):
            names[layer] = f"linear_input_{i}"
            outputs[value] = helper.make_tensor_value_info(names[layer], TensorProto.FLOAT, None)
    onnx.save(g.model(inputs, outputs, OPSET, __version__), path)
    return names


class ModernBert:
    """Writes the model's nodes to ``g``; names of weights and scopes are those of ``transformers``."""

    def __init__(
        self,
        g: GraphBuilder,
        weights: Weights,
        config: ModernBertConfig,
        dialect: str,
        linear: FloatLinear,
        table_type: type[np.floating[Any]],
    ) -> None:
        self.g = g
        self.weights = weights
        self.config = config
        self.linear_kind = linear
        self.linear_inputs: dict[str, Value] = {}
        self.table_type = table_type
        self.attend = DIALECTS[dialect](g, config, Value("segment_ids"))
        self.rope_tables = {theta: self._rope_tables(theta) for theta in sorted({x.rope_theta for x in config.layers})}

    def logits(self) -> Value:
        """``[rows, slots, labels]``."""
        hidden = self.embeddings()
        for i, layer in enumerate(self.config.layers):
            with self.g.scope(f"layers.{i}"):
                hidden = self.encoder_layer(hidden, layer, f"model.layers.{i}", is_first=i == 0)
        hidden = self.norm(hidden, "final_norm", "model.final_norm")
        return self.classify(hidden)

    def embeddings(self) -> Value:
        """``[rows, tokens, hidden_size]``. Their layer norm is applied to the whole table, once and for all."""
        with self.g.scope("embeddings"):
            table = self.normalised_table().astype(self.table_type)
            rows = self.g.op("Gather", self.g.constant("normalised_table", table), Value("input_ids"))
            return rows if table.dtype == np.float32 else self.g.op("Cast", rows, to=TensorProto.FLOAT)

    def normalised_table(self) -> FloatArray:
        """The layer norm of each row of the embedding table, float32 ``[vocab_size, hidden_size]``."""
        table = self.weights.tensor("model.embeddings.tok_embeddings.weight")
        table -= table.mean(axis=1, keepdims=True)
        table /= np.sqrt(np.mean(table**2, axis=1, keepdims=True) + self.config.norm_eps)
        table *= self.weights.tensor("model.embeddings.norm.weight")
        if self.config.norm_bias:
            table += self.weights.tensor("model.embeddings.norm.bias")
        return table

    def encoder_layer(self, hidden: Value, layer: Layer, weights: str, is_first: bool) -> Value:
        """Pre-norm attention and MLP, each added to the residual stream."""
        g = self.g
        normed = hidden if is_first else self.norm(hidden, "attn_norm", f"{weights}.attn_norm")
        hidden = g.op("Add", hidden, self.attention(normed, layer, f"{weights}.attn"))
        normed = self.norm(hidden, "mlp_norm", f"{weights}.mlp_norm")
        return g.op("Add", hidden, self.mlp(normed, f"{weights}.mlp"))

    def attention(self, x: Value, layer: Layer, weights: str) -> Value:
        """Q, K and V are products of their own: splitting one product would copy its result."""
        with self.g.scope("attn"):
            q, k, v = self.split_linear(
                x, ("q_proj", "k_proj", "v_proj"), f"{weights}.Wqkv", self.config.attention_bias
            )
            q, k = self.rotate(q, layer, "q_rope"), self.rotate(k, layer, "k_rope")
            mix = self.attend.global_attention if layer.is_global else self.attend.sliding_attention
            return self.linear(mix(q, k, v), "Wo", f"{weights}.Wo", self.config.attention_bias)

    def rotate(self, x: Value, layer: Layer, name: str) -> Value:
        """Rotary position embedding of every head of ``x`` ``[rows, tokens, hidden_size]``."""
        with self.g.scope(name):
            cos, sin = self.rope_tables[layer.rope_theta]
            heads = self.config.num_attention_heads
            return self.g.op("RotaryEmbedding", x, cos, sin, Value("position_ids"), num_heads=heads)

    def mlp(self, x: Value, weights: str) -> Value:
        """Gated linear unit: Wo(act(up) * gate)."""
        with self.g.scope("mlp"):
            up, gate = self.split_linear(x, ("up", "gate"), f"{weights}.Wi", self.config.mlp_bias)
            x = self.g.op("Mul", self.activation(up, self.config.hidden_activation), gate)
            return self.linear(x, "Wo", f"{weights}.Wo", self.config.mlp_bias)

    def classify(self, hidden: Value) -> Value:
        """Pool each slot's tokens, then the prediction head and the classifier."""
        g, config = self.g, self.config
        with g.scope("pooling"):
            pooled, is_used = self.pool(hidden)
        with g.scope("head"):
            x = self.linear(pooled, "dense", "head.dense", config.classifier_bias)
            x = self.norm(self.activation(x, config.classifier_activation), "norm", "head.norm")
        logits = self.linear(x, "classifier", "classifier", has_bias=True)
        return g.op("Where", is_used, logits, g.scalar(0.0))

    def pool(self, hidden: Value) -> tuple[Value, Value]:
        """The mean over each slot's tokens, or its first token ("cls"): ``[rows, slots, hidden_size]``.

        Also returns which slots have tokens, bool ``[rows, slots, 1]``.
        """
        g = self.g
        slots = g.op("Unsqueeze", Value("slots"), g.ints(0, 2))  # [1, slots, 1]
        chosen = g.op("Equal", slots, g.op("Unsqueeze", Value("segment_ids"), g.ints(1)))  # [rows, slots, tokens]
        if self.config.classifier_pooling == "cls":
            is_first = g.op("Equal", Value("position_ids"), g.scalar(0))
            chosen = g.op("And", chosen, g.op("Unsqueeze", is_first, g.ints(1)))
        weights = g.op("Cast", chosen, to=TensorProto.FLOAT)
        count = g.op("ReduceSum", weights, g.ints(2))
        total = g.op("MatMul", weights, hidden)
        return g.op("Div", total, g.op("Max", count, g.scalar(1.0))), g.op("Greater", count, g.scalar(0.0))

    def norm(self, x: Value, name: str, weights: str) -> Value:
        """Layer normalisation over the width."""
        with self.g.scope(name):
            parameters = [self.g.constant("weight", self.weights.tensor(f"{weights}.weight"))]
            if self.config.norm_bias:
                parameters.append(self.g.constant("bias", self.weights.tensor(f"{weights}.bias")))
            return self.g.op("LayerNormalization", x, *parameters, epsilon=self.config.norm_eps)

    def linear(self, x: Value, name: str, weights: str, has_bias: bool) -> Value:
        """``x @ weight.T + bias`` with the whole of a checkpoint's linear layer."""
        (result,) = self.split_linear(x, (name,), weights, has_bias)
        return result

    def split_linear(self, x: Value, names: tuple[str, ...], weights: str, has_bias: bool) -> list[Value]:
        """One product for each of ``names``, with its equal share of a linear layer's outputs, in order."""
        weight = np.split(self.weights.tensor(f"{weights}.weight"), len(names))
        bias = np.split(self.weights.tensor(f"{weights}.bias"), len(names)) if has_bias else [None] * len(names)
        if weights.startswith("model.layers."):
            self.linear_inputs[weights] = x
        products = []
        for name, part, part_bias in zip(names, weight, bias, strict=True):
            with self.g.scope(name):
                products.append(self.linear_kind.product(self.g, x, weights, part, part_bias))
        return products

    def activation(self, x: Value, name: str) -> Value:
        """An activation function by its name in ``transformers``."""
        g = self.g
        if name == "gelu":
            return g.op("Gelu", x)
        if name in ("gelu_new", "gelu_pytorch_tanh"):
            return g.op("Gelu", x, approximate="tanh")
        if name in ("silu", "swish"):
            return g.op("Mul", x, g.op("Sigmoid", x))
        return g.op("Relu", x)  # the config admits no other

    def _rope_tables(self, theta: float) -> tuple[Value, Value]:
        """Cos and sin of every position's angles, ``[max_position_embeddings, head_size / 2]``.

        In float64 before they are rounded: an angle of thousands of radians has few digits left otherwise.
        """
        head = self.config.head_size
        frequencies = theta ** (-np.arange(0, head, 2) / head)
        angles = np.arange(self.config.max_position_embeddings)[:, None] * frequencies
        tables = (f(angles).astype(np.float32) for f in (np.cos, np.sin))
        cos, sin = (
            self.g.constant(f"rope_{theta:g}.{name}", t) for name, t in zip(("cos", "sin"), tables, strict=True)
        )
        return cos, sin
