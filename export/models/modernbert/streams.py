"""The streams of ModernBERT: channels whose order is free, and the tensors that write or read them.

hidden            the residual stream: embeddings, all norms, the columns of Wqkv and Wi, the rows of both Wo; the head
                  says where it reads them
layers.N.values   what attention mixes: the rows of V in Wqkv, the columns of attn.Wo; a channel stays in its head
layers.N.inner    the gated unit: the rows of both halves of Wi, the columns of mlp.Wo

Queries and keys have none, because rotation ties their channels together.
"""

from __future__ import annotations

from modernrank.export.models.architecture import Axes, Stream
from modernrank.export.models.heads.head import Head

from .config import ModernBertConfig
from .tensors import EMBEDDINGS


def axes(config: ModernBertConfig, head: Head, tensor: str) -> Axes:
    """``Architecture.axes`` of a ModernBERT encoder with a head."""
    hidden = Stream("hidden", config.hidden_size)
    if tensor in head.shapes():
        return head.axes(tensor, hidden)
    name, _, kind = tensor.rpartition(".")
    rows_and_columns = _of_layer(config, name, hidden)
    if tensor == EMBEDDINGS:
        rows_and_columns = ((None,), (hidden,))
    elif name.endswith("norm") and name.startswith("model."):
        rows_and_columns = ((hidden,),)
    return rows_and_columns[:1] if kind == "bias" else rows_and_columns


def _of_layer(config: ModernBertConfig, name: str, hidden: Stream) -> Axes:
    """The axes of a weight of an encoder layer."""
    layer, _, kind = name.removeprefix("model.").rpartition(".attn." if ".attn." in name else ".mlp.")
    values = Stream(f"{layer}.values", config.hidden_size, config.num_attention_heads)
    inner = Stream(f"{layer}.inner", config.intermediate_size)
    if kind == "Wqkv":
        return (None, None, values), (hidden,)
    if kind == "Wi":
        return (inner, inner), (hidden,)
    if kind == "Wo":
        return (hidden,), (values if ".attn." in name else inner,)
    return ()
