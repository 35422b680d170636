"""``config.json`` of a ModernBERT encoder: each field that changes a score is honoured here or refused by name.

What a head needs of the same file, its family reads (``sequence_classifier.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

from modernrank.export.checkpoint.fields import Fields
from modernrank.export.graph.activations import ACTIVATIONS

# Fields that exist in checkpoints and do not change the logits.
WITHOUT_EFFECT = frozenset(
    [
        "_name_or_path",
        "architectures",
        "attention_dropout",
        "bos_token_id",
        "classifier_dropout",
        "cls_token_id",
        "decoder_bias",
        "deterministic_flash_attn",
        "dtype",
        "embedding_dropout",
        "eos_token_id",
        "gradient_checkpointing",
        "initializer_cutoff_factor",
        "initializer_range",
        "layer_norm_eps",
        "mlp_dropout",
        "model_type",
        "position_embedding_type",
        "problem_type",
        "reference_compile",
        "repad_logits_with_grad",
        "sbert_ce_default_activation_function",
        "sep_token_id",
        "sentence_transformers",
        "sparse_pred_ignore_index",
        "sparse_prediction",
        "tie_word_embeddings",
        "torch_dtype",
        "transformers_version",
        "unpad_inputs",
        "output_attentions",
        "output_hidden_states",
        "return_dict",
        "use_cache",
        "chunk_size_feed_forward",
    ]
)


# Fields that would change the logits, and are not implemented.
NOT_IMPLEMENTED = ("quantization_config", "is_decoder", "add_cross_attention", "pruned_heads")


@dataclass(frozen=True)
class Layer:
    """One encoder layer: global (all tokens) or sliding (``reach`` tokens on each side), and its RoPE base."""

    is_global: bool
    rope_theta: float


@dataclass(frozen=True)
class ModernBertConfig:
    """The architecture of a ModernBERT encoder. Widths and lengths are counts."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    layers: tuple[Layer, ...]
    reach: int  # tokens that a sliding layer sees on each side: |i - j| <= reach
    max_position_embeddings: int
    norm_eps: float
    norm_bias: bool
    attention_bias: bool
    mlp_bias: bool
    hidden_activation: str
    pad_token_id: int

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @staticmethod
    def read(fields: Fields) -> ModernBertConfig:
        """Take the encoder's fields of ``config.json``, in the spelling of transformers 4 or 5.

        Raises:
            ArtifactError: a field has an effect that this exporter does not implement, or a value that is not allowed.
        """
        model_type = fields.take("model_type")
        if model_type != "modernbert":
            fields.refuse("model_type", model_type, "must be 'modernbert'")
        fields.ignore(WITHOUT_EFFECT)
        fields.refuse_if_set(NOT_IMPLEMENTED)
        vocab_size = fields.count("vocab_size", 50368)
        config = ModernBertConfig(
            vocab_size=vocab_size,
            hidden_size=fields.count("hidden_size", 768),
            intermediate_size=fields.count("intermediate_size", 1152),
            num_attention_heads=fields.count("num_attention_heads", 12),
            layers=_layers(fields),
            reach=fields.count("local_attention", 128) // 2,
            max_position_embeddings=fields.count("max_position_embeddings", 8192),
            norm_eps=fields.positive("norm_eps", 1e-5),
            norm_bias=fields.flag("norm_bias"),
            attention_bias=fields.flag("attention_bias"),
            mlp_bias=fields.flag("mlp_bias"),
            hidden_activation=fields.one_of("hidden_activation", "gelu", ACTIVATIONS),
            pad_token_id=_pad_token_id(fields, vocab_size),
        )
        if config.hidden_size % config.num_attention_heads or config.head_size % 2:
            fields.refuse(
                "num_attention_heads",
                config.num_attention_heads,
                f"does not divide hidden_size {config.hidden_size} evenly",
            )
        head_size = fields.take("head_dim", config.head_size)
        if head_size != config.head_size:
            fields.refuse("head_dim", head_size, f"must be hidden_size / num_attention_heads = {config.head_size}")
        return config


def _layers(fields: Fields) -> tuple[Layer, ...]:
    count = fields.count("num_hidden_layers", 22)
    period = fields.count("global_attn_every_n_layers", 3)
    types = fields.take("layer_types")
    if types is None:
        types = ["sliding_attention" if i % period else "full_attention" for i in range(count)]
    thetas = _rope_thetas(fields)
    if not isinstance(types, list) or len(types) != count or not all(kind in list(thetas) for kind in types):
        fields.refuse("layer_types", types, f"must be a list of {count}, each one of {', '.join(thetas)}")
    return tuple(Layer(kind == "full_attention", thetas[kind]) for kind in types)


def _rope_thetas(fields: Fields) -> dict[str, float]:
    """RoPE's base by layer type: ``rope_parameters`` (transformers 5), else the two older fields."""
    scaling = fields.mapping("rope_scaling")
    if scaling and scaling.get("rope_type", scaling.get("type")) != "default":
        fields.refuse("rope_scaling", scaling, "is not implemented: only unscaled RoPE is")
    parameters = fields.mapping("rope_parameters")
    older = {
        "full_attention": ("global_rope_theta", fields.take("global_rope_theta", 160_000.0)),
        "sliding_attention": ("local_rope_theta", fields.take("local_rope_theta", 10_000.0)),
    }
    if not set(parameters) <= set(older):
        fields.refuse("rope_parameters", parameters, f"must be keyed by {' and '.join(older)}")
    thetas = {}
    for kind, (older_name, older_theta) in older.items():
        given = parameters.get(kind) or {}
        if not isinstance(given, dict):
            fields.refuse("rope_parameters", parameters, "must map layer types to their parameters")
        given = dict(given)
        if given.pop("rope_type", "default") != "default" or set(given) - {"rope_theta"}:
            fields.refuse("rope_parameters", parameters, "is not implemented: only unscaled RoPE with a rope_theta is")
        name = "rope_parameters" if "rope_theta" in given else older_name
        thetas[kind] = fields.check_positive(name, given.get("rope_theta", older_theta))
    return thetas


def _pad_token_id(fields: Fields, vocab_size: int) -> int:
    value = fields.take("pad_token_id", 50283)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < vocab_size:
        fields.refuse("pad_token_id", value, f"must be a token id below vocab_size {vocab_size}")
    return int(value)
