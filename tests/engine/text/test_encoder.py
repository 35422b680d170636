"""Encoding: the ids that ``tokenizers`` and ``transformers`` give, whole and cut; what is refused, and how."""

import json
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from modernrank import ArtifactError, InputError, TextLimits
from modernrank.text.encoder import PairEncoder
from support.checkpoints import checkpoint, golden

FILE = checkpoint("tiny") / "tokenizer.json"
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
SPECIAL_TOKENS = 3


@cache
def reference(max_length: int | None = None, side: str = "right") -> Tokenizer:
    """The tokenizer that ``transformers`` runs, with the library's own truncation."""
    tokenizer = Tokenizer.from_file(str(FILE))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if max_length is not None:
        tokenizer.enable_truncation(max_length, strategy="longest_first", direction=side)
    return tokenizer


def cut_by_the_library(query: str, document: str, max_length: int, side: str) -> list[int]:
    """The library's rule for whole parts; ``encode`` of 0.23.1 and 0.23.2 applies it to parts that it already cut."""
    parts = (reference().encode(text, add_special_tokens=False) for text in (query, document))
    ids: list[int] = reference(max_length, side).post_process(*parts).ids
    return ids


@pytest.mark.parametrize("name", ["tiny", "tiny-cls"])
def test_ids_are_those_of_transformers(name: str) -> None:
    expected = golden(name)
    encoded = PairEncoder(checkpoint(name) / "tokenizer.json", 8192).encode([tuple(p) for p in expected["pairs"]])
    assert [pair.ids.tolist() for pair in encoded] == expected["input_ids"]


@given(TEXT, TEXT, st.integers(SPECIAL_TOKENS, 80), st.sampled_from(["left", "right"]))
@example("what is the capital of China?", "def quicksort(xs):\n    return xs", 8, "right")
@example("def quicksort(xs):\n    return xs", "what is the capital of China?", 8, "left")
def test_longest_first_cuts_as_the_library_does(query: str, document: str, max_length: int, side: str) -> None:
    """In the examples both parts are cut to half, and one gets an odd token."""
    encoded = PairEncoder(FILE, max_length, "longest_first", side).encode([(query, document)])[0]
    assert encoded.ids.tolist() == cut_by_the_library(query, document, max_length, side)
    whole = len(reference().encode(query, document).ids)
    assert encoded.query_tokens_cut + encoded.document_tokens_cut == whole - len(encoded.ids)


@given(TEXT, TEXT, st.integers(SPECIAL_TOKENS, 80))
def test_document_truncation_never_cuts_the_query(query: str, document: str, max_length: int) -> None:
    encoder = PairEncoder(FILE, max_length, "document")
    query_length = len(reference().encode(query, add_special_tokens=False).ids)
    if query_length + SPECIAL_TOKENS > max_length:
        if len(reference().encode(query, document).ids) > max_length:
            with pytest.raises(InputError) as caught:
                encoder.encode([(query, document)])
            assert caught.value.details["query_tokens"] == query_length
        return
    encoded = encoder.encode([(query, document)])[0]
    assert encoded.query_tokens_cut == 0
    assert len(encoded.ids) == min(max_length, len(reference().encode(query, document).ids))


def test_truncation_error_names_pair_length_and_limit() -> None:
    tokens = len(reference().encode("a" * 50, "c" * 50).ids)
    with pytest.raises(InputError, match=rf"pair 8 .*\b{tokens}\b.*\b10\b"):
        PairEncoder(FILE, 10, "error").encode([("a", "b"), ("a" * 50, "c" * 50)], indices=[7, 8])


def test_padding_and_truncation_embedded_in_the_file_are_off() -> None:
    embedded = json.loads(FILE.read_text())
    assert embedded["padding"]["strategy"] == {"Fixed": 8000}
    assert embedded["truncation"]["max_length"] == 8000
    short, long = PairEncoder(FILE, 8192).encode([("a", "b"), ("a", "xyz " * 4000)])
    assert len(short.ids) == 5
    assert len(long.ids) == 8192


