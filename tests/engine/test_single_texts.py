"""Classifiers of one text: ``score_texts`` and ``classify``.

``tests/export/test_live_single_texts.py`` compares them with the pipelines of transformers.
"""

from __future__ import annotations

import asyncio
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modernrank import (
    AsyncReranker,
    CallReport,
    DeadlineError,
    InputError,
    LabelScore,
    Reranker,
    TextLimits,
    Truncation,
    TruncationWarning,
)
from modernrank.activations import sigmoid, softmax
from modernrank.text.encoder import load_tokenizer
from support.artifacts import edit_manifest
from support.checkpoints import checkpoint

TEXTS = ["the terms of the license", "", "größe 北京", "notice " * 60, "the terms of the license"]
TOKENIZER = load_tokenizer(checkpoint("tiny") / "tokenizer.json")
ENDS = [508], [509]  # [CLS] and [SEP] of the tiny tokenizer


@pytest.fixture(scope="module")
def several(artifacts: Path) -> Iterator[Reranker]:
    """A model of the labels no, maybe and yes."""
    with Reranker.load(artifacts / "tiny-cls", threads=2) as loaded:
        yield loaded


def with_problem(artifacts: Path, folder: Path, name: str, problem: str | None) -> Path:
    """A copy of an artifact whose checkpoint had this ``problem_type``."""
    copied = Path(shutil.copytree(artifacts / name, folder / "artifact"))
    return edit_manifest(copied, lambda manifest: manifest["model"].update(problem_type=problem))


def token_ids(text: str) -> list[int]:
    """Of the text alone."""
    ids: list[int] = TOKENIZER.encode(text, add_special_tokens=False).ids
    return ids


def expected_logits(model: Reranker, texts: list[str]) -> np.ndarray[Any, Any]:
    """By the tokenizer and the scorer alone."""
    return model.scorer.score([np.array([*ENDS[0], *token_ids(text), *ENDS[1]]) for text in texts])


def test_texts_are_scored_between_the_tokenizers_own_special_tokens(reranker: Reranker, several: Reranker) -> None:
    scores = reranker.score_texts(TEXTS)
    assert (scores.shape, scores.dtype) == ((5,), np.float32)
    assert np.array_equal(scores, expected_logits(reranker, TEXTS)[:, 0])
    assert scores[0] == scores[4]
    scores = several.score_texts(TEXTS)
    assert (scores.shape, scores.dtype) == ((5, 3), np.float32)
    assert np.array_equal(scores, expected_logits(several, TEXTS))


def test_a_text_is_not_a_pair_with_an_empty_text(reranker: Reranker) -> None:
    assert reranker.score_texts(["the terms"])[0] != reranker.score([("the terms", "")])[0]


@pytest.mark.parametrize("form", [tuple, iter, np.array, lambda texts: (text for text in texts)])
def test_any_iterable_of_strings_is_accepted(reranker: Reranker, form: Any) -> None:
    assert np.array_equal(reranker.score_texts(form(TEXTS)), reranker.score_texts(TEXTS))


def test_no_texts_give_no_scores(reranker: Reranker, several: Reranker) -> None:
    assert reranker.score_texts([]).shape == (0,)
    assert several.score_texts([]).shape == (0, 3)
    assert several.classify([]) == []


def test_activations_apply(several: Reranker) -> None:
    logits = several.score_texts(TEXTS)
    assert np.array_equal(several.score_texts(TEXTS, activation="softmax"), softmax(logits))
    assert np.array_equal(several.score_texts(TEXTS, activation="model"), logits)


@pytest.mark.parametrize(
    ("name", "problem", "apply"),
    [
        ("tiny", None, sigmoid),
        ("tiny", "multi_label_classification", sigmoid),
        ("tiny", "regression", lambda logits: logits),
        ("tiny-cls", None, softmax),
        ("tiny-cls", "single_label_classification", softmax),
        ("tiny-cls", "multi_label_classification", sigmoid),
        ("tiny-cls", "regression", lambda logits: logits),
    ],
)
def test_labels_have_the_scores_that_the_problem_asks_for(
    artifacts: Path, tmp_path: Path, name: str, problem: str | None, apply: Any
) -> None:
    with Reranker.load(with_problem(artifacts, tmp_path, name, problem), threads=1) as model:
        scores = apply(model.score_texts(TEXTS).reshape(len(TEXTS), -1))
        every = model.classify(TEXTS, top_k=None)
        for labels, row in zip(every, scores.tolist(), strict=True):
            assert [label.score for label in labels] == sorted(row, reverse=True)
            assert {label.label: label.score for label in labels} == dict(zip(model.labels, row, strict=True))
        assert model.classify(TEXTS) == [labels[:1] for labels in every]
        assert model.classify(TEXTS, top_k=2) == [labels[:2] for labels in every]
        assert model.classify(TEXTS, top_k=9) == every


