"""``modernrank.integrations.sentence_transformers.CrossEncoder`` and the original, over the same calls."""

from __future__ import annotations

import itertools
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
from sentence_transformers import CrossEncoder as Original
from sentence_transformers.cross_encoder import evaluation

from modernrank import Reranker, TruncationWarning
from modernrank.integrations.sentence_transformers import CrossEncoder

from .side_by_side import (
    DOCUMENTS,
    ERRORS,
    GOLDEN,
    PAIRS,
    PREDICT,
    QUERY,
    RANK,
    TOLERANCE,
    WITH_PROMPTS,
    Call,
    assert_same,
)

pytestmark = [
    pytest.mark.integrations,
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::modernrank.TruncationWarning"),
]

ONE_LABEL = ["tiny", "demo", "identity", "tanh", "older", "modular", "prompts"]
SEVERAL_LABELS = ["tiny-cls", "three"]
Both = tuple[CrossEncoder, Original]


class Models:
    """Both classes on each checkpoint, loaded when first asked for."""

    def __init__(self, checkpoints: dict[str, Path], cache: Path) -> None:
        self.checkpoints, self.cache = checkpoints, str(cache)
        self.loaded: dict[str, Both] = {}

    def __getitem__(self, name: str) -> Both:
        if name not in self.loaded:
            folder = str(self.checkpoints[name])
            # Without the type, the original computes a checkpoint of half precision, as demo's is, in half precision.
            theirs = Original(folder, device="cpu", model_kwargs={"dtype": "float32"})
            self.loaded[name] = CrossEncoder(folder, cache_folder=self.cache), theirs
        return self.loaded[name]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def models(checkpoints: dict[str, Path], cache: Path) -> Iterator[Models]:
    models = Models(checkpoints, cache)
    yield models
    for ours, _ in models.loaded.values():
        ours.close()


@pytest.mark.parametrize("call", PREDICT.values(), ids=PREDICT)
@pytest.mark.parametrize("name", [*ONE_LABEL, *SEVERAL_LABELS])
def test_predict(models: Models, name: str, call: Call) -> None:
    ours, theirs = models[name]
    assert_same(call(ours), call(theirs))


@pytest.mark.parametrize("call", RANK.values(), ids=RANK)
@pytest.mark.parametrize("name", ONE_LABEL)
def test_rank(models: Models, name: str, call: Call) -> None:
    ours, theirs = models[name]
    assert_same(call(ours), call(theirs))


@pytest.mark.parametrize("call", WITH_PROMPTS.values(), ids=WITH_PROMPTS)
def test_named_prompts(models: Models, call: Call) -> None:
    ours, theirs = models["prompts"]
    with warnings.catch_warnings(action="ignore"):
        assert_same(call(ours), call(theirs))


