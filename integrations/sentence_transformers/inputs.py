"""What ``predict`` takes: pairs, one pair, or single texts."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from modernrank.arrays import FloatArray
from modernrank.errors import InputError
from modernrank.options import TextLimits
from modernrank.reranker import Reranker


def read_inputs(inputs: object) -> tuple[list[Any], bool]:
    """The inputs as a list, and whether they were a single one.

    As in sentence-transformers, a list or tuple whose first element is a list or tuple is a batch, an array of two
    dimensions is one, and everything else is a single input.

    Raises:
        InputError: ``inputs`` can be read only once, or are a data frame or another thing without an order.

    >>> read_inputs(("query", "document")), read_inputs([("query", "document")])
    (([['query', 'document']], True), ([('query', 'document')], False))
    """
    if isinstance(inputs, str):
        return [inputs], True
    if isinstance(inputs, np.ndarray):
        return (inputs.tolist(), False) if inputs.ndim > 1 or inputs.size == 0 else ([inputs.tolist()], True)
    sequences = (list, tuple, *_column_types())
    if not isinstance(inputs, sequences):
        kind = "an iterator, which is read only once" if isinstance(inputs, Iterator) else type(inputs).__name__
        raise InputError(
            f"inputs are {kind}; give a list of (query, document) pairs, an array of strings [pairs, 2], or one pair",
            argument="inputs",
        )
    listed: list[Any] = list(inputs)  # type: ignore[call-overload]
    if listed and not isinstance(listed[0], sequences):
        return [listed], True
    return listed, False


def score_texts(reranker: Reranker, texts: Sequence[str], limits: TextLimits) -> FloatArray:
    """Logits of single texts, each behind the prompt of ``limits``: the engine's own calls on texts have no prompts.

    Raises:
        InputError: as ``Reranker.score_texts``.
    """
    prompted = [f"{limits.prompt or ''}{text}" for text in texts]
    return reranker.score_texts(prompted, limits=replace(limits, prompt=None))


def _column_types() -> tuple[type, ...]:
    """The class of a data set's column, where ``datasets`` is loaded: without it there is no such object."""
    column = getattr(sys.modules.get("datasets"), "Column", None)
    return () if column is None else (column,)
