"""``config.json``: both spellings mean the same, and what would change a score silently is refused by name."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modernrank import ArtifactError
from modernrank.export.models.modernbert.config import Layer, ModernBertConfig
from modernrank.export.models.modernbert.model import ModernBert
from modernrank.export.models.registry import read_architecture
from modernrank.export.models.rope import Rope
from support.checkpoints import checkpoint

NEW_ROPE = {
    "full_attention": {"rope_type": "default", "rope_theta": 160000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
}


def read_model(tmp_path: Path, **changes: Any) -> ModernBert:
    """The model of ``tiny`` with some fields of its config changed; a value of ... removes one."""
    raw = {**json.loads((checkpoint("tiny") / "config.json").read_text()), **changes}
    (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in raw.items() if v is not ...}))
    architecture = read_architecture(tmp_path)
    assert isinstance(architecture, ModernBert)
    return architecture


def read(tmp_path: Path, **changes: Any) -> ModernBertConfig:
    """Its encoder's config."""
    return read_model(tmp_path, **changes).config


def unscaled(theta: float) -> Rope:
    """Of the heads of ``tiny``, which have 8 channels."""
    return Rope(tuple((theta ** (-np.arange(0, 8, 2) / 8)).tolist()))


def test_layers_alternate_one_global_and_two_sliding(tmp_path: Path) -> None:
    full, sliding = Layer(True, unscaled(160000.0)), Layer(False, unscaled(10000.0))
    assert read(tmp_path).layers == (full, sliding, sliding) * 2
    assert read(tmp_path).reach == 64


def test_the_new_spelling_means_the_same(tmp_path: Path) -> None:
    old = read(tmp_path)
    types = ["full_attention", "sliding_attention", "sliding_attention"] * 2
    removed = dict.fromkeys(("global_rope_theta", "local_rope_theta", "global_attn_every_n_layers"), ...)
    assert read(tmp_path, **removed, layer_types=types, rope_parameters=NEW_ROPE) == old
    assert read(tmp_path, **removed) == old


def test_new_rope_parameters_win_over_the_old_fields(tmp_path: Path) -> None:
    """As in transformers, which fills only what ``rope_parameters`` leaves out."""
    layers = read(tmp_path, rope_parameters={"full_attention": {"rope_theta": 7.0}}).layers
    assert [layer.rope for layer in layers[:2]] == [unscaled(7.0), unscaled(10000.0)]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"model_type": "bert", "architectures": ["BertForSequenceClassification"]}, "architectures"),
        ({"model_type": "roberta", "architectures": ["RobertaForMaskedLM"]}, "architectures"),
        ({"architectures": ["ModernBertForMaskedLM"]}, "architectures"),
        ({"architectures": ...}, "architectures"),
        ({"model_type": "bert"}, "model_type"),
        ({"hidden_activation": "mish"}, "hidden_activation"),
        ({"classifier_activation": "hardswish"}, "classifier_activation"),
        ({"classifier_pooling": "max"}, "classifier_pooling"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 0}}}, "rope_parameters"),
        ({"rope_parameters": {"rope_theta": 1.0}}, "rope_parameters"),
        ({"local_rope_theta": None}, "local_rope_theta"),
        ({"layer_types": ["full_attention"]}, "layer_types"),
        ({"layer_types": ["chunked_attention"] * 6}, "layer_types"),
        ({"num_attention_heads": 5}, "num_attention_heads"),
        ({"head_dim": 16}, "head_dim"),
        ({"problem_type": "ranking"}, "problem_type"),
        ({"problem_type": 1}, "problem_type"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"id2label": {"0": "a", "2": "b"}}, "id2label"),
        ({"quantization_config": {"bits": 8}}, "quantization_config"),
        ({"pad_token_id": None}, "pad_token_id"),
        ({"pad_token_id": 512}, "pad_token_id"),
        ({"norm_eps": -1}, "norm_eps"),
        ({"norm_bias": "false"}, "norm_bias"),
        ({"hidden_size": True}, "hidden_size"),
        ({"is_decoder": True}, "is_decoder"),
    ],
)
def test_what_is_not_implemented_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ArtifactError) as refused:
        read(tmp_path, **changes)
    assert refused.value.details["field"] == field


def test_an_unknown_family_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError) as refused:
        read(tmp_path, model_type="roberta", architectures=["RobertaForMaskedLM"])
    assert refused.value.details["value"] == ["RobertaForMaskedLM"]
    assert "ModernBertForSequenceClassification" in refused.value.details["choices"]


WITH_EFFECT = [
    "architectures",
    "attention_bias",
    "classifier_activation",
    "classifier_bias",
    "classifier_pooling",
    "global_attn_every_n_layers",
    "global_rope_theta",
    "hidden_activation",
    "hidden_size",
    "id2label",
    "intermediate_size",
    "layer_types",
    "local_attention",
    "local_rope_theta",
    "max_position_embeddings",
    "mlp_bias",
    "model_type",
    "norm_bias",
    "norm_eps",
    "num_attention_heads",
    "num_hidden_layers",
    "pad_token_id",
    "rope_parameters",
    "rope_scaling",
    "vocab_size",
]


@pytest.mark.parametrize("wrong", ["text", [[1]], {"a": "b"}], ids=["string", "list", "object"])
@pytest.mark.parametrize("field", WITH_EFFECT)
def test_a_field_of_the_wrong_type_is_refused(tmp_path: Path, field: str, wrong: object) -> None:
    with pytest.raises(ArtifactError):
        read(tmp_path, **{field: wrong})


def test_unknown_fields_are_named_in_a_warning(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="attention_sinks"):
        read(tmp_path, attention_sinks=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(tmp_path)


def test_labels_come_in_order_and_default_to_two(tmp_path: Path) -> None:
    assert read_model(tmp_path, id2label={"1": "b", "0": "a"}).facts.labels == ("a", "b")
    assert read_model(tmp_path, id2label=...).facts.labels == ("LABEL_0", "LABEL_1")


@pytest.mark.parametrize("problem", [None, "regression", "single_label_classification", "multi_label_classification"])
def test_the_problem_is_known(tmp_path: Path, problem: str | None) -> None:
    assert read(tmp_path, problem_type=problem).problem_type == problem
    assert read(tmp_path, problem_type=...).problem_type is None


def test_a_missing_or_broken_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError) as refused:
        read_architecture(tmp_path)
    assert refused.value.details["path"] == tmp_path
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ArtifactError) as refused:
        read_architecture(tmp_path)
    assert refused.value.details["path"] == tmp_path / "config.json"


def test_the_fields_of_sentence_transformers_are_known(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(
            tmp_path,
            sentence_transformers={"activation_fn": "torch.nn.modules.linear.Identity"},
            sbert_ce_default_activation_function="torch.nn.modules.linear.Identity",
        )
