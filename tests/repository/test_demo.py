"""The trained model that ships, end to end: its scores are those of ``transformers``, and it finds what it should."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modernrank import Reranker, Truncation
from modernrank.artifact.folder import Artifact
from modernrank.evaluation.formats import EvaluationSet, read_folder
from modernrank.evaluation.metrics import by_query
from modernrank.evaluation.rank_candidates import rerank
from support.checkpoints import DATA, DEMO

TERMINAL_PLAYER = 1  # of the documents


@pytest.fixture(scope="module")
def known() -> dict[str, Any]:
    return json.loads((DATA / "demo-golden.json").read_text())


def test_ids_and_scores_are_those_of_transformers(demo: Path, known: dict[str, Any]) -> None:
    pairs = [tuple(pair) for pair in known["pairs"]]
    encoded = Artifact.open(demo).encoder().encode(pairs)
    assert [pair.ids.tolist() for pair in encoded] == known["input_ids"]
    cuts: list[Truncation] = []
    with Reranker.load(demo, precision="fp32") as reranker:
        assert (
            np.abs(reranker.score(pairs, on_truncate=cuts.append) - np.array(known["logits"], np.float32)).max() < 1e-4
        )
    assert cuts  # the texts of up to 1,100 tokens are cut to the 192 of the tokenizer's config


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_order_of_documents(demo: Path, known: dict[str, Any], precision: str) -> None:
    documents = known["documents"]
    expected = np.argsort(-np.array(known["logits"][: len(documents)]), kind="stable").tolist()
    assert expected[0] == TERMINAL_PLAYER
    with Reranker.load(demo, precision=precision) as reranker:
        assert [place.index for place in reranker.rank(known["query"], documents)] == expected


def test_a_passage_deep_in_a_long_text_is_found_in_parts_and_missed_when_cut(demo: Path, known: dict[str, Any]) -> None:
    """Other documents before and after it: 200 and more tokens, of which 128 are seen when it is cut."""
    documents = known["documents"]
    answer = documents[TERMINAL_PLAYER]
    others = [document for document in documents if document != answer]
    filler = " ".join(documents[i] for i in (6, 4, 0) * 3)  # about backups, web servers and charts
    texts = [*others, f"{filler} {answer} {filler}"]
    deep = len(texts) - 1
    with Reranker.load(demo, max_length=128) as reranker:
        whole = reranker.rank(known["query"], texts)
        parts = reranker.rank(known["query"], texts, long_documents="chunk")
    assert parts[0].index == deep
    assert parts[0].tokens_cut == 0
    assert whole[0].index != deep
    place = next(place for place in whole if place.index == deep)
    assert place.tokens_cut > 200
    assert place.score < parts[0].score - 1


@pytest.mark.slow
def test_its_rankings_are_as_good_as_its_card_says(demo: Path) -> None:
    """On the shipped evaluation set, to what another processor may change."""
    data: EvaluationSet = read_folder(DEMO / "evaluation")
    with Reranker.load(demo, precision="fp32") as reranker:
        orders = rerank(data, reranker, None, "truncate", lambda pairs: None)
    found = by_query(data, {query: [name for name, _ in scored] for query, scored in orders.items()})["nDCG@10"]
    assert found.mean() == pytest.approx(0.635, abs=0.005)
    assert by_query(data, data.candidates)["nDCG@10"].mean() == pytest.approx(0.554, abs=0.001)
