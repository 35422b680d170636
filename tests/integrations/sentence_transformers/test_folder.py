"""Folders of ``modernrank export --with sentence-transformers`` in the real ``CrossEncoder``, unchanged."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder

from modernrank import ArtifactError, InputError, Reranker
from modernrank.artifact.folder import Artifact
from modernrank.integrations.sentence_transformers.module import ModernRank
from support.hub import serving_hub

from .side_by_side import DOCUMENTS, PAIRS, PREDICT, QUERY, RANK, WITH_PROMPTS, Call, assert_same

pytestmark = [
    pytest.mark.integrations,
    pytest.mark.filterwarnings("ignore::modernrank.TruncationWarning"),
]

NAMES = ["demo", "tanh", "prompts", "tiny-cls"]


def loaded(folder: Path, **options: Any) -> Any:
    return CrossEncoder(str(folder), trust_remote_code=True, device="cpu", **options)


class Both:
    """The folder and its checkpoint in the same class, loaded when first asked for."""

    def __init__(self, folders: dict[str, Path], checkpoints: dict[str, Path]) -> None:
        self.folders, self.checkpoints = folders, checkpoints
        self.models: dict[str, tuple[Any, Any]] = {}

    def __getitem__(self, name: str) -> tuple[Any, Any]:
        if name not in self.models:
            original = CrossEncoder(str(self.checkpoints[name]), device="cpu", model_kwargs={"dtype": "float32"})
            self.models[name] = loaded(self.folders[name]), original
        return self.models[name]


@pytest.fixture(scope="module")
def both(folders: dict[str, Path], checkpoints: dict[str, Path]) -> Iterator[Both]:
    models = Both(folders, checkpoints)
    yield models
    for ours, _ in models.models.values():
        ours[0].reranker.close()


@pytest.mark.parametrize("call", PREDICT.values(), ids=PREDICT)
@pytest.mark.parametrize("name", NAMES)
def test_predict(both: Both, name: str, call: Call) -> None:
    ours, theirs = both[name]
    assert isinstance(ours[0], ModernRank)
    assert_same(call(ours), call(theirs))


@pytest.mark.parametrize("call", RANK.values(), ids=RANK)
def test_rank(both: Both, call: Call) -> None:
    ours, theirs = both["demo"]
    assert_same(call(ours), call(theirs))


@pytest.mark.parametrize("call", WITH_PROMPTS.values(), ids=WITH_PROMPTS)
def test_named_prompts(both: Both, call: Call) -> None:
    ours, theirs = both["prompts"]
    with warnings.catch_warnings(action="ignore"):
        assert_same(call(ours), call(theirs))


def test_several_labels_are_not_ranked(both: Both) -> None:
    with pytest.raises(ValueError, match="num_labels"):
        both["tiny-cls"][0].rank(QUERY, DOCUMENTS)


def test_scores_are_those_of_reranker(folders: dict[str, Path]) -> None:
    with Reranker.load(folders["demo"]) as reranker:
        expected = reranker.score(PAIRS, activation="model")
    np.testing.assert_allclose(loaded(folders["demo"]).predict(PAIRS), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "given",
    [
        {"max_length": 16},
        {"processor_kwargs": {"model_max_length": 16, "truncation_side": "left"}},
        {"num_labels": 1},
        {"activation_fn": torch.nn.Identity()},
        {"prompts": {"mine": "mine: "}, "default_prompt_name": "mine"},
    ],
    ids=str,
)
def test_constructors(folders: dict[str, Path], checkpoints: dict[str, Path], given: dict[str, Any]) -> None:
    theirs = CrossEncoder(str(checkpoints["tiny"]), device="cpu", **copy.deepcopy(given))
    assert_same(loaded(folders["tiny"], **copy.deepcopy(given)).predict(PAIRS), theirs.predict(PAIRS))


def test_a_lower_limit_counts_and_can_be_taken_back(both: Both) -> None:
    ours, theirs = both["tanh"]
    for length in (20, 8192):
        ours.max_seq_length = theirs.max_seq_length = length
        assert ours.max_seq_length == length
        assert_same(ours.predict(PAIRS), theirs.predict(PAIRS))


def test_options_of_the_engine(folders: dict[str, Path]) -> None:
    model = loaded(
        folders["tiny"], model_kwargs={"threads": 1, "provider": "CPUExecutionProvider", "precision": "fp32"}
    )
    assert (model[0].reranker.info.threads, model[0].reranker.info.provider) == (1, "cpu")


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"model_kwargs": {"device_map": "auto"}}, InputError),
        ({"model_kwargs": {"torch_dtype": "bfloat16"}}, InputError),
        ({"model_kwargs": {"precision": "int8"}}, ArtifactError),
        ({"processor_kwargs": {"max_pixels": 3}}, InputError),
        ({"config_kwargs": {"hidden_size": 3}}, InputError),
        ({"num_labels": 2}, InputError),
        ({"backend": "openvino"}, InputError),
    ],
    ids=str,
)
def test_what_cannot_be_honoured_is_refused(
    folders: dict[str, Path], given: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        loaded(folders["tiny"], **given)


def test_a_text_that_is_none_is_refused(both: Both) -> None:
    with pytest.raises(InputError, match="pair 0"):
        both["demo"][0].predict([("a", None)])


def test_a_folder_without_trust_is_refused_by_sentence_transformers(folders: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="trust_remote_code"):
        CrossEncoder(str(folders["tiny"]))


def test_a_newer_modernrank_is_required_by_name(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "newer"
    loaded(folders["tiny"]).save(str(folder))
    settings = json.loads((folders["tiny"] / "config_sentence_transformers.json").read_text())
    settings["requirements"]["modernrank"]["specifier"] = ">=99"
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    with pytest.raises(ImportError, match="modernrank>=99"):
        loaded(folder)


def test_what_is_saved_loads_and_is_whole(both: Both, tmp_path: Path) -> None:
    ours, theirs = both["prompts"]
    ours.save_pretrained(str(tmp_path / "saved"))
    again = loaded(tmp_path / "saved")
    assert again.prompts == theirs.prompts
    assert_same(again.predict(PAIRS), theirs.predict(PAIRS))
    artifact = Artifact.open(tmp_path / "saved")
    artifact.check_files(list(artifact.manifest.files))
    again.save_pretrained(str(tmp_path / "saved"))  # to where it is
    assert_same(loaded(tmp_path / "saved").predict(PAIRS), theirs.predict(PAIRS))


def test_copies_and_pickles_load_for_themselves(folders: dict[str, Path]) -> None:
    model = loaded(folders["tiny"], max_length=16)
    expected = model.predict(PAIRS)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other[0].reranker is not model[0].reranker
        assert_same(other.predict(PAIRS), expected)


def test_threads_share_a_folder(both: Both) -> None:
    model, _ = both["demo"]
    expected = model.predict(PAIRS)
    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(model.predict(PAIRS))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == len(threads)
    for scores in results:
        np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-6)


def test_a_pool_of_processes(folders: dict[str, Path], tmp_path: Path) -> None:
    """As in a script of a user: the processes import the main module."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nfrom sentence_transformers import CrossEncoder\n"
        "if __name__ == '__main__':\n"
        "    model = CrossEncoder(sys.argv[1], trust_remote_code=True, device='cpu', model_kwargs={'threads': 1})\n"
        "    pairs = [('a', str(number)) for number in range(100)]\n"
        "    difference = model.predict(pairs, device=['cpu', 'cpu']) - model.predict(pairs)\n"
        "    print(float(abs(difference).max()) < 1e-6)\n"
    )
    done = subprocess.run([sys.executable, script, folders["tiny"]], capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "True", done.stderr


def test_a_folder_on_the_hub(folders: dict[str, Path], tmp_path: Path) -> None:
    """The hub is one on this machine."""
    code = (
        "import sys\nfrom sentence_transformers import CrossEncoder\n"
        "model = CrossEncoder(sys.argv[1], trust_remote_code=True, device='cpu')\n"
        "print(type(model[0]).__name__, float(model.predict(('a', 'b'))))"
    )
    with serving_hub(folders["tiny"], "someone/artifact") as hub:
        environment = {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}
        known = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
        command = [sys.executable, "-c", code, "someone/artifact"]
        done = subprocess.run(command, env=known | environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    name, score = done.stdout.split()
    assert name == ModernRank.__name__
    assert float(score) == pytest.approx(float(loaded(folders["tiny"]).predict(("a", "b"))), abs=1e-6)
