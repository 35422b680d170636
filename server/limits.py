"""The limits of a call and of a body, which settings make and others keep."""

from __future__ import annotations

from dataclasses import dataclass

from modernrank import LongDocuments

MEBIBYTE = 2**20


@dataclass(frozen=True)
class Rules:
    """What the server allows and adds to each call.

    max_documents, max_characters, max_query_characters, max_tokens: of one request.
    seconds:        until a call is given up.
    long_documents: where the wire leaves the choice.
    span_tokens:    the tokens of a part that an answer shows.
    """

    max_documents: int
    max_characters: int
    max_query_characters: int
    max_tokens: int
    seconds: float
    long_documents: LongDocuments
    span_tokens: int


@dataclass(frozen=True)
class BodyLimits:
    """max_bytes: of a body, packed and unpacked. max_values: JSON values in it. seconds: that it may take to arrive."""

    max_bytes: int
    max_values: int
    seconds: float


def mebibytes(size: int) -> str:
    """A number of bytes.

    >>> mebibytes(16 * MEBIBYTE), mebibytes(1500)
    ('16 MiB', '1,500 bytes')
    """
    return f"{size / MEBIBYTE:g} MiB" if size >= MEBIBYTE and size % (MEBIBYTE // 4) == 0 else f"{size:,} bytes"
