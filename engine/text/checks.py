"""Refuse input that is not texts, and say what to pass instead.

People pass lists, tuples, generators, numpy arrays, and columns of data frames; all of these are accepted. Mappings and
whole data frames are refused, because they iterate over their keys or column names and their contents would be ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from modernrank.errors import InputError

Pair = tuple[str, str]


def as_pair(pair: object, name: str, **details: Any) -> Pair:
    """``pair`` as a tuple of two strings; ``name`` names it in errors, which have the ``details``.

    Raises:
        InputError: it is not a tuple, list or array of two valid strings.
    """
    if isinstance(pair, np.ndarray):
        pair = pair.tolist()
    if not isinstance(pair, tuple | list):
        raise InputError(f"{name} is not a (query, document) tuple of two strings but {type(pair).__name__}", **details)
    if len(pair) != 2 or not all(isinstance(text, str) for text in pair):
        kinds = ", ".join(type(text).__name__ for text in pair)
        raise InputError(f"{name} is not a (query, document) tuple of two strings but ({kinds})", **details)
    query, document = pair
    return check_text(query, f"{name}: its query", **details), check_text(document, f"{name}: its document", **details)


def check_text(text: object, name: str, **details: Any) -> str:
    """``text``, if it is a string of valid Unicode; ``name`` names it in errors, which have the ``details``.

    Raises:
        InputError: it is not.
    """
    if not isinstance(text, str):
        raise InputError(f"{name} is not a string but {type(text).__name__}", **details)
    if text.isascii():
        return str.__str__(text)  # a subclass, such as an enumeration, may print as something else
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"{name} has a lone surrogate {text[error.start]!r} at character {error.start}, which is not valid "
            "Unicode; decode the text again, for instance with errors='replace'",
            character=error.start,
            **details,
        ) from error
    return str.__str__(text)


def as_single_text(text: object, name: str, **details: Any) -> str:
    """``text``, if it is one string; ``name`` names it in errors, which have the ``details``.

    Raises:
        InputError: it is a pair or something else, or not valid Unicode.
    """
    if isinstance(text, tuple | list | Mapping | np.ndarray):
        raise InputError(
            f"{name} is not a string but {type(text).__name__}; this scores single texts, and `score` pairs",
            **details,
        )
    return check_text(text, name, **details)


def check_single_texts(texts: Iterable[object]) -> Iterable[object]:
    """``texts``, if it can be iterated over to give texts. Nothing is read from it.

    Raises:
        InputError: it is no iterable, one bare string, a mapping or a data frame.
    """
    return _iterable(texts, "texts", "a list of texts")


def check_texts(texts: Iterable[object], name: str) -> list[str]:
    """The list of ``texts``, each checked. ``name`` names one of them, such as ``"document"``.

    Raises:
        InputError: ``texts`` is not a list or another iterable of strings.
    """
    values = _iterable(texts, f"{name}s", f"a list of {name}s")
    return [check_text(text, f"{name} {index}", index=index) for index, text in enumerate(values)]


def check_pairs(pairs: Iterable[object]) -> Iterable[object]:
    """``pairs``, if it can be iterated over to give pairs. Nothing is read from it.

    Raises:
        InputError: it is no iterable, it is a mapping or a data frame, or it is one bare pair.
    """
    values = _iterable(pairs, "pairs", "a list of (query, document) tuples")
    if isinstance(values, Sequence) and len(values) == 2 and all(isinstance(text, str) for text in values):
        raise InputError("pairs is a single pair; pass a list of pairs: [(query, document)]", argument="pairs")
    return values


def _iterable(values: Any, argument: str, expected: str) -> Iterable[object]:
    kind = type(values).__name__
    if isinstance(values, np.ndarray):
        return _from_array(values, argument, expected)
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise InputError(f"{argument} is {kind}; pass {expected}", argument=argument)
    if isinstance(values, Mapping):
        raise InputError(
            f"{argument} is {kind}, whose keys would be used; pass {expected}, such as list(d.values())",
            argument=argument,
        )
    if hasattr(values, "columns"):  # pandas, Polars, Spark
        raise InputError(
            f"{argument} is {kind}, whose column names would be used; pass {expected}, such as a column, "
            "or zip(df['query'], df['document']) for pairs",
            argument=argument,
        )
    return values


def _from_array(values: np.ndarray[Any, Any], argument: str, expected: str) -> Iterable[object]:
    """A 1-D array of strings, or for pairs a 2-D array of two columns."""
    if values.ndim != (2 if argument == "pairs" else 1) and values.size:
        shape = list(values.shape)
        raise InputError(f"{argument} is an array of shape {shape}; pass {expected}", argument=argument, shape=shape)
    items: list[object] = values.tolist()
    return items
