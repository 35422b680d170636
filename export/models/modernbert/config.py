"""``config.json``, validated once: each field that changes a score is honoured here or refused by name."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from modernrank.artifact.json_records import read_json_object
from modernrank.errors import ArtifactError
from modernrank.export.graph.activations import ACTIVATIONS
from modernrank.export.models.rope import Rope, RopeFields, read_rope

from .pooling import POOLINGS

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
        "id2label",
        "initializer_cutoff_factor",
        "initializer_range",
        "label2id",
        "layer_norm_eps",
        "mlp_dropout",
        "model_type",
        "num_labels",
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


@dataclass(frozen=True)
class Layer:
    """One encoder layer: global (all tokens) or sliding (``reach`` tokens on each side), and its rotary embedding."""

    is_global: bool
    rope: Rope


@dataclass(frozen=True)
class ModernBertConfig:
    """A ModernBERT sequence classifier's architecture. Widths and lengths are counts."""

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
    classifier_bias: bool  # of head.dense; the classifier itself always has a bias
    hidden_activation: str
    classifier_activation: str
    classifier_pooling: str
    labels: tuple[str, ...]
    pad_token_id: int
    problem_type: str | None = None  # how its labels are meant; the logits do not depend on it

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @staticmethod
    def read(path: Path) -> ModernBertConfig:
        """Read ``config.json``, in the spelling of transformers 4 or 5.

        Raises:
            ArtifactError: a field has an effect that this exporter does not implement, or a value that is not allowed.
        """
        return _Reader(read_json_object(path), path).config()


