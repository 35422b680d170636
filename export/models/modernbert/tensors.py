"""The tensors of a ModernBERT sequence classifier: their names and shapes in a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator

from .config import ModernBertConfig

EMBEDDINGS = "model.embeddings.tok_embeddings.weight"


def expected_shapes(config: ModernBertConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a ModernBertForSequenceClassification."""
    return dict(_tensors(config))


def _tensors(config: ModernBertConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    width, inner = config.hidden_size, config.intermediate_size

    def linear(name: str, outputs: int, inputs: int, bias: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield f"{name}.weight", (outputs, inputs)
        if bias:
            yield f"{name}.bias", (outputs,)

    def norm(name: str) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield f"{name}.weight", (width,)
        if config.norm_bias:
            yield f"{name}.bias", (width,)

    yield EMBEDDINGS, (config.vocab_size, width)
    yield from norm("model.embeddings.norm")
    for i in range(len(config.layers)):
        layer = f"model.layers.{i}"
        if i > 0:  # the first layer's input is normalised already, by the embeddings' norm
            yield from norm(f"{layer}.attn_norm")
        yield from linear(f"{layer}.attn.Wqkv", 3 * width, width, config.attention_bias)
        yield from linear(f"{layer}.attn.Wo", width, width, config.attention_bias)
        yield from norm(f"{layer}.mlp_norm")
        yield from linear(f"{layer}.mlp.Wi", 2 * inner, width, config.mlp_bias)
        yield from linear(f"{layer}.mlp.Wo", width, inner, config.mlp_bias)
    yield from norm("model.final_norm")
    yield from linear("head.dense", width, width, config.classifier_bias)
    yield from norm("head.norm")
    yield from linear("classifier", len(config.labels), width, True)
