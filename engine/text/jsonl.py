"""Read pairs and documents, and write scores, a line at a time; errors name the file and the line."""

from __future__ import annotations

import codecs
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, NoReturn

from modernrank.errors import InputError

from .checks import Pair, as_pair, as_single_text, check_text

STANDARD = "-"
# Name endings of files that hold one JSON object a line; upper or lower case does not matter.
JSON_LINES = (".jsonl", ".ndjson")
# Fields that the result of a pair adds to its line.
RESULT_FIELDS = ("score", "query_tokens_cut", "document_tokens_cut")
# The same for a single text.
TEXT_RESULT_FIELDS = ("labels", "tokens_cut")


@dataclass(frozen=True)
class Place:
    """A line of a file or of standard input, counted from 1.

    >>> str(Place("pairs.jsonl", 3)), str(Place("-", 1))
    ('line 3 of pairs.jsonl', 'line 1 of standard input')
    """

    file: str
    line: int

    def __str__(self) -> str:
        return f"line {self.line} of {_shown(self.file)}"

    @property
    def details(self) -> dict[str, Any]:
        """The place as the details of an error."""
        return {"file": self.file, "line": self.line}

    def error(self, problem: str, **details: Any) -> InputError:
        """An error of which ``problem`` continues the sentence, and which has ``file`` and ``line`` in its details.

        >>> str(Place("qrels.txt", 3).error("has 2 columns"))
        'line 3 of qrels.txt has 2 columns'
        """
        return InputError(f"{self} {problem}", **self.details, **details)


@contextmanager
def reading(name: str) -> Iterator[Iterable[bytes]]:
    """The lines of a file, or of standard input for ``"-"``.

    Raises:
        InputError: the file cannot be read, or standard input is closed.
    """
    if name == STANDARD:
        if sys.stdin is None:
            raise InputError("cannot read standard input: it is closed; give a file")
        yield sys.stdin.buffer
        return
    try:
        stream = open(name, "rb")  # noqa: SIM115 - closed below; only the opening is ours to explain
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror}", file=name) from error
    with stream:
        yield stream


@contextmanager
def writing(name: str) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A function that writes one object a line, to a file or to standard output for ``"-"``.

    Raises:
        InputError: the file cannot be written.
    """
    if name == STANDARD:
        yield lambda record: print(json.dumps(record))
        return
    try:
        stream = open(name, "w", encoding="utf-8")  # noqa: SIM115 - as above
    except OSError as error:
        raise InputError(f"cannot write {name}: {error.strerror}", file=name) from error
    with stream:
        yield lambda record: print(json.dumps(record), file=stream)


class _Reader:
    """Reads the items of JSON lines, and keeps each line's other fields until they are requested."""

    inputs: tuple[str, ...]  # fields that make an item
    results: tuple[str, ...]  # fields that its result adds

    def __init__(self, lines: Iterable[bytes], source: str) -> None:
        self._lines = lines
        self._source = source
        self._other_fields: dict[int, dict[str, Any]] = {}

    def _items(self) -> Iterator[tuple[list[Any], Place]]:
        """The values of ``inputs`` of each line, and its place."""
        for index, (record, place) in enumerate(objects(self._lines, self._source)):
            missing = [name for name in self.inputs if name not in record]
            if missing:
                example = ", ".join(f'"{name}": ..' for name in self.inputs)
                raise place.error(f'has no "{missing[0]}"; a line is {{{example}}}', field=missing[0])
            item = [record.pop(name) for name in self.inputs]
            reserved = [name for name in self.results if name in record]
            if reserved:
                raise place.error(
                    f'has a field "{reserved[0]}", which the result would replace; rename it', field=reserved[0]
                )
            self._other_fields[index] = record
            yield item, place

    def other_fields(self, index: int) -> dict[str, Any]:
        """The fields of item ``index`` besides those that make it; they can be requested once."""
        return self._other_fields.pop(index)


class PairReader(_Reader):
    """Iterates over the pairs of JSON lines, and keeps each line's other fields until they are requested."""

    inputs = ("query", "document")
    results = RESULT_FIELDS

    def __iter__(self) -> Iterator[Pair]:
        for pair, place in self._items():
            yield as_pair(pair, str(place), **place.details)


class TextReader(_Reader):
    """The same for single texts."""

    inputs = ("text",)
    results = TEXT_RESULT_FIELDS

    def __iter__(self) -> Iterator[str]:
        for (text,), place in self._items():
            yield as_single_text(text, str(place), **place.details)


def read_documents(lines: Iterable[bytes], source: str) -> list[str]:
    """Documents of JSON lines, ``{"document": ..}``, or of plain text, one a line.

    A file is JSON lines if its name ends in ``.jsonl`` or ``.ndjson``; standard input is JSON lines if all its lines
    begin with a brace.

    Raises:
        InputError: a line cannot be used, there are no documents, or the input is one JSON array.
    """
    suffix = PurePath(source).suffix.lower()
    if suffix == ".json":
        raise InputError(
            f"{source} has the name of a single JSON value; write one object a line to a .jsonl file", file=source
        )
    read = list(lines)
    if read:
        read[0] = read[0].removeprefix(codecs.BOM_UTF8)
    first = next((line.lstrip() for line in read if line.strip()), b"")
    is_standard = source == STANDARD
    if is_standard and first.startswith(b"[") and _is_json_array(b"".join(read)):
        raise InputError('standard input is a JSON array; write one object a line: {"document": ..}')
    if suffix in JSON_LINES or (is_standard and first and all(line.lstrip()[:1] in (b"{", b"") for line in read)):
        documents = [_document(record, place) for record, place in objects(read, source)]
    else:
        documents = [text.rstrip("\r\n") for text, _ in texts(read, source) if text.strip()]
    if not documents:
        raise InputError(f"{_shown(source)} holds no documents", file=source)
    return documents


def _document(record: dict[str, Any], place: Place) -> str:
    if "document" not in record:
        raise place.error('has no "document"', field="document")
    return check_text(record["document"], str(place), **place.details)


def _is_json_array(content: bytes) -> bool:
    try:
        return isinstance(json.loads(content), list)
    except (ValueError, RecursionError):
        return False


def objects(lines: Iterable[bytes], source: str) -> Iterator[tuple[dict[str, Any], Place]]:
    """Each line's JSON object, and its place; blank lines are skipped.

    Raises:
        InputError: a line is not a JSON object.
    """
    for text, place in texts(lines, source):
        if not text.strip():
            continue
        try:
            record = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
        except (ValueError, RecursionError) as error:
            raise place.error(f"is not JSON: {error}") from error
        if not isinstance(record, dict):
            raise place.error(f"is not a JSON object but {type(record).__name__}")
        yield record, place


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number} is too large for a number of 64 bits")
    return value


def texts(lines: Iterable[bytes], source: str) -> Iterator[tuple[str, Place]]:
    """Each line as text, and its place.

    Raises:
        InputError: a line is not UTF-8.
    """
    for number, line in enumerate(lines, start=1):
        place = Place(source, number)
        try:
            # Windows editors begin a file with a byte order mark, which is no part of the text.
            yield line.decode("utf-8-sig" if number == 1 else "utf-8"), place
        except UnicodeDecodeError as error:
            raise place.error(f"is not UTF-8 ({error.reason} at byte {error.start})", byte=error.start) from error


def _shown(source: str) -> str:
    return "standard input" if source == STANDARD else source
