"""Live, against transformers: the verification grid on models of every kind, and on the real models' shapes.

Run by ``make parity``; requires torch and transformers.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modernrank import ArtifactError, Reranker
from modernrank.artifact.manifest import Manifest
from modernrank.benchmarks.reporting.result import Result
from modernrank.export import export_checkpoint, record_parity, verify_artifact
from modernrank.export.models.published_logits import PUBLISHED
from modernrank.export.precision.calibration import read_calibration
from support.checkpoints import checkpoint
from support.memory import resident_after_rounds

pytestmark = pytest.mark.parity

SMALL: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "pad_token_id": 510,
    "classifier_pooling": "mean",
    "id2label": {0: "LABEL_0"},
}
BIASES = dict.fromkeys(("norm_bias", "attention_bias", "mlp_bias", "classifier_bias"), True)


def rope(full: float, sliding: float) -> dict[str, Any]:
    thetas = {"full_attention": full, "sliding_attention": sliding}
    return {kind: {"rope_type": "default", "rope_theta": theta} for kind, theta in thetas.items()}


def scaled(rope_type: str, **fields: Any) -> dict[str, Any]:
    """RoPE for 512 tokens, scaled by 4, in the spelling of transformers 4."""
    return {"max_position_embeddings": 512, "rope_scaling": {"rope_type": rope_type, "factor": 4.0, **fields}}


KINDS: dict[str, dict[str, Any]] = {
    "as the target": {},
    "biases, cls, three labels": {**BIASES, "classifier_pooling": "cls", "id2label": {0: "a", 1: "b", 2: "c"}},
    "narrow window": {"local_attention": 16},
    "odd window": {"local_attention": 33},
    "wide window": {"local_attention": 300},
    "all global": {"layer_types": ["full_attention"] * 5},
    "all sliding": {"layer_types": ["sliding_attention"] * 5},
    "other pattern and thetas": {
        "layer_types": ["sliding_attention", "full_attention"] * 2 + ["sliding_attention"],
        "rope_parameters": rope(5_000.0, 99_999.0),
    },
    "one head": {"num_attention_heads": 1},
    "silu and relu": {"hidden_activation": "silu", "classifier_activation": "relu"},
    "tanh gelu": {"hidden_activation": "gelu_new", "classifier_activation": "gelu_pytorch_tanh"},
    "large norm_eps": {"norm_eps": 0.1},
    "linear RoPE": scaled("linear"),
    "dynamic RoPE": scaled("dynamic"),
    "proportional RoPE": scaled("proportional", partial_rotary_factor=0.4),
    "YaRN": scaled("yarn", original_max_position_embeddings=128),
    "YaRN with all its fields": scaled(
        "yarn", original_max_position_embeddings=64, beta_fast=8, beta_slow=2, mscale=1.0, mscale_all_dim=0.5
    ),
    "llama3 RoPE": scaled("llama3", original_max_position_embeddings=128, low_freq_factor=1, high_freq_factor=4),
    "YaRN in global layers only": {
        "max_position_embeddings": 512,
        "rope_parameters": {
            "full_attention": {"rope_type": "yarn", "factor": 4.0, "attention_factor": 1.5},
            "sliding_attention": {"rope_type": "linear", "factor": 2.0},
        },
    },
}
# Full depth and width of the published models, with a small vocabulary.
SHAPES: dict[str, dict[str, Any]] = {
    "ModernBERT-base": {
        "hidden_size": 768,
        "intermediate_size": 1152,
        "num_hidden_layers": 22,
        "num_attention_heads": 12,
    },
    "ModernBERT-large": {
        "hidden_size": 1024,
        "intermediate_size": 2624,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
    },
}


def make_checkpoint(folder: Path, spread: float | None = 1.5, **settings: Any) -> Path:
    """Random weights: ``spread`` over the usual deviation makes every token and layer move the logits, None is mild."""
    import torch
    from transformers import ModernBertConfig, ModernBertForSequenceClassification

    torch.manual_seed(0)
    config = ModernBertConfig(**{**SMALL, **settings})
    model = ModernBertForSequenceClassification(config)
    with torch.no_grad():
        for parameter in model.parameters() if spread else ():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
            else:
                parameter.normal_(0.0, spread * parameter.shape[1] ** -0.5)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(checkpoint("tiny") / name, folder / name)
    return folder


@pytest.mark.parametrize("graph", ["ort-cpu", "standard", "padded"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model(tmp_path: Path, kind: str, graph: str) -> None:
    source = make_checkpoint(tmp_path / "checkpoint", **KINDS[kind])
    export_checkpoint(source, tmp_path / "artifact", graph=graph)
    parity = verify_artifact(tmp_path / "artifact", source, longest=130 if graph == "standard" else 257)
    print(parity.table())
    assert parity.passed
    assert parity.scores_std > 0.01  # else anything would agree
    assert Manifest.read(tmp_path / "artifact").parity["fp32"]["passed"] is True


@pytest.mark.parametrize("graph", ["ort-cpu", "padded"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_published_shapes(tmp_path: Path, shape: str, graph: str) -> None:
    source = make_checkpoint(tmp_path / "checkpoint", spread=0.6, **SHAPES[shape])
    export_checkpoint(source, tmp_path / "artifact", graph=graph)
    parity = verify_artifact(tmp_path / "artifact", source, longest=130)
    print(parity.table())
    assert parity.passed


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the target's width and transformers' own initialisation, with 4 layers."""
    shape = {**SHAPES["ModernBERT-base"], "num_hidden_layers": 4}
    return make_checkpoint(tmp_path_factory.mktemp("wide"), spread=None, **shape)


