"""ModernBERT in torch on packed batches: the tokens of all pairs in one row, as FlashAttention takes them.

    a a a a a a b b b b c c      tokens of the pairs of a batch
    0           6       10  12   bounds

It takes the modules of the model of transformers, and replaces only what needs a padded batch: attention, rotary
embeddings and pooling. Attention is torch's own ``varlen_attn`` (torch 2.11 or newer), so that no package beside torch
and transformers is required.

This module imports nothing of modernrank, because it runs in environments without it.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# Query, key and value ``[tokens, heads, size]``, bounds, tokens of the longest pair, and how many tokens before and
# after each are seen (-1 for all); returns ``[tokens, heads, size]``.
Attend = Callable[[Any, Any, Any, Any, int, tuple[int, int]], Any]
ALL = (-1, -1)


@dataclass(frozen=True)
class Packed:
    """A packed batch on the model's device.

    input_ids:    int64 ``[tokens]``.
    position_ids: int64 ``[1, tokens]``, from 0 in each pair.
    lengths:      int64 ``[pairs]``.
    bounds:       int32 ``[pairs + 1]``: where each pair begins, and the number of tokens.
    longest:      tokens of the longest pair.
    """

    input_ids: Any
    position_ids: Any
    lengths: Any
    bounds: Any
    longest: int


def pack(batch: dict[str, Any], device: str) -> Packed:
    """Pack what a tokenizer gives: ``input_ids`` and ``attention_mask`` ``[pairs, tokens]`` of torch."""
    import torch

    mask = batch["attention_mask"]
    is_token, lengths = mask.bool(), mask.sum(1)
    bounds = torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)
    positions = (mask.cumsum(1) - 1)[is_token][None]
    input_ids, positions, on_device, bounds = (
        tensor.to(device, non_blocking=True) for tensor in (batch["input_ids"][is_token], positions, lengths, bounds)
    )
    return Packed(input_ids, positions, on_device, bounds, int(lengths.max()))


def packed_logits(model: Any, packed: Packed, attend: Attend) -> Any:
    """Logits ``[pairs, labels]`` of a ``ModernBertForSequenceClassification``."""
    import torch

    hidden = model.model.embeddings(input_ids=packed.input_ids)
    rotations = {
        kind: model.model.rotary_emb(hidden, packed.position_ids, kind) for kind in set(model.config.layer_types)
    }
    for layer in model.model.layers:
        hidden = hidden + _attention(layer, hidden, rotations[layer.attention_type], packed, attend)
        hidden = hidden + layer.mlp(layer.mlp_norm(hidden))
    hidden = model.model.final_norm(hidden)
    if model.config.classifier_pooling == "cls":
        pooled = hidden[packed.bounds[:-1]]
    else:
        means = torch.segment_reduce(hidden.float(), "mean", lengths=packed.lengths, unsafe=True)
        pooled = means.to(hidden.dtype)
    return model.classifier(model.head(pooled))


def _attention(layer: Any, hidden: Any, rotation: tuple[Any, Any], packed: Packed, attend: Attend) -> Any:
    """The attention of a layer, with its projections."""
    attention = layer.attn
    qkv = attention.Wqkv(layer.attn_norm(hidden)).view(len(hidden), 3, -1, attention.head_dim)
    query, key = _rotated(qkv[:, :2], *rotation).unbind(1)
    window = ALL
    if layer.attention_type == "sliding_attention":
        reach = attention.config.sliding_window  # tokens on each side, half of the config's local_attention
        window = (reach, reach)
    out = attend(query, key, qkv[:, 2], packed.bounds, packed.longest, window)
    return attention.Wo(out.reshape(hidden.shape))


def _rotated(pairs: Any, cosines: Any, sines: Any) -> Any:
    """Rotary embeddings of ``[tokens, 2, heads, size]``, in float32 as transformers computes them."""
    import torch

    values = pairs.float()
    first, second = values.chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return (values * cosines[0, :, None, None] + turned * sines[0, :, None, None]).to(pairs.dtype)


def varlen_attention() -> Attend:
    """Attention by torch's FlashAttention kernels, which require a GPU and float16 or bfloat16.

    ``varlen_attn`` takes windows from torch 2.11 on; in earlier versions the operator below it does.
    """
    import torch

    try:
        from torch.nn.attention.varlen import varlen_attn

        has_windows = "window_size" in inspect.signature(varlen_attn).parameters
    except ImportError:
        has_windows = False

    def by_function(query: Any, key: Any, value: Any, bounds: Any, longest: int, window: tuple[int, int]) -> Any:
        return varlen_attn(query, key, value, bounds, bounds, longest, longest, window_size=window)

    def by_operator(query: Any, key: Any, value: Any, bounds: Any, longest: int, window: tuple[int, int]) -> Any:
        places = (bounds, bounds, longest, longest)
        before, after = window
        return torch.ops.aten._flash_attention_forward(
            *(query, key, value, *places, 0.0, False, False),
            window_size_left=before if before >= 0 else None,
            window_size_right=after if after >= 0 else None,
        )[0]

    return by_function if has_windows else by_operator


def looped_attention(query: Any, key: Any, value: Any, bounds: Any, longest: int, window: tuple[int, int]) -> Any:
    """The same on a processor, pair by pair: slow, for comparisons."""
    import torch

    out = torch.empty_like(query)
    places = bounds.tolist()
    for start, end in itertools.pairwise(places):
        position = torch.arange(end - start)
        distance = position[None] - position[:, None]  # key minus query
        before, after = (reach if reach >= 0 else longest for reach in window)
        seen = (distance >= -before) & (distance <= after)
        query_, key_, value_ = (tensor[start:end].transpose(0, 1) for tensor in (query, key, value))
        answer = torch.nn.functional.scaled_dot_product_attention(query_, key_, value_, attn_mask=seen)
        out[start:end] = answer.transpose(0, 1)
    return out
