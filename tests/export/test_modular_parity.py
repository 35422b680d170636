"""Live, against sentence-transformers: modular rerankers that it saves itself, of every kind and of real shapes.

Run by ``make parity``; requires torch, transformers and sentence-transformers.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from modernrank import Reranker
from modernrank.export import export_checkpoint, verify_artifact
from support.checkpoints import checkpoint, golden
from support.modular import CHAINS, HALF_TYPES, golden_of, write_modular

pytestmark = pytest.mark.parity

PAIRS = [tuple(pair) for pair in golden("tiny")["pairs"]]
# The sizes of the Ettin family; each is 22 layers deep at most here, and has a small vocabulary.
FAMILY = {
    "17M": {"hidden_size": 256, "intermediate_size": 384, "num_hidden_layers": 7, "num_attention_heads": 4},
    "150M": {"hidden_size": 768, "intermediate_size": 1152, "num_hidden_layers": 22, "num_attention_heads": 12},
}
ROPE = {"rope_type": "default", "rope_theta": 160_000.0}


def assert_agrees(folder: Path, artifact: Path) -> None:
    """Scores of texts, with the model's own prompt and activation, are those of ``CrossEncoder.predict``."""
    from sentence_transformers import CrossEncoder

    expected = CrossEncoder(str(folder), local_files_only=True).predict(PAIRS, batch_size=8)
    with Reranker.load(artifact) as reranker:
        assert reranker.score(PAIRS, activation="model") == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", CHAINS)
def test_every_chain_agrees_over_the_grid(tmp_path: Path, name: str) -> None:
    folder = write_modular(tmp_path / "checkpoint", CHAINS[name])
    export_checkpoint(folder, tmp_path / "artifact")
    assert_agrees(folder, tmp_path / "artifact")
    parity = verify_artifact(tmp_path / "artifact", folder, longest=1000)
    assert parity.passed, parity.table()
    assert "sentence_transformers" in parity.against


@pytest.mark.parametrize("dtype", HALF_TYPES)
def test_weights_in_half_precision_agree(tmp_path: Path, dtype: str) -> None:
    folder = write_modular(tmp_path / "checkpoint", CHAINS["residuals"], HALF_TYPES[dtype], shards=2)
    export_checkpoint(folder, tmp_path / "artifact")
    assert verify_artifact(tmp_path / "artifact", folder, longest=257).passed


@pytest.mark.parametrize(("precision", "gain"), [("int8", None), ("fp16", 1.5)])
def test_other_precisions_stay_within_their_bounds(tmp_path: Path, precision: str, gain: float | None) -> None:
    """With the usual small weights the first token hardly sees the text, so scores vary less than float16 rounds.

    Large weights amplify the errors of int8 from layer to layer, which those of a trained model do not.
    """
    folder = save(tmp_path, FAMILY["17M"], "cls", gain=gain)
    export_checkpoint(folder, tmp_path / "artifact", precision=precision)
    parity = verify_artifact(tmp_path / "artifact", folder, longest=257, precision=precision)  # type: ignore[arg-type]
    assert parity.passed, parity.table()


def save(
    folder: Path, sizes: dict[str, int], mode: str, prompts: dict[str, str] | None = None, gain: float | None = None
) -> Path:
    """A modular reranker of random weights, saved by sentence-transformers itself.

    Args:
        folder: where.
        sizes: of the encoder.
        mode: of pooling.
        prompts: by name; the first is the default one.
        gain: how much larger a linear layer makes a vector, on average; None for the usual small weights.
    """
    import torch
    from sentence_transformers import CrossEncoder
    from sentence_transformers.cross_encoder.modules import Dense, Transformer
    from sentence_transformers.sentence_transformer.modules import LayerNorm, Pooling
    from transformers import ModernBertConfig, ModernBertModel

    torch.manual_seed(0)
    ids = {"cls_token_id": 508, "bos_token_id": 508, "sep_token_id": 509, "eos_token_id": 509, "pad_token_id": 510}
    rope = {"full_attention": ROPE, "sliding_attention": ROPE}
    config = ModernBertConfig(**{**ids, **sizes, "vocab_size": 512, "rope_parameters": rope})
    encoder = ModernBertModel(config)
    for name, weight in encoder.named_parameters():
        if gain is not None and weight.ndim == 2 and "embeddings" not in name:
            torch.nn.init.normal_(weight, std=gain * weight.shape[1] ** -0.5)
    encoder.save_pretrained(folder / "encoder")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(checkpoint("tiny") / name, folder / "encoder" / name)
    width = config.hidden_size
    modules = [
        Transformer(str(folder / "encoder"), transformer_task="feature-extraction"),
        Pooling(width, mode),
        Dense(width, width, bias=False, activation_function=torch.nn.GELU()),
        LayerNorm(width),
        Dense(width, 1, activation_function=torch.nn.Identity(), module_output_name="scores"),
    ]
    for module in modules[2], modules[4]:
        torch.nn.init.normal_(module.linear.weight, std=1.5 * width**-0.5)
    default = next(iter(prompts)) if prompts else None
    model = CrossEncoder(
        modules=modules, prompts=prompts, default_prompt_name=default, activation_fn=torch.nn.Identity()
    )
    model.save_pretrained(str(folder / "checkpoint"))
    return folder / "checkpoint"


@pytest.mark.parametrize("size", FAMILY)
def test_the_shapes_of_the_ettin_family_agree(tmp_path: Path, size: str) -> None:
    folder = save(tmp_path, FAMILY[size], "cls")
    export_checkpoint(folder, tmp_path / "artifact")
    assert_agrees(folder, tmp_path / "artifact")
    assert verify_artifact(tmp_path / "artifact", folder, longest=130).passed


def test_prompts_and_pooling_of_a_saved_model_agree(tmp_path: Path) -> None:
    folder = save(tmp_path, FAMILY["17M"], "mean", {"web": "search the web: "})
    export_checkpoint(folder, tmp_path / "artifact")
    assert_agrees(folder, tmp_path / "artifact")
    assert verify_artifact(tmp_path / "artifact", folder, longest=64).passed


def test_the_default_prompt_of_a_sequence_classifier_agrees(tmp_path: Path) -> None:
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(checkpoint("tiny")), prompts={"rerank": "query: "}, default_prompt_name="rerank")
    model.save_pretrained(str(tmp_path / "checkpoint"))
    export_checkpoint(tmp_path / "checkpoint", tmp_path / "artifact")
    assert_agrees(tmp_path / "checkpoint", tmp_path / "artifact")
    assert verify_artifact(tmp_path / "artifact", tmp_path / "checkpoint", longest=64).passed


def test_the_golden_scores_are_those_of_the_installed_version(tmp_path: Path) -> None:
    from sentence_transformers import CrossEncoder
    from torch import nn

    folder = write_modular(tmp_path / "checkpoint", CHAINS["ettin"])
    scores = CrossEncoder(str(folder)).predict(PAIRS, activation_fn=nn.Identity(), batch_size=1)
    assert np.abs(scores - golden_of("ettin").ravel()).max() < 1e-5
