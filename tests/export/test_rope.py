"""Scaled rotary embeddings: the figures of transformers, and what is refused because it would change a score silently.

``test_live_parity.py`` compares whole models of each kind with transformers.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modernrank import ArtifactError, InputError, Reranker
from modernrank.export import export_checkpoint
from modernrank.export.checkpoint.fields import Fields
from modernrank.export.models.modernbert.config import ModernBertConfig
from support.checkpoints import checkpoint

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
LLAMA3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1, "high_freq_factor": 4}
ORIGINAL = 512  # tokens


def read(folder: Path, **changes: Any) -> ModernBertConfig:
    """The config of ``tiny``, with heads of 12 channels and 512 positions, and with some fields changed."""
    raw = json.loads((checkpoint("tiny") / "config.json").read_text())
    raw |= {"hidden_size": 48, "num_attention_heads": 4, "max_position_embeddings": ORIGINAL, **changes}
    path = folder / "config.json"
    path.write_text(json.dumps(raw))
    return ModernBertConfig.read(Fields(path))


@pytest.mark.parametrize(
    ("scaling", "frequencies", "magnitude"),
    [
        ({"rope_type": "default"}, [1, 1.3572e-1, 1.8420e-2, 2.5000e-3, 3.3930e-4, 4.6050e-5], 1.0),
        (
            {"rope_type": "linear", "factor": 4.0},
            [0.25, 3.3930e-2, 4.6050e-3, 6.2500e-4, 8.4826e-5, 1.1513e-5],
            1.0,
        ),
        (
            {"rope_type": "linear", "factor": 4.0, "rope_theta": 500.0},
            [0.25, 0.0887, 0.0315, 0.0112, 0.0040, 0.0014],
            1.0,
        ),
        ({"rope_type": "dynamic", "factor": 4.0}, [1, 1.3572e-1, 1.8420e-2, 2.5000e-3, 3.3930e-4, 4.6050e-5], 1.0),
        (
            {"rope_type": "proportional", "factor": 4.0, "partial_rotary_factor": 0.4},
            [0.25, 3.3930e-2, 0, 0, 0, 0],
            1.0,
        ),
        (YARN, [1, 8.4826e-2, 4.6050e-3, 6.2500e-4, 8.4826e-5, 1.1513e-5], 1.138629436111989),
        ({**YARN, "factor": None}, [1, 8.4826e-2, 4.6050e-3, 6.2500e-4, 8.4826e-5, 1.1513e-5], 1.138629436111989),
        (LLAMA3, [1, 1.3572e-1, 6.9122e-3, 6.2500e-4, 8.4826e-5, 1.1513e-5], 1.0),
    ],
    ids=lambda value: value["rope_type"] if isinstance(value, dict) else "",
)
def test_the_angles_are_those_that_transformers_prints(
    tmp_path: Path, scaling: dict[str, Any], frequencies: list[float], magnitude: float
) -> None:
    """For global layers; printed by transformers 5.24 with five significant digits, or four decimals."""
    rope = read(tmp_path, rope_scaling=scaling).layers[0].rope
    assert np.allclose(rope.frequencies, frequencies, rtol=5e-5, atol=5e-5 if "rope_theta" in scaling else 5e-6)
    assert rope.magnitude == pytest.approx(magnitude, rel=1e-12)


def test_the_magnitude_multiplies_both_tables(tmp_path: Path) -> None:
    rope = read(tmp_path, rope_scaling={**YARN, "attention_factor": 3.0}).layers[0].rope
    cos, sin = rope.table(5)
    assert cos.shape == sin.shape == (5, 6)
    assert np.allclose(cos**2 + sin**2, 9.0)
    assert cos[0].tolist() == [3.0] * 6


def test_each_layer_type_has_its_own_scaling(tmp_path: Path) -> None:
    parameters = {"full_attention": YARN, "sliding_attention": {"type": "linear", "factor": 2.0}}
    full, sliding = (layer.rope for layer in read(tmp_path, rope_parameters=parameters).layers[:2])
    assert full.magnitude > 1
    assert (sliding.magnitude, sliding.frequencies[0]) == (1.0, 0.5)


def test_the_older_spelling_scales_both_layer_types(tmp_path: Path) -> None:
    full, sliding = (
        layer.rope for layer in read(tmp_path, rope_scaling={"rope_type": "linear", "factor": 2}).layers[:2]
    )
    assert full.frequencies[0] == sliding.frequencies[0] == 0.5
    assert full.frequencies[1] < sliding.frequencies[1]  # their bases stay


@pytest.mark.parametrize(
    ("scaling", "fact"),
    [
        ({"rope_type": "longrope", "short_factor": [1.0] * 6, "long_factor": [2.0] * 6}, "longrope"),
        ({"rope_type": "su", "factor": 2.0}, "su"),
        ({"rope_type": None}, "None"),
        ({"rope_type": ["yarn"]}, "yarn"),
        ({"rope_type": "linear", "type": "yarn", "factor": 2.0}, "type"),
        ({"rope_type": "linear"}, "factor"),
        ({"rope_type": "dynamic"}, "factor"),
        ({"rope_type": "yarn"}, "factor"),
        ({"rope_type": "linear", "factor": 0}, "factor"),
        ({"rope_type": "linear", "factor": "2"}, "factor"),
        ({"rope_type": "linear", "factor": True}, "factor"),
        ({"rope_type": "linear", "factor": 2.0, "beta_fast": 32}, "beta_fast"),
        ({"factor": 2.0}, "factor"),
        ({"rope_type": "linear", "factor": 2.0, "partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"rope_type": "proportional", "partial_rotary_factor": 1.5}, "partial_rotary_factor"),
        ({**YARN, "truncate": False}, "truncate"),
        ({**YARN, "attention_factor": -1.0}, "attention_factor"),
        ({**YARN, "rope_theta": 1.0}, "rope_theta"),
        ({**YARN, "original_max_position_embeddings": 0}, "original_max_position_embeddings"),
        ({**YARN, "original_max_position_embeddings": 128.5}, "original_max_position_embeddings"),
        ({**LLAMA3, "high_freq_factor": 1}, "high_freq_factor"),
        ({"rope_type": "llama3", "factor": 4.0}, "low_freq_factor"),
    ],
)
@pytest.mark.parametrize("field", ["rope_scaling", "rope_parameters"])
def test_what_is_not_implemented_is_refused_by_name(
    tmp_path: Path, scaling: dict[str, Any], fact: str, field: str
) -> None:
    value = scaling if field == "rope_scaling" else {"full_attention": scaling}
    with pytest.raises(ArtifactError, match=fact) as refused:
        read(tmp_path, **{field: value})
    assert refused.value.details["field"] == field
    assert refused.value.details["path"] == tmp_path / "config.json"


def test_a_type_that_transformers_ignores_is_refused(tmp_path: Path) -> None:
    """Beside ``rope_parameters`` or instead of them, it would run such a model without scaling."""
    with pytest.raises(ArtifactError, match="yarn") as refused:
        read(tmp_path, rope_scaling={"type": "yarn", "factor": 2.0})
    assert refused.value.details["field"] == "rope_scaling"
    assert read(tmp_path, rope_scaling={"type": "default"}).layers == read(tmp_path).layers


def test_a_part_of_the_channels_beside_the_parameters_counts_too(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="partial_rotary_factor"):
        read(tmp_path, partial_rotary_factor=0.5, rope_scaling={"rope_type": "linear", "factor": 2.0})
    scaling = {"rope_type": "proportional"}
    rope = read(tmp_path, partial_rotary_factor=0.5, rope_scaling=scaling).layers[0].rope
    assert rope.frequencies[3:] == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("asked", [1e30, 100_000, ORIGINAL, None])
def test_the_model_limits_a_tokenizer_that_accepts_more(broken_checkpoint: Path, tmp_path: Path, asked: object) -> None:
    """A scaled model has as many positions as its config says, however far its factor would reach."""
    config = json.loads((broken_checkpoint / "config.json").read_text())
    config |= {"max_position_embeddings": ORIGINAL, "rope_scaling": YARN}
    (broken_checkpoint / "config.json").write_text(json.dumps(config))
    settings = {"truncation_side": "right"} | ({} if asked is None else {"model_max_length": asked})
    (broken_checkpoint / "tokenizer_config.json").write_text(json.dumps(settings))
    assert export_checkpoint(broken_checkpoint, tmp_path / "out").max_length == ORIGINAL
    with pytest.raises(InputError, match="max_position_embeddings") as refused:
        Reranker.load(tmp_path / "out", max_length=ORIGINAL + 1)
    assert refused.value.details["limit"] == ORIGINAL
    with Reranker.load(tmp_path / "out", threads=1) as reranker:
        assert reranker.max_length == ORIGINAL
        long = ("query", "x " * 2 * ORIGINAL)
        assert np.isfinite(reranker.score([long], on_truncate=lambda cut: None)).all()
        assert reranker.count_tokens([long]).tolist() == [ORIGINAL]