def test_a_query_of_many_pairs_gives_the_ids_of_each_alone() -> None:
    encoder = PairEncoder(FILE, 100)
    pairs = [("the same query", f"document {i}") for i in range(20)]
    together = [pair.ids.tolist() for pair in encoder.encode(pairs)]
    assert together == [encoder.encode([pair])[0].ids.tolist() for pair in pairs]


def test_threads_may_share_an_encoder() -> None:
    encoder = PairEncoder(FILE, 32)
    pairs = [("query", "document " * n) for n in range(30)]
    expected = [pair.ids.tolist() for pair in encoder.encode(pairs)]

    def encode(_: int) -> list[list[int]]:
        return [pair.ids.tolist() for pair in encoder.encode(pairs)]

    with ThreadPoolExecutor(8) as pool:
        assert all(result == expected for result in pool.map(encode, range(64)))


def test_nul_and_empty_texts_are_encoded() -> None:
    encoded = PairEncoder(FILE, 100).encode([("a\0b", ""), ("", "")])
    assert [pair.ids.tolist() for pair in encoded] == [reference().encode(*p).ids for p in (("a\0b", ""), ("", ""))]


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        ((100, "middle"), "truncation"),
        ((100, "document", "up"), "truncation_side"),
        ((0,), "max_length"),
        ((SPECIAL_TOKENS - 1,), "max_length"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: tuple[Any, ...], argument: str) -> None:
    with pytest.raises(InputError) as caught:
        PairEncoder(FILE, *arguments)
    assert caught.value.details["argument"] == argument


def test_other_limits_leave_the_first_encoder_as_it_is() -> None:
    encoder = PairEncoder(FILE, 100)
    other = encoder.with_limits(TextLimits(10, "document"))
    assert (other.max_length, other.truncation) == (10, "document")
    assert (encoder.max_length, encoder.truncation) == (100, "longest_first")
    pair = ("a", "b " * 40)
    assert other.count(pair) == 10
    assert encoder.count(pair) == len(reference().encode(*pair).ids)


def test_a_vocabulary_beyond_the_embedding_is_refused() -> None:
    with pytest.raises(ArtifactError) as caught:
        PairEncoder(FILE, 100, vocabulary=400)
    assert caught.value.details["largest"] == 511
    assert caught.value.details["rows"] == 400


def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text("{}")
    with pytest.raises(ArtifactError) as caught:
        PairEncoder(file, 100)
    assert caught.value.details["path"] == file


@pytest.mark.parametrize(("side", "kept"), [("right", slice(0, 3)), ("left", slice(-3, None))])
def test_a_text_has_a_limit_of_its_own(side: str, kept: slice) -> None:
    """Before the pair is made: the document's ids are those of its first, or last, three tokens."""
    encoder = PairEncoder(FILE, 100, truncation_side=side)
    query, document = "the terms of the license", "word notice contract terms license of the"
    ids = reference().encode(document, add_special_tokens=False).ids
    (pair,) = encoder.with_limits(TextLimits(max_document_tokens=3)).encode([(query, document)])
    assert pair.ids.tolist()[-4:-1] == ids[kept]
    assert (pair.query_tokens_cut, pair.document_tokens_cut) == (0, len(ids) - 3)
    (pair,) = encoder.with_limits(TextLimits(max_query_tokens=2)).encode([(query, document)])
    assert pair.query_tokens_cut == len(reference().encode(query, add_special_tokens=False).ids) - 2
    assert pair.document_tokens_cut == 0


def test_the_side_that_is_cut_can_be_chosen_for_a_call() -> None:
    pair = ("a", "b " * 40 + "end")
    left = PairEncoder(FILE, 10, truncation_side="left").encode([pair])
    chosen = PairEncoder(FILE, 10).with_limits(TextLimits(truncation_side="left")).encode([pair])
    assert chosen[0].ids.tolist() == left[0].ids.tolist()