def test_memory_returns_after_long_pairs(wide: Path, tmp_path: Path) -> None:
    export_checkpoint(wide, tmp_path / "artifact")
    levels = resident_after_rounds(tmp_path / "artifact", (5, 200, 1000, 3000, 1000, 5), rounds=3)
    assert all(abs(level - levels[0]) < 0.2 * levels[0] for level in levels), levels


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """JSON lines of pairs: four queries with ten documents each."""
    passages = [document for _, document in read_calibration(None).pairs[1:81:8]]
    queries = [query for query, _ in read_calibration(None).pairs[:64:16]]
    lines = [json.dumps({"query": query, "document": document}) for query in queries for document in passages]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    return tmp_path / "pairs.jsonl"


def test_int8_is_faithful(wide: Path, tmp_path: Path, texts: Path) -> None:
    """By the command's own verification: scores and rankings of text pairs against transformers."""
    export_checkpoint(wide, tmp_path / "artifact", precision="int8")
    parity = verify_artifact(tmp_path / "artifact", wide, longest=66, pairs_file=texts)
    print(parity.table())
    assert parity.passed
    assert parity.fidelity is not None
    assert parity.fidelity.rms < 0.01
    assert Manifest.read(tmp_path / "artifact").parity["int8"]["fidelity"]["top10"] >= 0.9


@pytest.mark.parametrize("graph", ["tensorrt", "tensorrt-decomposed"])
def test_float16_is_faithful(wide: Path, tmp_path: Path, texts: Path, graph: str) -> None:
    """Emulated: as a GPU stores it. torch's own float16 is at 0.1 to 0.4 % of the scores' deviation."""
    export_checkpoint(wide, tmp_path / "artifact", precision="fp16", graph=graph)
    result = verify_artifact(tmp_path / "artifact", wide, longest=66, pairs_file=texts)
    assert result.passed, result.table()
    assert result.fidelity is not None
    assert result.fidelity.rms <= 0.007
    assert result.ran_on.endswith("on cpu, float16 emulated")


def test_the_gpu_check_goes_through_on_a_processor(tmp_path: Path) -> None:
    """Its steps, and that a second call does not repeat them."""
    work, out = tmp_path / "work", tmp_path / "result.json"
    command = [sys.executable, "-m", "modernrank.benchmarks.gpu.check", str(work), "--out", str(out)]
    command += ["--like", str(checkpoint("tiny")), "--provider", "cpu", "--device", "cpu", "--threads", "2"]
    command += ["--longest", "130", "--rounds", "2", "--seconds", "1", "--peer", "transformers fp32"]
    subprocess.run(command, check=True)
    result = Result.read(out)
    assert {name: parity["passed"] for name, parity in result.environment["parity"].items()} == {
        "plain fp32": True,
        "outliers fp32": True,
    }
    assert not any(m.error for m in result.measurements)
    assert {m.workload for m in result.measurements if m.scenario == "query"} == {
        *("1 x 128 tokens", "32 x 100 tokens", "mix"),
    }
    assert {m.workload for m in result.measurements if m.scenario == "run"} == {
        *("1 x 128 tokens", "8 x 128 tokens", "32 x 128 tokens"),
    }
    assert result.environment["steps"]["threads"]["result"]["largest_difference"] < 1e-4
    second = subprocess.run([*command, "--only", "runs"], capture_output=True, text=True, check=True)
    assert "runs: complete" in second.stderr
    assert Result.read(out).measurements == result.measurements


def test_a_step_that_fails_takes_nothing_else_with_it(tmp_path: Path) -> None:
    """Without a checkpoint the steps before it are kept, and the error says which file is missing."""
    command = [
        sys.executable,
        "-m",
        "modernrank.benchmarks.gpu.check",
        str(tmp_path),
        "--out",
        str(tmp_path / "out.json"),
    ]
    command += ["--like", str(tmp_path / "none"), "--provider", "cpu", "--device", "cpu"]
    done = subprocess.run([*command, "--only", "machine", "--only", "prepare-plain"], capture_output=True, text=True)
    assert done.returncode == 1
    steps = Result.read(tmp_path / "out.json").environment["steps"]
    assert steps["machine"]["complete"]
    assert not steps["prepare-plain"]["complete"]
    assert "none" in steps["prepare-plain"]["error"]
    plan = subprocess.run([*command, "--plan"], capture_output=True, text=True, check=True).stdout
    assert [line.split()[0] for line in plan.splitlines() if "complete" in line] == ["machine"]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_other_pairs_change_no_bit_at_full_width(wide: Path, tmp_path: Path, precision: str) -> None:
    """The kernels of wide layers and many heads, over the lengths where the graph takes another branch."""
    export_checkpoint(wide, tmp_path / "artifact", precision=precision)
    pairs = [("query", "x " * words) for words in (1, 7, 7, 40, 90, 91, 150, 200, 201, 520)]
    pairs = [(query, f"{document}{i}") for i, (query, document) in enumerate(pairs)]
    with Reranker.load(tmp_path / "artifact", precision=precision, threads=2) as side_by_side:
        together = side_by_side.score(pairs)
        alone = np.concatenate([side_by_side.score([pair]) for pair in pairs])
    with Reranker.load(tmp_path / "artifact", precision=precision, threads=1) as one_thread:
        shuffled = one_thread.score(pairs[::-1])[::-1]
    assert np.array_equal(alone, together)
    assert np.array_equal(shuffled, together)


