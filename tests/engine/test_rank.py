"""``Reranker.rank``: by score, ties by index, equal documents once, and by logits where an activation saturates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modernrank import BackendError, InputError, LoadOptions, Reranker
from modernrank.artifact.folder import Artifact
from modernrank.backends.open import open_backend
from modernrank.export import export_checkpoint
from support.artifacts import checkpoint_with_bias
from support.backends import NotANumber, Recording
from support.scoring import reranker_of

QUERY = "the terms of the license"
DOCUMENTS = ["a", "derivative works of the Work " * 5, "", "notice " * 30, "a"]
PAIRS = [(QUERY, document) for document in DOCUMENTS]


def test_documents_are_sorted_by_score(reranker: Reranker) -> None:
    ranking = reranker.rank(QUERY, DOCUMENTS)
    scores = reranker.score(PAIRS).tolist()
    assert [place.index for place in ranking] == sorted(range(5), key=lambda i: (-scores[i], i))
    assert [place.score for place in ranking] == [scores[place.index] for place in ranking]
    assert [place.document for place in ranking] == [DOCUMENTS[place.index] for place in ranking]


def test_scores_are_python_numbers(reranker: Reranker) -> None:
    (place,) = reranker.rank(QUERY, ["a"])
    assert type(place.score) is float
    assert type(place.index) is int
    assert place.tokens_cut == 0


def test_equal_documents_tie_and_keep_their_order(reranker: Reranker) -> None:
    order = [place.index for place in reranker.rank(QUERY, DOCUMENTS)]
    assert order.index(0) + 1 == order.index(4)


@pytest.mark.parametrize("show_progress", [False, True])
def test_equal_documents_tie_in_a_long_list(reranker: Reranker, show_progress: bool) -> None:
    documents = [f"document {i}" for i in range(300)] + ["same"] * 10
    ranking = reranker.rank(QUERY, documents, show_progress=show_progress)
    same = [place for place in ranking if place.document == "same"]
    assert len({place.score for place in same}) == 1
    assert [place.index for place in same] == list(range(300, 310))


def test_equal_documents_are_scored_once(artifacts: Path) -> None:
    backend = Recording(open_backend(Artifact.open(artifacts / "tiny"), LoadOptions(provider="cpu")))
    with reranker_of(artifacts / "tiny", backend) as reranker:
        assert len(reranker.rank(QUERY, DOCUMENTS * 3)) == 15
    assert backend.pairs == 4


@pytest.mark.parametrize("top_k", [1, 2, 5, 99, np.int64(2), np.uint8(3)])
def test_top_k_takes_the_best(reranker: Reranker, top_k: Any) -> None:
    assert reranker.rank(QUERY, iter(DOCUMENTS), top_k) == reranker.rank(QUERY, DOCUMENTS)[: int(top_k)]


@pytest.mark.parametrize("top_k", [0, -1, 1.5, "2", True])
def test_top_k_is_a_whole_number_of_at_least_1(reranker: Reranker, top_k: Any) -> None:
    with pytest.raises(InputError) as caught:
        reranker.rank(QUERY, DOCUMENTS, top_k=top_k)
    assert caught.value.details == {"argument": "top_k", "value": top_k}


def test_no_documents_give_no_ranking(reranker: Reranker) -> None:
    assert reranker.rank(QUERY, []) == []


def test_an_activation_that_saturates_does_not_change_the_order(tmp_path: Path, reranker: Reranker) -> None:
    checkpoint_with_bias(tmp_path / "checkpoint", raised_by=40)
    export_checkpoint(tmp_path / "checkpoint", tmp_path / "artifact")
    expected = [place.index for place in reranker.rank(QUERY, DOCUMENTS)]
    with Reranker.load(tmp_path / "artifact", threads=1) as saturated:
        ranking = saturated.rank(QUERY, DOCUMENTS, activation="sigmoid")
        best = saturated.rank(QUERY, DOCUMENTS, top_k=1, activation="sigmoid")
    assert {place.score for place in ranking} == {1.0}
    assert expected != sorted(expected)  # the order of the input would be another one
    assert [place.index for place in ranking] == expected
    assert best == ranking[:1]


def test_a_model_of_several_labels_has_no_order(artifacts: Path) -> None:
    with Reranker.load(artifacts / "tiny-cls", threads=1) as reranker, pytest.raises(InputError) as caught:
        reranker.rank(QUERY, DOCUMENTS)
    assert caught.value.details["labels"] == ["no", "maybe", "yes"]


@pytest.mark.parametrize("long_documents", ["truncate", "chunk"])
def test_scores_that_are_not_numbers_are_an_error_and_no_order(artifacts: Path, long_documents: Any) -> None:
    backend = NotANumber(open_backend(Artifact.open(artifacts / "tiny"), LoadOptions(provider="cpu")))
    with reranker_of(artifacts / "tiny", backend) as reranker, pytest.raises(BackendError) as caught:
        reranker.rank(QUERY, DOCUMENTS, long_documents=long_documents)
    assert caught.value.details["pairs"] == 4  # distinct ones


def test_parts_that_leave_tokens_out_are_refused_where_nothing_may_be_cut(artifacts: Path) -> None:
    with Reranker.load(artifacts / "tiny", max_length=64, truncation="error") as reranker:
        document = "word " * 300
        assert reranker.rank(QUERY, [document], long_documents="chunk")[0].tokens_cut == 0
        with pytest.raises(InputError) as caught:
            reranker.rank(QUERY, [document], long_documents="chunk", max_parts=2)
    assert caught.value.details["argument"] == "max_parts"


@pytest.mark.parametrize("options", [{"truncation": "error"}, {"long_documents": "chunk", "max_length": 21}])
def test_an_error_names_the_index_of_the_input_where_documents_repeat(artifacts: Path, options: dict[str, Any]) -> None:
    with Reranker.load(artifacts / "tiny", max_length=64) as reranker, pytest.raises(InputError) as caught:
        reranker.rank(QUERY, ["ok", "ok", "ok", "bad " * 300], **options)
    assert caught.value.details["index"] == 3
