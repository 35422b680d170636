"""Live, against the pipelines of transformers: labels of single texts, and zero-shot labels by pairs.

Run by ``make parity``; requires torch and transformers. The checkpoints are the tiny ones with other labels.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modernrank import LabelScore, Reranker, TextLimits
from modernrank.activations import sigmoid, softmax
from modernrank.export import export_checkpoint
from support.checkpoints import checkpoint, golden

pytestmark = pytest.mark.parity

TOLERANCE = 1e-4
# Of many lengths and scripts, with the same text twice, and one beyond the local window.
TEXTS = ["", "a", *[document for _, document in golden("tiny")["pairs"] if document][:20], "größe 北京 \U0001f600", "a"]
NLI = {0: "contradiction", 1: "neutral", 2: "entailment"}
OTHER_NLI = {0: "Entailment", 1: "neutral", 2: "contradiction"}

CHECKPOINTS: dict[str, tuple[str, dict[str, Any]]] = {
    "one label": ("tiny", {}),
    "one label, regression": ("tiny", {"problem_type": "regression"}),
    "one label of several possible": ("tiny", {"problem_type": "multi_label_classification"}),
    "three labels": ("tiny-cls", {}),
    "three labels, one applies": ("tiny-cls", {"problem_type": "single_label_classification"}),
    "three labels, several apply": ("tiny-cls", {"problem_type": "multi_label_classification"}),
    "three values": ("tiny-cls", {"problem_type": "regression"}),
    "a function that the pipeline ignores": ("tiny-cls", {"function_to_apply": "none"}),
}


def make(folder: Path, name: str, **changes: Any) -> Path:
    """A copy of a tiny checkpoint with other fields in its config; labels are numbered in ``id2label``."""
    source = Path(shutil.copytree(checkpoint(name), folder / "checkpoint"))
    config = json.loads((source / "config.json").read_text()) | changes
    if "id2label" in changes:
        config["label2id"] = {label: number for number, label in changes["id2label"].items()}
    (source / "config.json").write_text(json.dumps(config))
    return source


def pipeline_of(task: str, source: Path) -> Any:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

    model = AutoModelForSequenceClassification.from_pretrained(source, attn_implementation="eager")
    return pipeline(task, model=model, tokenizer=AutoTokenizer.from_pretrained(source), device="cpu")


def check_same(ours: Sequence[Sequence[LabelScore]], theirs: Sequence[Sequence[dict[str, Any]]]) -> None:
    assert [[label.label for label in labels] for labels in ours] == [[r["label"] for r in row] for row in theirs]
    scores = [[label.score for label in labels] for labels in ours]
    assert np.abs(np.subtract(scores, [[r["score"] for r in row] for row in theirs])).max() <= TOLERANCE


@pytest.mark.filterwarnings("ignore:.*function_to_apply")
@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_labels_are_those_of_the_pipeline(tmp_path: Path, kind: str) -> None:
    name, changes = CHECKPOINTS[kind]
    source = make(tmp_path, name, **changes)
    export_checkpoint(source, tmp_path / "artifact")
    pipe = pipeline_of("text-classification", source)
    with Reranker.load(tmp_path / "artifact") as model:
        check_same(model.classify(TEXTS, top_k=None), pipe(TEXTS, top_k=None))
        check_same(model.classify(TEXTS, top_k=2), pipe(TEXTS, top_k=2))
        check_same(model.classify(TEXTS), [[best] for best in pipe(TEXTS)])
        logits = [[r["score"] for r in pipe(text, top_k=None, function_to_apply="none")] for text in TEXTS]
        assert np.ptp(logits) > 0.1  # else anything would agree
        ordered = -np.sort(-model.score_texts(TEXTS).reshape(len(TEXTS), -1), axis=1)
        assert np.abs(ordered - logits).max() <= TOLERANCE
        for ours, function in (("sigmoid", "sigmoid"), ("softmax", "softmax"), ("logit", "none")):
            if len(model.labels) > 1 or ours != "softmax":
                check_same(
                    model.classify(TEXTS, top_k=None, activation=ours),  # type: ignore[arg-type]
                    pipe(TEXTS, top_k=None, function_to_apply=function),
                )


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("length", [3, 4, 40, 300])
def test_long_texts_are_cut_as_transformers_cuts_them(tmp_path: Path, side: str, length: int) -> None:
    source = make(tmp_path, "tiny-cls")
    settings = {"model_max_length": 8192, "tokenizer_class": "PreTrainedTokenizerFast", "truncation_side": side}
    (source / "tokenizer_config.json").write_text(json.dumps(settings))
    export_checkpoint(source, tmp_path / "artifact")
    pipe = pipeline_of("text-classification", source)
    theirs = [pipe.tokenizer(text, truncation=True, max_length=length)["input_ids"] for text in TEXTS]
    with Reranker.load(tmp_path / "artifact") as model:
        encoder = model.encoder.with_limits(TextLimits(max_length=length))
        assert [encoded.ids.tolist() for encoded in encoder.encode_texts(TEXTS)] == theirs
        ours = model.classify(TEXTS, top_k=None, max_length=length, on_truncate=lambda cut: None)
        check_same(ours, pipe(TEXTS, top_k=None, truncation=True, max_length=length))


@pytest.mark.parametrize("labels", [["license"], ["license", "weather", "sports news"]], ids=len)
@pytest.mark.parametrize("names", [NLI, OTHER_NLI], ids=["last", "first"])
def test_zero_shot_labels_come_out_of_pairs(tmp_path: Path, names: dict[int, str], labels: list[str]) -> None:
    """By the computation of docs/python.md."""
    source = make(tmp_path, "tiny-cls", id2label=names)
    export_checkpoint(source, tmp_path / "artifact")
    pipe = pipeline_of("zero-shot-classification", source)
    with Reranker.load(tmp_path / "artifact") as nli:
        entailment = next(i for i, name in enumerate(nli.labels) if name.lower().startswith("entail"))
        contradiction = -1 if entailment == 0 else 0
        for text in [text for text in TEXTS if text]:
            logits = nli.score([(text, f"This example is {label}.") for label in labels])
            either = sigmoid(logits[:, entailment] - logits[:, contradiction])
            one_of_them = softmax(logits[:, entailment])
            for multi_label, scores in ((True, either), (False, either if len(labels) == 1 else one_of_them)):
                theirs = pipe(text, labels, multi_label=multi_label)
                by_label = dict(zip(theirs["labels"], theirs["scores"], strict=True))
                assert np.abs(scores - [by_label[label] for label in labels]).max() <= TOLERANCE