def test_long_pairs(tmp_path: Path) -> None:
    source = checkpoint("tiny")
    export_checkpoint(source, tmp_path / "artifact")
    parity = verify_artifact(tmp_path / "artifact", source)
    assert parity.passed
    assert max(row.length for row in parity.rows) == 8192


def test_long_texts_of_a_padded_graph(tmp_path: Path) -> None:
    export_checkpoint(checkpoint("tiny"), tmp_path / "artifact", graph="padded")
    parity = verify_artifact(tmp_path / "artifact", checkpoint("tiny"), longest=2048)
    assert parity.passed


@pytest.mark.parametrize("place", ["right", "left", "between"])
@pytest.mark.parametrize("kind", ["as the target", "wide window", "all sliding"])
def test_padding_anywhere_gives_the_logits_of_transformers(tmp_path: Path, kind: str, place: str) -> None:
    import onnxruntime
    import torch
    from transformers import AutoModelForSequenceClassification

    source = make_checkpoint(tmp_path / "checkpoint", **KINDS[kind])
    export_checkpoint(source, tmp_path / "artifact", graph="padded")
    rng = np.random.default_rng(0)
    ids, column = rng.integers(10, 500, (4, 210)), np.arange(210)
    length = np.array([210, 150, 66, 3])[:, None]
    mask = {
        "right": column < length,
        "left": column >= 210 - length,
        "between": (column < length // 2) | (column >= 210 - (length - length // 2)),
    }[place].astype(np.int64)
    assert (mask.sum(axis=1) == length[:, 0]).all()
    session = onnxruntime.InferenceSession(tmp_path / "artifact" / "model.fp32.onnx")
    (logits,) = session.run(None, {"input_ids": ids, "attention_mask": mask})
    model = AutoModelForSequenceClassification.from_pretrained(source, dtype=torch.float32).eval()
    with torch.inference_mode():
        expected = model(torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).logits.numpy()
    assert expected.std() > 0.01
    assert np.abs(logits - expected).max() < 1e-4


def test_another_checkpoint_is_refused(tmp_path: Path) -> None:
    export_checkpoint(checkpoint("tiny"), tmp_path / "artifact")
    with pytest.raises(ArtifactError) as refused:
        verify_artifact(tmp_path / "artifact", checkpoint("tiny-cls"))
    assert "model.safetensors" in refused.value.details["files"]


def test_a_verification_is_recorded_only_if_it_should_be(tmp_path: Path) -> None:
    export_checkpoint(checkpoint("tiny"), tmp_path / "artifact")
    parity = verify_artifact(tmp_path / "artifact", checkpoint("tiny"), longest=64, record=False)
    assert Manifest.read(tmp_path / "artifact").parity == {}
    record_parity(tmp_path / "artifact", parity)
    assert Manifest.read(tmp_path / "artifact").parity["fp32"]["passed"] is True


def test_the_command_prints_the_table_and_fails_where_scores_differ(tmp_path: Path) -> None:
    export_checkpoint(checkpoint("tiny"), tmp_path / "artifact")
    command = [sys.executable, "-m", "modernrank", "verify", str(tmp_path / "artifact"), "--longest", "64", "--against"]
    done = subprocess.run([*command, str(checkpoint("tiny"))], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "agrees" in done.stdout
    info = subprocess.run([*command[:3], "info", command[4]], capture_output=True, text=True)
    assert "fp32: agrees" in info.stdout


@pytest.mark.parametrize(("model", "revision"), PUBLISHED)
def test_a_real_model_gives_its_published_logits(model: str, revision: str, tmp_path: Path) -> None:
    """Where the real weights are in the hub cache."""
    from huggingface_hub import try_to_load_from_cache

    if not isinstance(try_to_load_from_cache(model, "model.safetensors", revision=revision), str):
        pytest.skip(f"{model} at {revision} is not in the hub cache")
    export_checkpoint(model, tmp_path / "artifact", revision=revision)
    parity = verify_artifact(tmp_path / "artifact", model, longest=512)
    assert len(parity.published) == len(PUBLISHED[model, revision])
    assert parity.passed, parity.verdict()
    query = "what is the capital of China?"
    with Reranker.load(tmp_path / "artifact") as reranker:
        assert reranker.rank(query, ["Paris", "Beijing"])[0].document == "Beijing"
