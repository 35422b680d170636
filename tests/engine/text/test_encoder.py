"""Encoding: the ids that ``tokenizers`` and ``transformers`` give, whole and cut; what is refused, and how."""

import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from modernrank import ArtifactError, InputError
from modernrank.text.encoder import PairEncoder
from modernrank.text.long_documents import MINIMUM_PART, OVERLAP, overlapping_spans
from support.checkpoints import checkpoint, golden

FILE = checkpoint("tiny") / "tokenizer.json"
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
SPECIAL_TOKENS = 3


@cache
def reference(max_length: int | None = None, side: str = "right") -> Tokenizer:
    """What ``transformers`` runs: the library's own truncation."""
    tokenizer = Tokenizer.from_file(str(FILE))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if max_length is not None:
        tokenizer.enable_truncation(max_length, strategy="longest_first", direction=side)
    return tokenizer


@pytest.mark.parametrize("name", ["tiny", "tiny-cls"])
def test_ids_are_those_of_transformers(name: str) -> None:
    expected = golden(name)
    encoded = PairEncoder(checkpoint(name) / "tokenizer.json", 8192).encode([tuple(p) for p in expected["pairs"]])
    assert [pair.ids.tolist() for pair in encoded] == expected["input_ids"]


@given(TEXT, TEXT, st.integers(SPECIAL_TOKENS, 80), st.sampled_from(["left", "right"]))
def test_longest_first_cuts_as_the_library_does(query: str, document: str, max_length: int, side: str) -> None:
    encoded = PairEncoder(FILE, max_length, "longest_first", side).encode([(query, document)])[0]
    assert encoded.ids.tolist() == reference(max_length, side).encode(query, document).ids
    whole = len(reference().encode(query, document).ids)
    assert encoded.query_tokens_cut + encoded.document_tokens_cut == whole - len(encoded.ids)


@given(TEXT, TEXT, st.integers(SPECIAL_TOKENS, 80))
def test_document_truncation_never_cuts_the_query(query: str, document: str, max_length: int) -> None:
    encoder = PairEncoder(FILE, max_length, "document")
    query_length = len(reference().encode(query, add_special_tokens=False).ids)
    if query_length + SPECIAL_TOKENS > max_length:
        if len(reference().encode(query, document).ids) > max_length:
            with pytest.raises(InputError, match="its query alone takes"):
                encoder.encode([(query, document)])
        return
    encoded = encoder.encode([(query, document)])[0]
    assert encoded.query_tokens_cut == 0
    assert len(encoded.ids) == min(max_length, len(reference().encode(query, document).ids))


def test_truncation_error_names_pair_length_and_limit() -> None:
    with pytest.raises(InputError, match=r"pair 8 has \d+ tokens, max_length is 10; shorten it"):
        PairEncoder(FILE, 10, "error").encode([("a", "b"), ("a" * 50, "c" * 50)], first_index=7)


def test_padding_and_truncation_embedded_in_the_file_are_off() -> None:
    embedded = json.loads(FILE.read_text())
    assert embedded["padding"]["strategy"] == {"Fixed": 8000} and embedded["truncation"]["max_length"] == 8000
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


@pytest.mark.parametrize(
    ("pair", "found"),
    [
        (None, "NoneType"),
        ("ab", "str"),
        (("one",), r"\(str\)"),
        (("a", "b", "c"), r"\(str, str, str\)"),
        (("a", None), r"\(str, NoneType\)"),
        ((b"a", "b"), r"\(bytes, str\)"),
        ({"query": "a", "document": "b"}, "dict"),
    ],
)
def test_what_is_not_two_strings_is_refused(pair: object, found: str) -> None:
    with pytest.raises(InputError, match=rf"pair 1 is not a \(query, document\) tuple of two strings but {found}"):
        PairEncoder(FILE, 100).encode([("fine", "fine"), pair])  # type: ignore[list-item]


def test_lone_surrogates_are_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"pair 0: its document holds a lone surrogate '\\ud800' at character 2"):
        PairEncoder(FILE, 100).encode([("a", "ab\ud800")])


def test_nul_and_empty_texts_are_encoded() -> None:
    encoded = PairEncoder(FILE, 100).encode([("a\0b", ""), ("", "")])
    assert [pair.ids.tolist() for pair in encoded] == [reference().encode(*p).ids for p in (("a\0b", ""), ("", ""))]


def test_unknown_truncation_and_hopeless_length_are_refused() -> None:
    with pytest.raises(
        InputError, match="truncation 'middle' is unknown; choose one of longest_first, document, error"
    ):
        PairEncoder(FILE, 100, "middle")
    with pytest.raises(InputError, match="max_length 2 leaves no room for the 3 special tokens"):
        PairEncoder(FILE, 2)


def test_a_vocabulary_beyond_the_embedding_is_refused() -> None:
    with pytest.raises(ArtifactError, match="ids up to 511, but the model's embedding table has only 400 rows"):
        PairEncoder(FILE, 100, vocabulary=400)


def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ArtifactError, match="is not a tokenizer"):
        PairEncoder(tmp_path / "tokenizer.json", 100)


@given(st.integers(0, 2000), st.integers(MINIMUM_PART, 300))
def test_parts_cover_a_document_and_overlap(tokens: int, room: int) -> None:
    spans = overlapping_spans(tokens, room)
    assert spans[0][0] == 0 and spans[-1][1] == tokens
    assert all(last - first == min(room, tokens) for first, last in spans)
    shared = int(OVERLAP * room)
    for (_, last), (first, _) in itertools.pairwise(spans):
        assert last - first >= shared
    assert len(spans) <= 1 + max(0, tokens - room) / (room - shared) + 1  # no more than are needed


@given(TEXT, TEXT, st.integers(24, 60))
def test_parts_are_the_query_and_a_stretch_of_the_document(query: str, document: str, max_length: int) -> None:
    document = document * 5
    encoder = PairEncoder(FILE, max_length)
    whole = PairEncoder(FILE, 8192).encode([(query, document), (query, "")])
    ids, empty = (pair.ids.tolist() for pair in whole)
    if len(ids) > max_length and max_length - len(empty) < MINIMUM_PART:
        with pytest.raises(InputError, match="leaves"):
            encoder.encode_parts(query, [document])
        return
    (parts,) = encoder.encode_parts(query, [document])
    before = empty[:-1]  # [CLS] query [SEP]
    stretches = [part.ids.tolist() for part in parts]
    for part in stretches:
        assert len(part) <= max_length and part[: len(before)] == before and part[-1] == ids[-1]
        stretch = part[len(before) : -1]
        assert any(ids[i : i + len(stretch)] == stretch for i in range(len(before), len(ids)))
    assert sum(part.query_tokens_cut + part.document_tokens_cut for part in parts) == 0
    assert (len(parts) == 1) == (len(ids) <= max_length)
