"""``config.json`` of a ModernBERT encoder: each field that changes a score is honoured here or refused by name.

What a head needs of the same file, its family reads (``sequence_classifier.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

from modernrank.export.checkpoint.fields import Fields
from modernrank.export.graph.activations import ACTIVATIONS
from modernrank.export.models.rope import Rope, RopeFields, read_rope

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

PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")
# The field that had RoPE's base of each layer type before ``rope_parameters``, and its default.
OLDER_THETAS = {
    "full_attention": ("global_rope_theta", 160_000.0),
    "sliding_attention": ("local_rope_theta", 10_000.0),
}


# Fields that would change the logits, and are not implemented.
NOT_IMPLEMENTED = ("quantization_config", "is_decoder", "add_cross_attention", "pruned_heads")


@dataclass(frozen=True)
class Layer:
    """One encoder layer: global (all tokens) or sliding (``reach`` tokens on each side), and its rotary embedding."""

    is_global: bool
    rope: Rope


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
    problem_type: str | None = None  # how its labels are meant; the logits do not depend on it

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
            problem_type=_problem_type(fields),
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
    ropes = {kind: _rope(fields, kind) for kind in OLDER_THETAS}
    if not isinstance(types, list) or len(types) != count or not all(kind in list(ropes) for kind in types):
        fields.refuse("layer_types", types, f"must be a list of {count}, each one of {', '.join(ropes)}")
    return tuple(Layer(kind == "full_attention", ropes[kind]) for kind in types)


def _rope(fields: Fields, kind: str) -> Rope:
    """A layer type's rotary embedding: ``rope_parameters`` (transformers 5), ``rope_scaling``, and older fields."""
    values, name = _rope_values(fields, kind)
    older_name, older_theta = OLDER_THETAS[kind]
    older_theta = fields.take(older_name, older_theta)
    theta_name = name if "rope_theta" in values else older_name
    theta = fields.check_positive(theta_name, values.pop("rope_theta", older_theta))
    heads = fields.count("num_attention_heads", 12)
    size = (fields.count("hidden_size", 768) // heads, fields.count("max_position_embeddings", 8192))

    def refuse(why: str) -> NoReturn:
        fields.refuse(name, fields.take(name), why)

    return read_rope(RopeFields(values, theta, *size, refuse))


def _rope_values(fields: Fields, kind: str) -> tuple[dict[str, Any], str]:
    """The parameters of a layer type, merged as transformers merges them, and the field that has them."""
    scaling, parameters = fields.mapping("rope_scaling"), fields.mapping("rope_parameters")
    name = "rope_scaling" if scaling else "rope_parameters"
    if not set(parameters) <= set(OLDER_THETAS):
        fields.refuse("rope_parameters", parameters, f"must be keyed by {' and '.join(OLDER_THETAS)}")
    given = parameters.get(kind) or {}
    if not isinstance(given, dict):
        fields.refuse("rope_parameters", parameters, "must map layer types to their parameters")
    values = {**(given or {"rope_type": "default"}), **scaling}
    older_type = values.pop("type", "default")
    if values.setdefault("rope_type", older_type) != older_type and older_type != "default":
        fields.refuse(
            name,
            fields.take(name),
            f"has type {older_type!r}, which transformers ignores here in favour of rope_type "
            f"{values['rope_type']!r}; rename type to rope_type, or remove it",
        )
    part = fields.take("partial_rotary_factor")
    if part is not None:
        values.setdefault("partial_rotary_factor", part)
    return values, name


def _problem_type(fields: Fields) -> str | None:
    if fields.take("problem_type") is None:
        return None
    return fields.one_of("problem_type", "", PROBLEM_TYPES)


def _pad_token_id(fields: Fields, vocab_size: int) -> int:
    value = fields.take("pad_token_id", 50283)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < vocab_size:
        fields.refuse("pad_token_id", value, f"must be a token id below vocab_size {vocab_size}")
    return int(value)