def test_equal_scores_are_in_the_order_of_the_labels(several: Reranker) -> None:
    """As in transformers, where the scores saturate and the logits do not."""
    rows = np.array([[90.0, 95.0, 99.0]], np.float32)
    assert sigmoid(rows).tolist() == [[1.0, 1.0, 1.0]]
    from modernrank.calls.single_texts import ClassifyRequest

    request = ClassifyRequest(several.manifest, several.text_steps(["text"]), None, "sigmoid")
    assert list(request.labelled([rows])) == [[LabelScore(name, 1.0) for name in ("no", "maybe", "yes")]]


def test_another_activation_can_be_chosen(several: Reranker) -> None:
    ((best,),) = several.classify(["the terms"], activation="logit")
    assert best.score == several.score_texts(["the terms"]).max()


def test_an_artifact_that_records_no_problem_requires_an_activation(artifacts: Path, tmp_path: Path) -> None:
    """As those of earlier versions: softmax would be wrong for a model of independent labels."""
    with Reranker.load(with_problem(artifacts, tmp_path, "tiny-cls", ""), threads=1) as model:
        with pytest.raises(InputError) as refused:
            model.classify(["the terms"])
        assert refused.value.details["argument"] == "activation"
        assert len(model.classify(["the terms"], activation="softmax", top_k=None)[0]) == 3


def test_long_texts_are_cut_and_reported(reranker: Reranker) -> None:
    long = "notice " * 60
    with pytest.warns(TruncationWarning, match="max_length=20"):
        scores = reranker.score_texts(["short", long], max_length=20)
    ids = token_ids(long)
    kept = np.array([*ENDS[0], *ids[:18], *ENDS[1]])
    assert scores[1] == reranker.scorer.score([kept])[0, 0]
    cuts: list[Truncation] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reranker.classify(["short", long], max_length=20, on_truncate=cuts.append)
    assert cuts == [Truncation(1, 0, len(ids) - 18)]


def test_the_side_and_the_limit_of_a_text_apply(reranker: Reranker) -> None:
    long = "notice " * 60
    ids = token_ids(long)
    (encoded,) = reranker.encoder.with_limits(TextLimits(max_length=20, truncation_side="left")).encode_texts([long])
    assert encoded.ids.tolist() == [*ENDS[0], *ids[-18:], *ENDS[1]]
    (encoded,) = reranker.encoder.with_limits(TextLimits(max_document_tokens=5)).encode_texts([long])
    assert encoded.ids.tolist() == [*ENDS[0], *ids[:5], *ENDS[1]]
    assert encoded.tokens_cut == len(ids) - 5


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        ({"truncation": "error", "max_length": 20}, {"argument": "truncation", "index": 3}),
        ({"max_length": 8193}, {"argument": "max_length", "limit": 8192}),
        ({"limits": TextLimits(max_query_tokens=3)}, {"argument": "max_query_tokens", "value": 3}),
        ({"limits": TextLimits(prompt="p: ")}, {"argument": "prompt", "value": "p: "}),
        ({"limits": TextLimits(max_call_tokens=30)}, {"argument": "max_call_tokens", "limit": 30}),
        ({"activation": "softmax"}, {"argument": "activation"}),
        ({"activation": "none"}, {"argument": "activation", "value": "none"}),
        ({"priority": -1}, {"argument": "priority"}),
    ],
)
def test_options_that_cannot_be_followed_are_refused(
    reranker: Reranker, options: dict[str, Any], facts: dict[str, Any]
) -> None:
    for call in (reranker.score_texts, reranker.classify):
        with pytest.raises(InputError) as refused:
            call(TEXTS, **options)
        assert {name: refused.value.details[name] for name in facts} == facts