class _Reader:
    """Takes fields one by one and remembers them, so that no unknown field is ignored silently."""

    def __init__(self, raw: Mapping[str, Any], path: Path) -> None:
        self._raw = raw
        self._path = path
        self._seen = set(WITHOUT_EFFECT)

    def config(self) -> ModernBertConfig:
        if self._raw.get("model_type") != "modernbert":
            self._refuse("model_type", self._raw.get("model_type"), "must be 'modernbert'")
        config = ModernBertConfig(
            vocab_size=self._count("vocab_size", 50368),
            hidden_size=self._count("hidden_size", 768),
            intermediate_size=self._count("intermediate_size", 1152),
            num_attention_heads=self._count("num_attention_heads", 12),
            layers=self._layers(),
            reach=self._count("local_attention", 128) // 2,
            max_position_embeddings=self._count("max_position_embeddings", 8192),
            norm_eps=self._positive("norm_eps", 1e-5),
            norm_bias=self._flag("norm_bias"),
            attention_bias=self._flag("attention_bias"),
            mlp_bias=self._flag("mlp_bias"),
            classifier_bias=self._flag("classifier_bias"),
            hidden_activation=self._one_of("hidden_activation", "gelu", tuple(ACTIVATIONS)),
            classifier_activation=self._one_of("classifier_activation", "gelu", tuple(ACTIVATIONS)),
            classifier_pooling=self._one_of("classifier_pooling", "cls", tuple(POOLINGS)),
            labels=self._labels(),
            pad_token_id=self._pad_token_id(),
            problem_type=self._problem_type(),
        )
        if config.hidden_size % config.num_attention_heads or config.head_size % 2:
            self._refuse(
                "num_attention_heads",
                config.num_attention_heads,
                f"does not divide hidden_size {config.hidden_size} evenly",
            )
        if self._take("head_dim", config.head_size) != config.head_size:
            self._refuse(
                "head_dim", self._raw["head_dim"], f"must be hidden_size / num_attention_heads = {config.head_size}"
            )
        self._check_the_rest()
        return config

    def _layers(self) -> tuple[Layer, ...]:
        count = self._count("num_hidden_layers", 22)
        period = self._count("global_attn_every_n_layers", 3)
        types = self._take("layer_types", None)
        if types is None:
            types = ["sliding_attention" if i % period else "full_attention" for i in range(count)]
        ropes = {kind: self._rope(kind) for kind in OLDER_THETAS}
        if not isinstance(types, list) or len(types) != count or not all(kind in list(ropes) for kind in types):
            self._refuse("layer_types", types, f"must be a list of {count}, each one of {', '.join(ropes)}")
        return tuple(Layer(kind == "full_attention", ropes[kind]) for kind in types)

    def _rope(self, kind: str) -> Rope:
        """A layer type's rotary embedding: ``rope_parameters`` (transformers 5), ``rope_scaling``, and older fields."""
        values, name = self._rope_values(kind)
        older_name, older_theta = OLDER_THETAS[kind]
        older_theta = self._take(older_name, older_theta)
        theta_name = name if "rope_theta" in values else older_name
        theta = self._check_positive(theta_name, values.pop("rope_theta", older_theta))
        heads = self._count("num_attention_heads", 12)
        size = (self._count("hidden_size", 768) // heads, self._count("max_position_embeddings", 8192))

        def refuse(why: str) -> NoReturn:
            self._refuse(name, self._raw.get(name), why)

        return read_rope(RopeFields(values, theta, *size, refuse))

    def _rope_values(self, kind: str) -> tuple[dict[str, Any], str]:
        """The parameters of a layer type, merged as transformers merges them, and the field that has them."""
        scaling, parameters = self._mapping("rope_scaling"), self._mapping("rope_parameters")
        name = "rope_scaling" if scaling else "rope_parameters"
        if not set(parameters) <= set(OLDER_THETAS):
            self._refuse("rope_parameters", parameters, f"must be keyed by {' and '.join(OLDER_THETAS)}")
        given = parameters.get(kind) or {}
        if not isinstance(given, dict):
            self._refuse("rope_parameters", parameters, "must map layer types to their parameters")
        values = {**(given or {"rope_type": "default"}), **scaling}
        older_type = values.pop("type", "default")
        if values.setdefault("rope_type", older_type) != older_type and older_type != "default":
            self._refuse(
                name,
                self._raw.get(name),
                f"has type {older_type!r}, which transformers ignores here in favour of rope_type "
                f"{values['rope_type']!r}; rename type to rope_type, or remove it",
            )
        part = self._take("partial_rotary_factor", None)
        if part is not None:
            values.setdefault("partial_rotary_factor", part)
        return values, name

    def _labels(self) -> tuple[str, ...]:
        count = self._count("num_labels", 2)
        names = self._mapping("id2label") or {str(i): f"LABEL_{i}" for i in range(count)}
        if not all(key.isdecimal() for key in names) or sorted(map(int, names)) != list(range(len(names))):
            self._refuse("id2label", names, "must number the labels from 0 without a gap")
        return tuple(str(names[key]) for key in sorted(names, key=int))

    def _problem_type(self) -> str | None:
        if self._take("problem_type", None) is None:
            return None
        return self._one_of("problem_type", "", PROBLEM_TYPES)

    def _check_the_rest(self) -> None:
        for name in ("quantization_config", "is_decoder", "add_cross_attention", "pruned_heads"):
            if self._take(name, None):
                self._refuse(name, self._raw[name], "is not implemented")
        unknown = sorted(set(self._raw) - self._seen)
        if unknown:
            warnings.warn(
                f"{self._path} has unknown fields, which are ignored: {', '.join(unknown)}; "
                "check the scores with `modernrank verify`",
                stacklevel=4,
            )

    def _take(self, name: str, default: Any) -> Any:
        self._seen.add(name)
        return self._raw.get(name, default)

    def _count(self, name: str, default: int) -> int:
        value = self._take(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            self._refuse(name, value, "must be a whole number, and the minimum is 1")
        return int(value)

    def _flag(self, name: str) -> bool:
        value = self._take(name, False)
        if not isinstance(value, bool):
            self._refuse(name, value, "must be true or false")
        return bool(value)

    def _positive(self, name: str, default: float) -> float:
        return self._check_positive(name, self._take(name, default))

    def _check_positive(self, name: str, value: Any) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < float("inf"):
            self._refuse(name, value, "must be a positive number")
        return float(value)

    def _mapping(self, name: str) -> dict[str, Any]:
        value = self._take(name, None)
        if value is not None and not isinstance(value, dict):
            self._refuse(name, value, "must be an object")
        return value or {}

    def _pad_token_id(self) -> int:
        value, vocabulary = self._take("pad_token_id", 50283), self._raw.get("vocab_size", 50368)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < vocabulary:
            self._refuse("pad_token_id", value, f"must be a token id below vocab_size {vocabulary}")
        return int(value)

    def _one_of(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        value = self._take(name, default)
        if value not in choices:
            self._refuse(name, value, f"is not implemented; implemented are {', '.join(choices)}")
        return str(value)

    def _refuse(self, name: str, value: object, why: str) -> NoReturn:
        raise ArtifactError(f"{self._path}: {name} = {value!r} {why}", path=self._path, field=name, value=value)