@pytest.mark.parametrize("call", ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("name", ["tiny", "tiny-cls"])
def test_both_refuse(models: Models, name: str, call: Call) -> None:
    for model in models[name]:
        with pytest.raises(ValueError):  # noqa: PT011 - the message is each one's own
            call(model)


@pytest.mark.parametrize("name", SEVERAL_LABELS)
def test_neither_ranks_with_several_labels(models: Models, name: str) -> None:
    for model in models[name]:
        with pytest.raises(ValueError, match="predict"):
            model.rank(QUERY, DOCUMENTS)


CONSTRUCTORS: dict[str, dict[str, Any]] = {
    "max_length": {"max_length": 16},
    "longer than the model": {"max_length": 9000},
    "processor_kwargs": {"processor_kwargs": {"model_max_length": 16, "truncation_side": "left"}},
    "tokenizer_args": {"tokenizer_args": {"model_max_length": 16}},
    "tokenizer_kwargs": {"tokenizer_kwargs": {"model_max_length": 16}},
    "max_length wins": {"max_length": 16, "processor_kwargs": {"model_max_length": 32}},
    "activation": {"activation_fn": torch.nn.Identity()},
    "default_activation_function": {"default_activation_function": torch.nn.Tanh()},
    "labels": {"num_labels": 1},
    "config_kwargs": {"config_kwargs": {"num_labels": 1}},
    "prompts": {"prompts": {"mine": "mine: "}, "default_prompt_name": "mine"},
    "prompts without default": {"prompts": {"mine": "mine: ", "none": None}},
    "model_kwargs": {"model_kwargs": {"attn_implementation": "eager", "dtype": torch.float32}},
    "automodel_args": {"automodel_args": {"torch_dtype": "float32"}},
    "local": {"local_files_only": True, "token": False, "revision": None, "trust_remote_code": False},
    "torch": {"backend": "torch", "model_card_data": None},
}


@pytest.mark.parametrize("given", CONSTRUCTORS.values(), ids=CONSTRUCTORS)
@pytest.mark.parametrize("name", ["tiny", "prompts"])
def test_constructors(checkpoints: dict[str, Path], cache: Path, name: str, given: dict[str, Any]) -> None:
    folder = str(checkpoints[name])
    theirs = Original(folder, device="cpu", **_copied(given))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        ours = CrossEncoder(folder, device="cpu", cache_folder=str(cache), **_copied(given))
    with ours:
        assert_same(ours.predict(PAIRS), theirs.predict(PAIRS))
        assert ours.prompts == theirs.prompts


def _copied(given: dict[str, Any]) -> dict[str, Any]:
    """The original writes into the dictionaries that it is given."""
    return {name: dict(value) if isinstance(value, dict) else value for name, value in given.items()}


def test_arguments_by_position(checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setenv("MODERNRANK_CACHE", str(cache))
    given = (str(checkpoints["tiny"]), 1, 16, torch.nn.Identity(), "cpu")
    with CrossEncoder(*given) as ours:
        assert_same(ours.predict(PAIRS), Original(*given).predict(PAIRS))


def test_attributes_that_are_set_count(models: Models, checkpoints: dict[str, Path], cache: Path) -> None:
    theirs = Original(str(checkpoints["tiny"]), device="cpu")
    with CrossEncoder(checkpoints["tiny"], cache_folder=str(cache)) as ours:
        for model in (ours, theirs):
            model.activation_fn = torch.nn.Identity()
            model.max_seq_length = 20
            model.prompts["mine"] = "mine: "
            model.default_prompt_name = "mine"
        assert_same(ours.predict(PAIRS), theirs.predict(PAIRS))


def test_an_artifact_gives_what_its_checkpoint_gives(models: Models, folders: dict[str, Path]) -> None:
    for name in (*ONE_LABEL, *SEVERAL_LABELS):
        with CrossEncoder(folders[name]) as ours:
            assert_same(ours.predict(PAIRS), models[name][1].predict(PAIRS))


def test_half_weights_score_as_the_original_in_float32(tmp_path: Path) -> None:
    from support.modular import CHAINS, write_modular

    folder = str(write_modular(tmp_path / "half", CHAINS["ettin"], dtype=np.float16))
    theirs = Original(folder, device="cpu", model_kwargs={"dtype": "float32"})
    with CrossEncoder(folder, cache_folder=str(tmp_path / "cache")) as ours:
        assert_same(ours.predict(PAIRS), theirs.predict(PAIRS))


def test_scores_are_those_of_reranker(folders: dict[str, Path]) -> None:
    with CrossEncoder(folders["demo"]) as ours, Reranker.load(folders["demo"]) as reranker:
        np.testing.assert_array_equal(ours.predict(PAIRS), reranker.score(PAIRS, activation="model"))
        np.testing.assert_array_equal(ours.predict(PAIRS, activation_fn="identity"), reranker.score(PAIRS))


def test_thousands_of_documents(models: Models) -> None:
    ours, theirs = models["tiny"]
    documents = [f"{DOCUMENTS[number % 5]} {number % 997}" for number in range(3000)]
    found = {entry["corpus_id"]: entry["score"] for entry in ours.rank(QUERY, documents)}
    expected = {entry["corpus_id"]: entry["score"] for entry in theirs.rank(QUERY, documents, batch_size=256)}
    assert found.keys() == expected.keys()
    assert max(abs(found[index] - expected[index]) for index in found) < TOLERANCE


def test_threads_share_a_model(models: Models) -> None:
    ours, _ = models["demo"]
    expected = ours.predict(GOLDEN)
    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(ours.predict(GOLDEN))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == len(threads)
    for scores in results:
        np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-6)


def evaluators() -> dict[str, Any]:
    samples = [{"query": QUERY, "positive": DOCUMENTS[:1], "negative": DOCUMENTS[1:6]} for _ in range(4)]
    labels = list(itertools.islice(itertools.cycle((0, 1)), len(GOLDEN)))
    return {
        "reranking": evaluation.CrossEncoderRerankingEvaluator(samples, name="local", show_progress_bar=False),
        "correlation": evaluation.CrossEncoderCorrelationEvaluator(GOLDEN, labels, name="local"),
        "classification": evaluation.CrossEncoderClassificationEvaluator(GOLDEN, labels, name="local"),
    }


@pytest.mark.parametrize("name", evaluators())
def test_evaluators_find_the_same(models: Models, name: str, tmp_path: Path) -> None:
    ours, theirs = models["demo"]
    found = ours.evaluate(evaluators()[name], str(tmp_path / "ours"))
    expected = theirs.evaluate(evaluators()[name], str(tmp_path / "theirs"))
    assert found == pytest.approx(expected, abs=TOLERANCE)
    assert ours.model_card_data.metrics


def test_a_longer_limit_is_reported(folders: dict[str, Path]) -> None:
    with pytest.warns(UserWarning, match="9000"), CrossEncoder(folders["tiny"], max_length=9000) as ours:
        assert ours.max_seq_length == 8192


def test_cut_pairs_are_reported(folders: dict[str, Path]) -> None:
    with CrossEncoder(folders["tiny"], max_length=16) as ours, pytest.warns(TruncationWarning):
        ours.predict(PAIRS)


def test_numpy_loads_no_torch(folders: dict[str, Path]) -> None:
    code = (
        "import sys\nfrom modernrank.integrations.sentence_transformers import CrossEncoder\n"
        "model = CrossEncoder(sys.argv[1])\nmodel.predict([('a', 'b')])\nmodel.rank('a', ['b'])\n"
        "print([name for name in ('torch', 'transformers', 'sentence_transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, folders["tiny"]], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
