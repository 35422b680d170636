"""Long documents in overlapping parts: the best part decides, and what is left out is counted."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modernrank import InputError, LoadOptions, Reranker, Scorer, TextLimits
from modernrank.artifact.folder import Artifact
from modernrank.backends.open import open_backend
from modernrank.text.encoder import PairEncoder
from modernrank.text.long_documents import MINIMUM_PART, OVERLAP, overlapping_spans
from support.backends import Recording
from support.checkpoints import checkpoint
from support.memory import resident_bytes
from support.scoring import reranker_of

FILE = checkpoint("tiny") / "tokenizer.json"
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
QUERY = "the terms of the license"
LONG = "word " * 300 + "notice " * 40
DOCUMENTS = [LONG, "short", "word " * 8, "short"]


@pytest.fixture(scope="module")
def short(artifacts: Path) -> Iterator[Reranker]:
    with Reranker.load(artifacts / "tiny", max_length=64) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def part_logits(artifacts: Path) -> np.ndarray:
    """The logit of each part of LONG."""
    parts = PairEncoder(FILE, 64).encode_parts(QUERY, [LONG])[0]
    with Scorer.load(artifacts / "tiny") as scorer:
        return scorer.score([part.ids for part in parts])[:, 0]


@given(st.integers(0, 2000), st.integers(MINIMUM_PART, 300))
def test_spans_cover_a_document_and_overlap(tokens: int, room: int) -> None:
    spans = overlapping_spans(tokens, room)
    assert spans[0][0] == 0
    assert spans[-1][1] == tokens
    assert {end - start for start, end in spans} == {min(room, tokens)}
    shared = int(OVERLAP * room)
    assert all(end - start >= shared for (_, end), (start, _) in itertools.pairwise(spans))
    assert len(spans) <= 2 + max(0, tokens - room) / (room - shared)  # no more than are needed


@given(TEXT, TEXT, st.integers(24, 60))
def test_parts_are_the_query_and_a_stretch_of_the_document(query: str, document: str, max_length: int) -> None:
    document = document * 5
    encoder = PairEncoder(FILE, max_length)
    whole = PairEncoder(FILE, 8192).encode([(query, document), (query, "")])
    ids, empty = (pair.ids.tolist() for pair in whole)
    if len(ids) > max_length and max_length - len(empty) < MINIMUM_PART:
        with pytest.raises(InputError) as caught:
            encoder.encode_parts(query, [document])
        assert caught.value.details["minimum"] == MINIMUM_PART
        return
    (parts,) = encoder.encode_parts(query, [document])
    before = empty[:-1]  # [CLS] query [SEP]
    for part in (part.ids.tolist() for part in parts):
        assert len(part) <= max_length
        assert part[: len(before)] == before
        assert part[-1] == ids[-1]
        stretch = part[len(before) : -1]
        assert any(ids[i : i + len(stretch)] == stretch for i in range(len(before), len(ids)))
    assert sum(part.tokens_cut for part in parts) == 0
    assert (len(parts) == 1) == (len(ids) <= max_length)


def test_a_long_document_counts_as_its_best_part(short: Reranker, part_logits: np.ndarray) -> None:
    assert len(part_logits) > 3
    scores = {place.index: place.score for place in short.rank(QUERY, DOCUMENTS, long_documents="chunk")}
    assert scores[0] == part_logits.max()


def test_documents_that_need_no_parts_score_as_they_do_whole(short: Reranker) -> None:
    scores = {place.index: place.score for place in short.rank(QUERY, DOCUMENTS, long_documents="chunk")}
    whole = short.score([(QUERY, document) for document in DOCUMENTS[1:]])
    assert [scores[i] for i in (1, 2, 3)] == whole.tolist()


def test_nothing_is_cut_and_no_warning_is_given(short: Reranker) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ranking = short.rank(QUERY, DOCUMENTS, long_documents="chunk")
    assert {place.tokens_cut for place in ranking} == {0}


def test_an_activation_changes_the_scores_of_parts_and_not_their_order(short: Reranker) -> None:
    logits = short.rank(QUERY, DOCUMENTS, long_documents="chunk")
    activated = short.rank(QUERY, DOCUMENTS, long_documents="chunk", activation="sigmoid")
    assert [place.index for place in activated] == [place.index for place in logits]
    expected = [1 / (1 + np.exp(-place.score)) for place in logits]
    assert [place.score for place in activated] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("max_parts", [1, 2, np.int64(3)])
def test_max_parts_takes_parts_from_the_beginning_and_counts_the_rest(
    short: Reranker, part_logits: np.ndarray, max_parts: int
) -> None:
    ranking = short.rank(QUERY, [LONG], long_documents="chunk", max_parts=max_parts)
    assert ranking[0].score == part_logits[:max_parts].max()
    parts = PairEncoder(FILE, 64).encode_parts(QUERY, [LONG])[0]
    room = len(parts[0].ids) - len(PairEncoder(FILE, 64).encode([(QUERY, "")])[0].ids)
    tokens = len(PairEncoder(FILE, 8192).encode([("", LONG)])[0].ids) - 3
    assert ranking[0].tokens_cut == tokens - overlapping_spans(tokens, room)[max_parts - 1][1]


def test_max_parts_bounds_the_work_of_a_huge_document(artifacts: Path) -> None:
    backend = Recording(open_backend(Artifact.open(artifacts / "tiny"), LoadOptions(provider="cpu")))
    words = " ".join(map(str, range(20_000)))  # parts of equal tokens would be scored once
    with reranker_of(artifacts / "tiny", backend) as reranker:
        (place,) = reranker.rank(QUERY, [words], long_documents="chunk", max_parts=4, max_length=64)
    assert backend.pairs == 4
    assert place.tokens_cut > 20_000


def test_as_many_parts_as_a_document_has_change_nothing(short: Reranker, part_logits: np.ndarray) -> None:
    all_parts = short.rank(QUERY, DOCUMENTS, long_documents="chunk")
    assert short.rank(QUERY, DOCUMENTS, long_documents="chunk", max_parts=len(part_logits)) == all_parts


@pytest.mark.parametrize("max_parts", [0, -1, 1.5, True])
def test_max_parts_is_a_whole_number_of_at_least_1(short: Reranker, max_parts: int) -> None:
    with pytest.raises(InputError) as caught:
        short.rank(QUERY, DOCUMENTS, long_documents="chunk", max_parts=max_parts)
    assert caught.value.details == {"argument": "max_parts", "value": max_parts}


def test_max_parts_without_parts_is_refused(short: Reranker) -> None:
    with pytest.raises(InputError) as caught:
        short.rank(QUERY, DOCUMENTS, max_parts=2)
    assert caught.value.details["argument"] == "max_parts"


def test_parts_need_room_beside_the_query(artifacts: Path) -> None:
    with Reranker.load(artifacts / "tiny", max_length=40) as reranker, pytest.raises(InputError) as caught:
        reranker.rank(f"{QUERY} " * 4, ["a", "x " * 100], long_documents="chunk")
    assert caught.value.details["index"] == 1
    assert caught.value.details["minimum"] == MINIMUM_PART
    assert caught.value.details["room"] < MINIMUM_PART


def test_another_treatment_is_refused_with_the_known_ones(short: Reranker) -> None:
    with pytest.raises(InputError) as caught:
        short.rank(QUERY, ["a"], long_documents="split")  # type: ignore[arg-type]
    assert caught.value.details["choices"] == ("truncate", "chunk")


def test_no_documents_need_no_parts(short: Reranker) -> None:
    assert short.rank(QUERY, [], long_documents="chunk") == []


@given(st.lists(TEXT, max_size=3), st.integers(MINIMUM_PART, 40))
def test_parts_say_which_characters_they_hold(documents: list[str], part_tokens: int) -> None:
    """Tokenised alone, from the start of a part to its end: the part's own text, without white space at its ends."""
    encoder = PairEncoder(FILE, 8192)
    texts = [document * 8 for document in documents]
    plain = encoder.encode_parts(QUERY, texts, part_tokens=part_tokens)
    for text, parts, without in zip(
        texts, encoder.encode_parts(QUERY, texts, part_tokens=part_tokens, with_characters=True), plain, strict=True
    ):
        assert [part.ids.tolist() for part in parts] == [part.ids.tolist() for part in without]
        spans = [part.characters for part in parts if part.characters is not None]
        assert all(0 <= start <= end <= len(text) for start, end in spans)
        assert spans == sorted(spans)
        if spans and text.strip():
            covered = {at for start, end in spans for at in range(start, end)}
            assert not text.strip() or text[min(covered) : max(covered) + 1].strip() == text.strip()