@pytest.mark.parametrize("top_k", [0, -1, 1.5, True, "1"])
def test_a_number_of_labels_must_be_one(reranker: Reranker, top_k: Any) -> None:
    with pytest.raises(InputError) as refused:
        reranker.classify(TEXTS, top_k=top_k)
    assert refused.value.details["argument"] == "top_k"


@pytest.mark.parametrize("texts", ["one text", b"text", None, 3, {"text": "a"}, np.array([["a", "b"]])])
def test_what_is_no_list_of_texts_is_refused(reranker: Reranker, texts: Any) -> None:
    for call in (reranker.score_texts, reranker.classify):
        with pytest.raises(InputError) as refused:
            call(texts)
        assert refused.value.details["argument"] == "texts"


@pytest.mark.parametrize(
    ("text", "fact"),
    [(None, "NoneType"), (("a", "b"), "tuple"), (["a", "b"], "list"), ({"text": "a"}, "dict"), ("\ud800", "surrogate")],
)
def test_what_is_no_text_is_refused_with_its_index(reranker: Reranker, text: Any, fact: str) -> None:
    for call in (reranker.score_texts, reranker.classify):
        with pytest.raises(InputError, match=fact) as refused:
            call(["fine", text])
        assert refused.value.details["index"] == 1


def test_texts_wait_in_the_one_queue(artifacts: Path) -> None:
    with Reranker.load(artifacts / "tiny", threads=1) as model:
        before = model.metrics
        for call in (model.score_texts, model.classify):
            with pytest.raises(DeadlineError):
                call(TEXTS, timeout=1e-9)
        assert model.score_texts(TEXTS, timeout=60, priority=3).shape == (5,)
        assert model.metrics.completed == before.completed + 1


def test_an_event_loop_gets_the_same(artifacts: Path, several: Reranker) -> None:
    async def calls() -> tuple[Any, ...]:
        report = CallReport()
        async with AsyncReranker(several) as model:
            scores = await model.score_texts(TEXTS, activation="softmax", report=report)
            labels = await model.classify(TEXTS, top_k=None, timeout=60)
            with pytest.raises(InputError):
                await model.classify("one text")
            with pytest.warns(TruncationWarning):
                await model.classify(TEXTS, max_length=20)
        return scores, labels, report

    scores, labels, report = asyncio.run(calls())
    assert np.array_equal(scores, several.score_texts(TEXTS, activation="softmax"))
    assert labels == several.classify(TEXTS, top_k=None)
    assert report.pairs == len(TEXTS)


def test_a_stream_of_texts_is_read_window_by_window(reranker: Reranker) -> None:
    texts = [f"notice {number % 7}" for number in range(5000)]
    assert np.array_equal(reranker.score_texts(iter(texts))[:7], reranker.score_texts(texts[:7]))
    read: list[str] = []

    def stream() -> Iterator[str]:
        for text in texts:
            read.append(text)
            yield text

    labels = reranker.classify_iter(stream(), window=10, top_k=None)
    assert [next(labels) for _ in range(7)] == reranker.classify(texts[:7], top_k=None)
    assert len(read) < 100
    assert sum(1 for _ in labels) == 5000 - 7


def test_a_stream_names_the_text_that_is_too_long(reranker: Reranker) -> None:
    labels = reranker.classify_iter(["short"] * 7 + ["notice " * 60], window=2, max_length=20, truncation="error")
    with pytest.raises(InputError) as refused:
        list(labels)
    assert refused.value.details["index"] == 7


def test_a_stream_that_is_not_read_to_its_end_reports_its_cuts(reranker: Reranker) -> None:
    labels = reranker.classify_iter(["notice " * 60] * 8, window=2, max_length=20)
    with pytest.warns(TruncationWarning, match="2 texts"):
        next(labels)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        [next(labels) for _ in range(5)]
        labels.close()  # type: ignore[attr-defined]
    assert ["6 texts" in str(warning.message) for warning in caught] == [True]


def test_the_arguments_of_a_stream_are_checked_at_once(reranker: Reranker) -> None:
    arguments: list[dict[str, Any]] = [{"window": 0}, {"top_k": 0}, {"max_length": 8193}, {"activation": "softmax"}]
    for argument in arguments:
        with pytest.raises(InputError) as refused:
            reranker.classify_iter(["text"], **argument)
        assert refused.value.details["argument"] == next(iter(argument))
