"""Which linear layers of ModernBERT can be quantised, and which tensors absorb the smoothing of their inputs.

into attn.Wqkv  attn_norm's gain and bias         (not in the first layer, which has no norm of its own)
into attn.Wo    the rows of V in Wqkv
into mlp.Wi     mlp_norm's gain and bias
into mlp.Wo     the rows of the gate in Wi
"""

from __future__ import annotations

from modernrank.export.models.architecture import LinearLayer

from .config import ModernBertConfig

# For each kind of tensor: the linear layer beside or after it, and the number of equal parts of the tensor's rows, of
# which the last one makes that layer's input: V is the last third of Wqkv, the gate the second half of Wi.
ABSORBERS = {
    "attn_norm": ("attn.Wqkv", 1),
    "attn.Wqkv": ("attn.Wo", 3),
    "mlp_norm": ("mlp.Wi", 1),
    "mlp.Wi": ("mlp.Wo", 2),
}
KINDS = ("attn.Wqkv", "attn.Wo", "mlp.Wi", "mlp.Wo")


def linear_layers(config: ModernBertConfig) -> list[LinearLayer]:
    """The linear layers of the encoder, in the order in which they run."""
    return [_linear_layer(i, kind) for i in range(len(config.layers)) for kind in KINDS]


def _linear_layer(layer: int, kind: str) -> LinearLayer:
    return LinearLayer(
        f"model.layers.{layer}.{kind}",
        can_be_smoothed=(layer, kind) != (0, "attn.Wqkv"),
        adds_to_residual=kind.endswith(".Wo"),
        input_is_product=kind == "mlp.Wo",
    )


def absorbed_by(layer: str) -> tuple[str, int]:
    """The linear layer whose smoothing the tensors of ``layer`` absorb, and the number of parts of their rows.

    >>> absorbed_by("model.layers.2.attn.Wqkv")
    ('model.layers.2.attn.Wo', 3)
    >>> absorbed_by("model.final_norm")
    ('', 1)
    """
    for kind, (reader, parts) in ABSORBERS.items():
        if layer.startswith("model.layers.") and layer.endswith(f".{kind}"):
            return f"{layer.removesuffix(kind)}{reader}", parts
    return "", 1
