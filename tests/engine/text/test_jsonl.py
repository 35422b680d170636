"""Lines in and out: JSON lines or text by name and content, every refusal with its place."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from modernrank import InputError
from modernrank.text.jsonl import RESULT_FIELDS, PairReader, read_documents, reading, writing

OBJECTS = b'{"document": "first"}\n{"document": "second", "id": 7}\n'
TEXTS = b"first\nsecond\n"
BOTH = ["first", "second"]


def lines(content: bytes) -> io.BytesIO:
    """The lines of a file of ``content``."""
    return io.BytesIO(content)


@pytest.mark.parametrize("source", ["d.jsonl", "d.ndjson", "d.JSONL", "d.NdJson", "folder.txt/d.jsonl", "-"])
def test_json_lines_are_known_by_their_name_or_on_standard_input_by_their_braces(source: str) -> None:
    assert read_documents(lines(OBJECTS), source) == BOTH


@pytest.mark.parametrize("source", ["d.txt", "d", "d.md", "d.jsonl.txt", "-"])
def test_other_lines_are_texts(source: str) -> None:
    assert read_documents(lines(TEXTS), source) == BOTH


def test_braces_in_a_text_file_are_texts() -> None:
    assert read_documents(lines(OBJECTS), "d.txt") == OBJECTS.decode().splitlines()


def test_standard_input_with_one_line_without_a_brace_is_text() -> None:
    assert read_documents(lines(OBJECTS + b"third\n"), "-")[-1] == "third"
    assert len(read_documents(lines(OBJECTS + b"third\n"), "-")) == 3


def test_blank_lines_are_skipped() -> None:
    assert read_documents(lines(b"\n" + OBJECTS.replace(b"\n", b"\n  \n")), "-") == BOTH
    assert read_documents(lines(b"\n \n" + TEXTS), "d.txt") == BOTH


def test_a_byte_order_mark_and_the_line_ends_of_windows_are_no_part_of_a_text() -> None:
    assert read_documents(lines(b"\xef\xbb\xbffirst\r\nsecond"), "d.txt") == BOTH
    assert read_documents(lines(b"\xef\xbb\xbf" + OBJECTS.replace(b"\n", b"\r\n")), "d.jsonl") == BOTH


def test_spaces_around_a_text_are_kept() -> None:
    assert read_documents(lines(b"  first \n"), "d.txt") == ["  first "]


@pytest.mark.parametrize("source", ["d.json", "d.JSON"])
def test_a_json_file_is_refused_by_its_name(source: str) -> None:
    with pytest.raises(InputError, match=r"\.jsonl") as caught:
        read_documents(lines(OBJECTS), source)
    assert caught.value.details["file"] == source


@pytest.mark.parametrize("content", [b'["first", "second"]', b'[\n  "first",\n  "second"\n]\n', b"\n []"])
def test_a_json_array_on_standard_input_is_refused(content: bytes) -> None:
    with pytest.raises(InputError, match='{"document": '):
        read_documents(lines(content), "-")


def test_a_text_that_begins_with_a_bracket_is_a_text() -> None:
    assert read_documents(lines(b"[1] a reference\n[2] another\n"), "-") == ["[1] a reference", "[2] another"]


@pytest.mark.parametrize(
    ("second", "fact"),
    [
        (b"{", "JSON"),
        (b"3", "int"),
        (b'["a"]', "list"),
        (b'{"text": "a"}', '"document"'),
        (b'{"document": 3}', "int"),
        (b'{"document": "\\ud800"}', "ud800"),
        (b'{"document": "a", "x": NaN}', "NaN"),
        (b'{"document": "\xff"}', "UTF-8"),
        (b"[" * 100_000, "JSON"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(second: bytes, fact: str) -> None:
    with pytest.raises(InputError, match=rf"line 2 of d\.jsonl.*{fact}") as caught:
        read_documents(lines(b'{"document": "first"}\n' + second + b"\n"), "d.jsonl")
    assert caught.value.details["file"] == "d.jsonl"
    assert caught.value.details["line"] == 2


def test_a_text_that_is_not_utf_8_is_named() -> None:
    with pytest.raises(InputError) as caught:
        read_documents(lines(b"first\na\xff\n"), "d.txt")
    assert caught.value.details == {"file": "d.txt", "line": 2, "byte": 1}


@pytest.mark.parametrize(("source", "name"), [("d.txt", r"d\.txt"), ("d.jsonl", r"d\.jsonl"), ("-", "standard input")])
@pytest.mark.parametrize("content", [b"", b"\n  \n"])
def test_no_documents_are_an_error(source: str, name: str, content: bytes) -> None:
    with pytest.raises(InputError, match=name):
        read_documents(lines(content), source)


def test_pairs_keep_the_other_fields_of_their_lines() -> None:
    reader = PairReader(
        lines(b'{"query": "q", "document": "a", "id": 1}\n\n{"document": "b", "query": "r"}\n'), "p.jsonl"
    )
    assert list(reader) == [("q", "a"), ("r", "b")]
    assert [reader.other_fields(index) for index in (0, 1)] == [{"id": 1}, {}]


@pytest.mark.parametrize("name", RESULT_FIELDS)
def test_a_field_that_the_result_would_replace_is_refused(name: str) -> None:
    line = json.dumps({"query": "q", "document": "a", name: 1}).encode()
    with pytest.raises(InputError) as caught:
        list(PairReader([line], "p.jsonl"))
    assert caught.value.details == {"file": "p.jsonl", "line": 1, "field": name}


def test_the_fields_of_a_result_are_reserved() -> None:
    assert set(RESULT_FIELDS) == {"score", "query_tokens_cut", "document_tokens_cut"}


@pytest.mark.parametrize(
    ("line", "fact"),
    [(b'{"query": "q"}', '"document"'), (b'{"document": "a"}', '"query"'), (b'{"query": 1, "document": "a"}', "int")],
)
def test_a_pair_without_two_texts_is_refused(line: bytes, fact: str) -> None:
    with pytest.raises(InputError, match=fact) as caught:
        list(PairReader([b"\n", line], "p.jsonl"))
    assert caught.value.details["line"] == 2


def test_a_file_that_cannot_be_read_or_written_is_named(tmp_path: Path) -> None:
    absent = str(tmp_path / "absent" / "file.jsonl")
    for use in (reading, writing):
        with pytest.raises(InputError) as caught, use(absent):
            pass
        assert caught.value.details["file"] == absent


def test_standard_input_that_is_closed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(InputError, match="standard input"), reading("-"):
        pass


def test_what_is_written_to_a_file_is_read_back(tmp_path: Path) -> None:
    file = str(tmp_path / "documents.jsonl")
    with writing(file) as write:
        for text in (*BOTH, "Größe 北京\n"):
            write({"document": text})
    with reading(file) as read:
        assert read_documents(read, file) == [*BOTH, "Größe 北京\n"]


def test_results_go_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    with writing("-") as write:
        write({"score": 1.5})
    assert json.loads(capsys.readouterr().out) == {"score": 1.5}


def test_a_byte_order_mark_does_not_hide_json_lines_on_standard_input() -> None:
    assert read_documents([b'\xef\xbb\xbf{"document": "a"}\n', b'{"document": "b"}\n'], "-") == ["a", "b"]


def test_a_number_beyond_64_bits_is_refused_because_it_could_not_be_written_back() -> None:
    with pytest.raises(InputError) as caught:
        list(PairReader(lines(b'{"query": "a", "document": "b", "weight": 1e999}\n'), "pairs.jsonl"))
    assert caught.value.details["line"] == 1
