"""Read pairs and documents, write scores, a line at a time; what is wrong is told by file and line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from modernrank.errors import InputError

from .encoder import Pair, check_pair, check_text

STANDARD = "-"


@contextmanager
def reading(name: str) -> Iterator[Iterable[bytes]]:
    """The lines of a file, or of standard input for ``"-"``."""
    if name == STANDARD:
        yield sys.stdin.buffer
        return
    try:
        stream = open(name, "rb")  # noqa: SIM115 - closed below; only opening it is ours to explain
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror}") from error
    with stream:
        yield stream


@contextmanager
def writing(name: str) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A function that writes one object a line, to a file or to standard output for ``"-"``."""
    if name == STANDARD:
        yield lambda record: print(json.dumps(record))
        return
    try:
        stream = open(name, "w", encoding="utf-8")  # noqa: SIM115 - as above
    except OSError as error:
        raise InputError(f"cannot write {name}: {error.strerror}") from error
    with stream:
        yield lambda record: print(json.dumps(record), file=stream)


class PairReader:
    """Iterates over the pairs of JSON lines, and keeps each line's other fields until they are asked for."""

    def __init__(self, lines: Iterable[bytes], source: str) -> None:
        self._lines = lines
        self._source = source
        self._others: dict[int, dict[str, Any]] = {}

    def __iter__(self) -> Iterator[Pair]:
        for index, (record, where) in enumerate(objects(self._lines, self._source)):
            missing = [name for name in ("query", "document") if name not in record]
            if missing:
                raise InputError(f'{where} has no "{missing[0]}"; a line is {{"query": .., "document": ..}}')
            pair = (record.pop("query"), record.pop("document"))
            check_pair(pair, where)
            if "score" in record:
                raise InputError(f'{where} has a field "score" already, which the result would replace; rename it')
            self._others[index] = record
            yield pair

    def other_fields(self, index: int) -> dict[str, Any]:
        """The fields of pair ``index`` besides query and document; to be asked for once each."""
        return self._others.pop(index)


def read_documents(lines: Iterable[bytes], source: str) -> list[str]:
    """Documents of a ``.jsonl`` file, ``{"document": ..}`` a line, or of plain text, one a line.

    Raises:
        InputError: a line cannot be used, or there is none.
    """
    if source.endswith(".jsonl"):
        documents = []
        for record, where in objects(lines, source):
            if "document" not in record:
                raise InputError(f'{where} has no "document"')
            documents.append(check_text(record["document"], where))
    else:
        documents = [text.rstrip("\r\n") for text, _ in texts(lines, source) if text.strip()]
    if not documents:
        raise InputError(f"{_shown(source)} holds no documents")
    return documents


def objects(lines: Iterable[bytes], source: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Each line's JSON object and its place in words; blank lines are passed over."""
    for text, where in texts(lines, source):
        if not text.strip():
            continue
        try:
            record = json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where} is not JSON: {error}") from error
        if not isinstance(record, dict):
            raise InputError(f"{where} is not a JSON object but {type(record).__name__}")
        yield record, where


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def texts(lines: Iterable[bytes], source: str) -> Iterator[tuple[str, str]]:
    """Each line as text, and its place in words."""
    for number, line in enumerate(lines, start=1):
        where = f"line {number} of {_shown(source)}"
        try:
            # Windows editors begin a file with a byte order mark, which is no part of the text.
            yield line.decode("utf-8-sig" if number == 1 else "utf-8"), where
        except UnicodeDecodeError as error:
            raise InputError(f"{where} is not UTF-8 ({error.reason} at byte {error.start})") from error


def _shown(source: str) -> str:
    return "standard input" if source == STANDARD else source
