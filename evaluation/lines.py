"""The lines of an evaluation file, each with its place. An error names the file and the line, also in ``details``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modernrank.text import jsonl
from modernrank.text.checks import check_text
from modernrank.text.jsonl import Place


def json_lines(path: Path) -> Iterator[tuple[dict[str, Any], Place]]:
    """The JSON object of each line; blank lines are skipped.

    Raises:
        InputError: the file cannot be read, or a line is not a JSON object.
    """
    with jsonl.reading(str(path)) as lines:
        yield from jsonl.objects(lines, str(path))


def text_lines(path: Path) -> Iterator[tuple[str, Place]]:
    """The text of each line, without its line break; blank lines are skipped.

    Raises:
        InputError: the file cannot be read, or a line is not UTF-8.
    """
    with jsonl.reading(str(path)) as lines:
        for text, place in jsonl.texts(lines, str(path)):
            if text.strip():
                yield text.rstrip("\r\n"), place


def columns(line: str, place: Place, form: str, separator: str | None = None, remedy: str = "") -> list[str]:
    """The columns of a line.

    Args:
        line: the text.
        place: the line's place.
        form: the names of the columns, such as ``"QUERY 0 DOCUMENT GRADE"``: their number is required.
        separator: between columns; None for any white space.
        remedy: what to change, for the error.

    Raises:
        InputError: the line has another number of columns.
    """
    values, names = line.split(separator), form.split(separator)
    if len(values) != len(names):
        shown = form.replace("\t", " <tab> ")
        raise place.error(f"has {len(values)} columns instead of {len(names)}: {shown}{remedy}", form=form)
    return values


def string_field(record: dict[str, Any], name: str, place: Place) -> str:
    """The string in a field.

    Raises:
        InputError: the field does not exist, or it holds something else.
    """
    if name not in record:
        raise place.error(f"has no field {name!r}", field=name)
    value = record[name]
    if not isinstance(value, str):
        raise place.error(f"has a field {name!r} of type {type(value).__name__}; it must be a string", field=name)
    return value


def valid_text(text: str, place: Place) -> str:
    """``text``, if it is valid Unicode.

    Raises:
        InputError: it is not.
    """
    return check_text(text, str(place), **place.details)


def identifier(name: str, place: Place) -> str:
    """``name``, if a TREC file can hold it.

    Raises:
        InputError: it is empty or contains white space.
    """
    if name.split() != [name]:
        raise place.error(
            f"has the id {name!r}, which is empty or contains white space; TREC files separate columns by white space, "
            "so rename it",
            value=name,
        )
    return name


def number(text: str, place: Place, name: str) -> float:
    """The finite number in a column called ``name``.

    Raises:
        InputError: it is not a number.
    """
    if not is_number(text):
        raise place.error(f"has the {name} {text!r}, which is not a number", field=name, value=text)
    return float(text)


def is_number(text: str) -> bool:
    """Whether ``text`` is a finite number."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
