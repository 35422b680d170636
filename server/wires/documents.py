"""Documents as clients send them: strings, or objects with a text and fields of their own that come back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modernrank.errors import InputError

# A document in a request: a string, or an object.
Document = str | dict[str, Any]


def texts_of(documents: Sequence[Document], rank_fields: Sequence[str] | None = None) -> list[str]:
    """The text of each document that is scored.

    Args:
        documents: strings or objects.
        rank_fields: the fields of an object that count, in their order; by default its text.

    Raises:
        InputError: an object has no text, or lacks one of the fields.
    """
    if rank_fields is not None and len(set(rank_fields)) != len(rank_fields):
        raise InputError("rank_fields names a field twice; name each one once", argument="rank_fields")
    return [
        document if isinstance(document, str) else _text(document, rank_fields or (), index)
        for index, document in enumerate(documents)
    ]


def returned(document: Document, text: str) -> dict[str, Any]:
    """A document as the answer gives it back: an object of a text, or the client's own object.

    >>> returned("a", "a"), returned({"text": "a", "id": 7}, "a")
    ({'text': 'a'}, {'text': 'a', 'id': 7})
    """
    return {"text": document} if isinstance(document, str) else {"text": text, **document}


def _text(document: Mapping[str, Any], rank_fields: Sequence[str], index: int) -> str:
    if rank_fields:
        missing = [name for name in rank_fields if name not in document]
        if missing:
            raise InputError(
                f"document {index} has no field {missing[0][:100]!r}, which rank_fields names", index=index
            )
        if len(rank_fields) == 1:
            return _value(document[rank_fields[0]], rank_fields[0], index)
        return "\n".join(f"{name}: {_value(document[name], name, index)}" for name in rank_fields)
    if "text" in document:
        return _value(document["text"], "text", index)
    if "content" in document:  # vLLM's: a list of parts, or a string
        return _content(document["content"], index)
    raise InputError(
        f"document {index} is an object without 'text'; send a string, an object with 'text', or rank_fields",
        index=index,
    )


def _value(value: object, name: str, index: int) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise InputError(f"document {index}: {name[:100]!r} is {type(value).__name__}; it must be a string", index=index)


def _content(content: object, index: int) -> str:
    if isinstance(content, str):
        return content
    parts: list[object] = content if isinstance(content, list) else [content]
    texts = [part.get("text") if isinstance(part, dict) else None for part in parts]
    kept = [text for text in texts if isinstance(text, str)]
    if len(kept) != len(texts):
        raise InputError(
            f"document {index}: 'content' holds something other than texts, and this model reads only texts",
            index=index,
        )
    return "\n".join(kept)
