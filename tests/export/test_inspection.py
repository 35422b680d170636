"""``modernrank info CHECKPOINT``: what a checkpoint is, and everything that stands in the way of its export."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from modernrank import ArtifactError
from modernrank.artifact.manifest import Manifest
from modernrank.cli import main
from modernrank.export import export_checkpoint
from modernrank.export.inspection import inspect_checkpoint
from support.checkpoints import DEMO, NAMES, checkpoint
from support.modular import CHAINS, edit_json, write_modular


@pytest.fixture
def modular(tmp_path: Path) -> Path:
    return write_modular(tmp_path / "checkpoint", CHAINS["ettin"])


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_that_can_be_exported_is_said_to_be(name: str, tmp_path: Path) -> None:
    found = inspect_checkpoint(checkpoint(name))
    assert found.can_be_exported
    assert found.weights == "complete"
    export_checkpoint(checkpoint(name), tmp_path / "artifact")
    model = Manifest.read(tmp_path / "artifact").model
    assert (found.family, found.layers, found.hidden_size) == (model.architecture, model.layers, model.hidden_size)
    assert (found.pooling, found.labels, found.activation) == (model.pooling, model.labels, model.activation)


def test_the_parameters_are_counted() -> None:
    """The demo model's own card says 2.8 million."""
    assert inspect_checkpoint(DEMO).parameters == pytest.approx(2.8e6, rel=0.02)


def test_a_modular_reranker_is_described_with_its_prompts(modular: Path) -> None:
    edit_json(modular / "config_sentence_transformers.json", prompts={"web": "search: "}, default_prompt_name="web")
    found = inspect_checkpoint(modular)
    assert found.can_be_exported
    assert found.described == ["ModernBertModel", "Pooling", "Dense", "LayerNorm", "Dense"]
    assert (found.reference, found.activation) == ("sentence-transformers", "logit")
    assert (found.prompts, found.default_prompt) == ({"web": "search: "}, "web")


def test_everything_that_stands_in_the_way_is_listed(modular: Path) -> None:
    (modular / "tokenizer.json").unlink()
    (modular / "2_Dense" / "model.safetensors").unlink()
    edit_json(modular / "config_sentence_transformers.json", activation_fn=5)
    obstacles = " ".join(inspect_checkpoint(modular).obstacles)
    assert all(fact in obstacles for fact in ("tokenizer.json", "2_Dense", "activation_fn"))


def test_another_architecture_is_named_with_what_can_be_exported(tmp_path: Path) -> None:
    shutil.copytree(checkpoint("tiny"), tmp_path / "checkpoint")
    edit_json(tmp_path / "checkpoint" / "config.json", architectures=["BertForSequenceClassification"])
    found = inspect_checkpoint(tmp_path / "checkpoint")
    assert found.described == ["BertForSequenceClassification"]
    assert "ModernBertForSequenceClassification" in found.obstacles[0]
    assert not found.can_be_exported


def test_what_would_be_ignored_is_a_warning(tmp_path: Path) -> None:
    shutil.copytree(checkpoint("tiny"), tmp_path / "checkpoint")
    edit_json(tmp_path / "checkpoint" / "config.json", attention_sinks=4)
    found = inspect_checkpoint(tmp_path / "checkpoint")
    assert found.can_be_exported
    assert any("attention_sinks" in warning for warning in found.warnings)


def test_what_is_no_checkpoint_is_refused() -> None:
    with pytest.raises(ArtifactError):
        inspect_checkpoint("/no/such/folder")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(["info", *arguments])
    return code, capsys.readouterr().out


def test_the_command_says_so_by_its_exit_code_too(modular: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, output = run(capsys, str(modular))
    assert code == 0
    assert f"modernrank export {modular}" in output
    (modular / "modules.json").unlink()
    code, output = run(capsys, str(modular))
    assert code == 1
    assert "ModernBertModel" in output


def test_the_command_prints_json(modular: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, output = run(capsys, str(modular), "--json")
    found: dict[str, Any] = json.loads(output)
    assert code == 0
    assert found["can_be_exported"] is True
    assert found == {**inspect_checkpoint(modular).as_json(), "checkpoint": str(modular)}


def test_a_missing_artifact_is_not_taken_for_a_hub_id(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(tmp_path / "missing")]) == 1
    assert "no artifact folder" in capsys.readouterr().err


def test_a_revision_is_for_hub_ids(artifacts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(artifacts / "tiny"), "--revision", "main"]) == 1
    assert "--revision" in capsys.readouterr().err
