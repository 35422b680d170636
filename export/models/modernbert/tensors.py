"""The tensors of a ModernBERT encoder: their shapes, by the names that they have in a sequence classifier."""

from __future__ import annotations

from modernrank.export.models.layers import linear_shapes, norm_shapes

from .config import ModernBertConfig

EMBEDDINGS = "model.embeddings.tok_embeddings.weight"


def expected_shapes(config: ModernBertConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the encoder."""
    width, inner = config.hidden_size, config.intermediate_size
    shapes: dict[str, tuple[int, ...]] = {EMBEDDINGS: (config.vocab_size, width)}
    shapes |= norm_shapes("model.embeddings.norm", width, config.norm_bias)
    for i in range(len(config.layers)):
        layer = f"model.layers.{i}"
        if i > 0:  # the first layer's input is normalised already, by the embeddings' norm
            shapes |= norm_shapes(f"{layer}.attn_norm", width, config.norm_bias)
        shapes |= linear_shapes(f"{layer}.attn.Wqkv", 3 * width, width, config.attention_bias)
        shapes |= linear_shapes(f"{layer}.attn.Wo", width, width, config.attention_bias)
        shapes |= norm_shapes(f"{layer}.mlp_norm", width, config.norm_bias)
        shapes |= linear_shapes(f"{layer}.mlp.Wi", 2 * inner, width, config.mlp_bias)
        shapes |= linear_shapes(f"{layer}.mlp.Wo", width, inner, config.mlp_bias)
    return shapes | norm_shapes("model.final_norm", width, config.norm_bias)
