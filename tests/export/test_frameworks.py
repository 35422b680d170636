"""Files with which frameworks load an artifact as a model of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modernrank import InputError, Reranker
from modernrank.cli import artifacts as commands
from modernrank.cli import main
from modernrank.export import export_checkpoint
from modernrank.export.frameworks import FRAMEWORKS, MODULE
from support.checkpoints import checkpoint
from support.layout import ROOT
from support.modular import ACTIVATION, CHAINS, IDENTITY, edit_json, write_modular

FILES = ("modules.json", "config_sentence_transformers.json")


def settings_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / FILES[1]).read_text())
    return content


@pytest.mark.parametrize(
    ("name", "activation"), [("tiny", f"{ACTIVATION}Sigmoid"), ("tiny-cls", IDENTITY)], ids=["one label", "three"]
)
def test_the_command_adds_the_files(tmp_path: Path, name: str, activation: str) -> None:
    folder = tmp_path / "artifact"
    assert main(["export", str(checkpoint(name)), "--out", str(folder), "--with", "sentence-transformers"]) == 0
    assert json.loads((folder / FILES[0]).read_text()) == [{"idx": 0, "name": "0", "path": "", "type": MODULE}]
    settings = settings_of(folder)
    assert (settings["model_type"], settings["activation_fn"]) == ("CrossEncoder", activation)
    with Reranker.load(folder) as reranker:
        assert set(FILES) <= set(reranker.manifest.files)


def test_the_module_exists() -> None:
    path = MODULE.removeprefix("modernrank.").rpartition(".")[0].replace(".", "/")
    assert f"class {MODULE.rpartition('.')[2]}(" in (ROOT / f"{path}.py").read_text()


def test_prompts_and_another_activation_are_kept(tmp_path: Path) -> None:
    source = write_modular(tmp_path / "source", CHAINS["ettin"])
    prompts = {"query": "query: ", "web": "search the web: "}
    tanh = f"{ACTIVATION}Tanh"
    edit_json(source / FILES[1], prompts=prompts, default_prompt_name="query", activation_fn=tanh)
    with pytest.warns(UserWarning, match="Tanh"):
        export_checkpoint(source, tmp_path / "artifact", frameworks=["sentence-transformers"])
    settings = settings_of(tmp_path / "artifact")
    assert (settings["prompts"], settings["default_prompt_name"]) == (prompts, "query")
    assert settings["activation_fn"] == tanh


def test_without_the_option_there_are_none(artifacts: Path) -> None:
    assert not any((artifacts / "tiny" / name).exists() for name in FILES)


def test_an_unknown_framework_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        export_checkpoint(checkpoint("tiny"), tmp_path / "artifact", frameworks=["transformers"])
    assert refused.value.details["choices"] == tuple(FRAMEWORKS)
    assert not (tmp_path / "artifact").exists()


def test_the_command_knows_them_all() -> None:
    assert tuple(FRAMEWORKS) == commands.FRAMEWORKS
