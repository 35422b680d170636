"""Checkpoints for the original and for ours, side by side."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from pathlib import Path

import pytest

from modernrank.export import export_checkpoint
from support.checkpoints import DEMO, NAMES, checkpoint
from support.modular import ACTIVATION, CHAINS, IDENTITY, edit_json, write_modular

# The environment of the default suite has no sentence-transformers.
collect_ignore_glob = [] if importlib.util.find_spec("sentence_transformers") else ["*"]
# Nothing is asked of any network.
os.environ |= {"HF_HUB_OFFLINE": "1", "HAYSTACK_TELEMETRY_ENABLED": "False"}
# On a machine with other work, several threads of torch wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

PROMPTS = {"query": "query: ", "web": "search the web: "}


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Sequence classifiers of one label and of three, trained and modular ones, with activations of every source."""
    folder = tmp_path_factory.mktemp("checkpoints")
    known = {name: checkpoint(name) for name in NAMES} | {"demo": DEMO}
    for name, label in (("identity", IDENTITY), ("tanh", f"{ACTIVATION}Tanh")):
        known[name] = Path(shutil.copytree(checkpoint("tiny"), folder / name))
        config = json.loads((known[name] / "config.json").read_text())
        (known[name] / "config.json").write_text(
            json.dumps(config | {"sentence_transformers": {"activation_fn": label}})
        )
    known["older"] = Path(shutil.copytree(checkpoint("tiny"), folder / "older"))
    edit_json(known["older"] / "config.json", sbert_ce_default_activation_function=IDENTITY)
    known["modular"] = write_modular(folder / "modular", CHAINS["mean, tanh"])
    known["three"] = write_modular(folder / "three", CHAINS["joined, three labels"])
    known["prompts"] = write_modular(folder / "prompts", CHAINS["ettin"])
    edit_json(
        known["prompts"] / "config_sentence_transformers.json",
        prompts=PROMPTS,
        default_prompt_name="query",
        activation_fn=f"{ACTIVATION}Sigmoid",
    )
    return known


@pytest.fixture(scope="session")
def folders(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The artifact of each checkpoint, with the files of sentence-transformers."""
    folder = tmp_path_factory.mktemp("folders")
    for name, source in checkpoints.items():
        export_checkpoint(source, folder / name, frameworks=["sentence-transformers"])
    return {name: folder / name for name in checkpoints}
