"""``CrossEncoder`` without torch and without sentence-transformers: results of numpy, arguments and errors.

``tests/integrations/sentence_transformers`` compares it with the original.
"""

from __future__ import annotations

import copy
import importlib
import json
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modernrank import InputError, ProviderError, Reranker
from modernrank.integrations.sentence_transformers import CrossEncoder
from support.modular import edit_json

PAIRS = [("capital of China?", "Beijing"), ("capital of China?", "Paris"), ("", "")]


@pytest.fixture(scope="module")
def model(artifacts: Path) -> Iterator[CrossEncoder]:
    with CrossEncoder(artifacts / "tiny") as loaded:
        yield loaded


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in an environment that has none."""
    monkeypatch.setitem(sys.modules, "torch", None)


@pytest.mark.usefixtures("without_torch")
@pytest.mark.parametrize("name", [None, "identity", "logit", "Sigmoid", "softmax", "torch.nn.modules.linear.Identity"])
def test_scores_are_those_of_reranker(model: CrossEncoder, reranker: Reranker, name: str | None) -> None:
    known = {None: "model", "Sigmoid": "sigmoid"}
    if name == "softmax":
        assert model.predict(PAIRS, activation_fn=name).tolist() == [1, 1, 1]
        return
    expected = reranker.score(PAIRS, activation=known.get(name, "logit"))  # type: ignore[arg-type]
    scores = model.predict(PAIRS, activation_fn=name)
    np.testing.assert_array_equal(scores, expected)
    assert (scores.dtype, scores.flags.writeable) == (np.float32, True)


@pytest.mark.usefixtures("without_torch")
@pytest.mark.parametrize("prompt", ["", "search: "])
def test_a_single_text_is_scored_behind_its_prompt(model: CrossEncoder, reranker: Reranker, prompt: str) -> None:
    (expected,) = reranker.score_texts([f"{prompt}a text without a document"], activation="model")
    assert model.predict("a text without a document", prompt=prompt) == expected


@pytest.mark.usefixtures("without_torch")
def test_ranking_is_that_of_reranker(model: CrossEncoder, reranker: Reranker) -> None:
    documents = ["Paris", "Beijing", "Rome", "Paris"]
    expected = reranker.rank("capital?", documents, 3, activation="model")
    found = model.rank("capital?", documents, top_k=3, return_documents=True)
    assert [(entry["corpus_id"], entry["text"]) for entry in found] == [(x.index, x.document) for x in expected]
    assert [entry["score"] for entry in found] == pytest.approx([x.score for x in expected], abs=1e-6)


@pytest.mark.usefixtures("without_torch")
@pytest.mark.parametrize(
    "given",
    [{"convert_to_tensor": True}, {"convert_to_numpy": False}, {"activation_fn": abs}],
    ids=["tensor", "list", "callable"],
)
def test_what_requires_torch_says_so(model: CrossEncoder, given: dict[str, Any]) -> None:
    with pytest.raises(ImportError, match="pip install torch"):
        model.predict(PAIRS, **given)


def test_several_labels(artifacts: Path) -> None:
    with CrossEncoder(artifacts / "tiny-cls", num_labels=3) as model:
        assert model.predict(PAIRS).shape == (3, 3)
        assert model.predict(PAIRS[0]).shape == (3,)
        np.testing.assert_allclose(model.predict(PAIRS, apply_softmax=True).sum(axis=1), 1, rtol=1e-6)


REFUSED: dict[str, dict[str, Any]] = {
    "modules": {"modules": [1]},
    "backend": {"backend": "openvino"},
    "model_card_data": {"model_card_data": object()},
    "keep_in_fp32_modules": {"keep_in_fp32_modules": ["2.linear"]},
    "model_kwargs": {"model_kwargs": {"device_map": "auto"}},
    "processor_kwargs": {"processor_kwargs": {"max_pixels": 1}},
    "config_kwargs": {"config_kwargs": {"hidden_size": 1}},
    "num_labels": {"num_labels": 2},
    "device": {"device": "mps"},
    "activation_fn": {"activation_fn": "relu"},
    "prompt_name": {"default_prompt_name": "unknown"},
    "max_length": {"max_length": 0},
}


@pytest.mark.parametrize(("argument", "given"), REFUSED.items(), ids=REFUSED)
def test_arguments_are_refused_by_name(artifacts: Path, argument: str, given: dict[str, Any]) -> None:
    with pytest.raises(InputError) as refused:
        CrossEncoder(artifacts / "tiny", **given)
    assert refused.value.details["argument"] == argument


@pytest.mark.parametrize("dtype", ["bfloat16", "torch.float16"])
def test_half_precision_is_refused(artifacts: Path, dtype: str) -> None:
    with pytest.raises(InputError, match="precision"):
        CrossEncoder(artifacts / "tiny", model_kwargs={"torch_dtype": dtype})


def test_a_processor_does_not_stand_in_for_a_gpu(artifacts: Path) -> None:
    with pytest.raises(ProviderError):
        CrossEncoder(artifacts / "tiny", device="cuda")


@pytest.mark.parametrize(
    ("given", "argument"), [({"token": "x"}, "token"), ({"local_files_only": True}, "local_files_only")]
)
def test_arguments_for_the_hub_are_refused(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], argument: str
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with pytest.raises(InputError) as refused:
        CrossEncoder("someone/reranker", **given)
    assert refused.value.details["argument"] == argument


def test_a_name_is_required() -> None:
    with pytest.raises(InputError) as refused:
        CrossEncoder()
    assert refused.value.details["argument"] == "model_name_or_path"


def test_options_of_the_engine_are_passed_on(artifacts: Path) -> None:
    with CrossEncoder(artifacts / "tiny-int8", model_kwargs={"precision": "int8", "threads": 1}) as model:
        assert (model.reranker.info.precision, model.reranker.info.threads, model.device) == ("int8", 1, "cpu")


def test_a_checkpoint_is_exported_once(tmp_path: Path, broken_checkpoint: Path) -> None:
    with CrossEncoder(str(broken_checkpoint), cache_folder=str(tmp_path / "cache")) as model:
        expected = model.predict(PAIRS)
    exported = list((tmp_path / "cache").rglob("manifest.json"))
    assert len(exported) == 1
    written = exported[0].stat().st_mtime_ns
    with CrossEncoder(str(broken_checkpoint), cache_folder=str(tmp_path / "cache")) as model:
        np.testing.assert_array_equal(model.predict(PAIRS), expected)
    assert exported[0].stat().st_mtime_ns == written


def test_older_names_are_warned_of(artifacts: Path, model: CrossEncoder) -> None:
    with pytest.warns(FutureWarning, match="sentences"):
        model.predict(sentences=PAIRS)  # type: ignore[call-arg]
    with pytest.warns(FutureWarning, match="num_labels, max_length"):
        CrossEncoder(artifacts / "tiny", 1, 16).close()  # type: ignore[misc]
    with pytest.raises(TypeError), pytest.warns(FutureWarning):
        CrossEncoder(artifacts / "tiny", 1, 16, None, "cpu", "more")  # type: ignore[misc]


def test_calls_are_refused_by_name(model: CrossEncoder) -> None:
    for given in ({"device": "cuda"}, {"pool": {"processes": []}}, {"batch_size": 0}, {"prompt_name": "unknown"}):
        with pytest.raises(InputError) as refused:
            model.predict(PAIRS, **given)
        assert refused.value.details["argument"] == next(iter(given))
    for text in ({"max_length": 0}, {"truncation": False}, {"stride": 3}):
        with pytest.raises(InputError):
            model.predict(PAIRS, processing_kwargs={"text": text})


@pytest.mark.parametrize("inputs", [iter(PAIRS), 3, None, {"a": "b"}, {("a", "b")}])
def test_what_has_no_order_or_is_read_once_is_refused(model: CrossEncoder, inputs: object) -> None:
    with pytest.raises(InputError) as refused:
        model.predict(inputs)
    assert refused.value.details["argument"] == "inputs"


def test_what_only_the_original_has_says_where_to_go(model: CrossEncoder) -> None:
    for name in ("fit", "save", "push_to_hub", "start_multi_process_pool", "half", "config", "tokenizer"):
        with pytest.raises(AttributeError, match=name):
            getattr(model, name)
    assert not hasattr(model, "another")


def test_it_moves_nowhere(model: CrossEncoder) -> None:
    assert model.to("cpu").eval() is model
    with pytest.raises(InputError):
        model.to("cuda")


def test_its_activation_can_be_set(artifacts: Path, reranker: Reranker) -> None:
    with CrossEncoder(artifacts / "tiny") as model:
        assert model.activation_fn == model.default_activation_function == "sigmoid"
        model.activation_fn = "identity"
        np.testing.assert_array_equal(model.predict(PAIRS), reranker.score(PAIRS))
        with pytest.raises(InputError):
            model.activation_fn = "relu"


def test_an_artifact_without_activation_requires_one(artifact: Path) -> None:
    content = json.loads((artifact / "manifest.json").read_text())
    edit_json(artifact / "manifest.json", model=content["model"] | {"activation": ""})
    with pytest.raises(InputError) as refused:
        CrossEncoder(artifact)
    assert refused.value.details["argument"] == "activation_fn"
    with CrossEncoder(artifact, activation_fn="identity") as model:
        assert model.predict(PAIRS).shape == (3,)


def test_an_activation_outside_torch_requires_trust(artifact: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = json.loads((artifact / "manifest.json").read_text())
    edit_json(artifact / "manifest.json", model=content["model"] | {"activation": "collections.Counter"})
    with caplog.at_level(logging.WARNING), CrossEncoder(artifact) as model:
        assert model.activation_fn == "sigmoid"
    assert "collections.Counter" in caplog.text
    with pytest.raises(InputError), CrossEncoder(artifact, trust_remote_code=True):
        pass


def test_a_progress_bar_is_drawn_where_it_was_asked_for(
    model: CrossEncoder, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    model.predict(PAIRS)
    assert capfd.readouterr().err == ""
    model.predict(PAIRS, show_progress_bar=True)
    assert "pair" in capfd.readouterr().err
    with caplog.at_level(logging.INFO, "modernrank"):
        model.predict(PAIRS)
    assert "pair" in capfd.readouterr().err


def test_an_evaluator_gets_the_model(model: CrossEncoder, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"

    def evaluator(evaluated: CrossEncoder, output_path: str) -> float:
        evaluated.model_card_data.set_evaluation_metrics(evaluator, {"ndcg": 0.5})
        assert os.path.isdir(output_path)
        return float(evaluated.predict(PAIRS[0]))

    assert model.evaluate(evaluator, str(folder)) == pytest.approx(float(model.predict(PAIRS)[0]), abs=1e-6)
    assert model.model_card_data.metrics == {"function": {"ndcg": 0.5}}


def test_the_module_says_what_it_requires(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "modernrank.integrations.sentence_transformers.module", raising=False)
    with pytest.raises(ImportError, match="modernrank\\[sentence-transformers\\]"):
        importlib.import_module("modernrank.integrations.sentence_transformers.module")


def test_a_copy_is_refused(model: CrossEncoder) -> None:
    with pytest.raises(TypeError):
        copy.deepcopy(model)


def test_folders_may_be_read_only(artifacts: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(artifacts / "tiny", tmp_path / "artifact"))
    folder.chmod(0o555)
    with CrossEncoder(folder) as model:
        assert model.predict(PAIRS[0]).shape == ()