def test_the_best_part_of_a_ranking_is_the_document_s_score(artifacts: Path) -> None:
    text = "word " * 60 + "the terms of the license " + "notice " * 60
    with Reranker.load(artifacts / "tiny") as reranker:
        (whole,) = reranker.rank(QUERY, [text], long_documents="chunk", part_tokens=20, with_parts=True)
        assert len(whole.parts) > 4
        assert whole.score == max(part.score for part in whole.parts)
        for part in whole.parts:
            expected = reranker.rank(QUERY, [text[part.start : part.end]])[0].score
            if part.start == 0:  # later parts begin with a token that has its space
                assert part.score == pytest.approx(expected, abs=1e-5)
        (again,) = reranker.rank(QUERY, [text], long_documents="chunk", part_tokens=20)
        assert again.parts == ()
        assert again.score == whole.score
        with pytest.raises(InputError):
            reranker.rank(QUERY, [text], with_parts=True)


def test_limits_of_a_ranking(artifacts: Path) -> None:
    with Reranker.load(artifacts / "tiny") as reranker:
        tokens = reranker.encoder.count((QUERY, "word word")) - reranker.encoder.count((QUERY, ""))
        limited = reranker.rank(QUERY, [LONG], limits=TextLimits(max_document_tokens=tokens))
        assert limited[0].score == reranker.rank(QUERY, ["word word"])[0].score
        assert limited[0].tokens_cut > 0
        for documents, parts in ((["a", "b"], "truncate"), ([LONG], "chunk")):
            with pytest.raises(InputError) as caught:
                reranker.rank(
                    QUERY, documents, limits=TextLimits(max_call_tokens=9), long_documents=parts, max_length=64
                )
            assert caught.value.details["argument"] == "max_call_tokens"
            assert caught.value.details["limit"] == 9
        with pytest.raises(InputError):
            reranker.score([("a", "b")] * 3, limits=TextLimits(max_call_tokens=9))


def test_parts_beyond_the_limit_of_a_call_are_never_made(artifacts: Path) -> None:
    """A long query with little room beside it: a thousand parts, each with the whole query."""
    encoder = PairEncoder(FILE, 600).with_limits(TextLimits(max_call_tokens=20_000))
    before = resident_bytes()
    with pytest.raises(InputError) as caught:
        encoder.encode_parts("a " * 500, ["b " * 100_000])
    assert caught.value.details["argument"] == "max_call_tokens"
    assert resident_bytes() < before + 100e6
