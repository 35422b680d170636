"""Reads the body of a request: within its limit while it streams in, unpacked, and parsed as JSON.

A small body can be large once it is parsed: gzip, nesting, millions of empty objects. Each is refused before it costs
memory.
"""

from __future__ import annotations

import asyncio
import encodings.utf_8_sig  # noqa: F401 - now, and not when the process has no file handles left
import json
import re
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from ..limits import BodyLimits, mebibytes
from .problems import RequestError

Receive = Callable[[], Awaitable[Any]]

# A text, up to the end where its second quote is missing. Possessive: the time is linear in the body.
TEXT_OR_MARK = re.compile(rb'"(?:[^"\\]++|\\.?)*+"?|[,\[{]', re.DOTALL)
SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
# Digits of a whole number: more than any field needs, and few enough to be read at once.
MAX_DIGITS = 300
JSON_TYPES = ("application/json", "text/json")


class ClientLeftError(Exception):
    """The client closed the connection: nobody reads an answer."""


async def read_body(
    headers: dict[bytes, bytes], receive: Receive, limits: BodyLimits, hold: Callable[[int], None] = lambda size: None
) -> bytes:
    """The whole body, unpacked. ``hold`` is called with the size of each part; it may refuse by raising.

    Raises:
        RequestError: 400 for a damaged one, 408 for a slow one, 413 for one that is too large, 415 for an encoding that
            is not gzip or deflate.
        ClientLeftError: the client left before its end.
    """
    unpack = _unpacker(headers.get(b"content-encoding", b"identity").decode("latin-1").strip().lower(), limits)
    declared = headers.get(b"content-length", b"")
    if declared.isdigit() and int(declared) > limits.max_bytes:
        raise _too_large(limits)
    parts: list[bytes] = []
    size = packed = 0
    try:
        async with asyncio.timeout(limits.seconds):
            async for chunk in _chunks(receive):
                packed += len(chunk)
                part = unpack(chunk, size)
                size += len(part)
                if size > limits.max_bytes or packed > limits.max_bytes:
                    raise _too_large(limits)
                hold(len(part))
                parts.append(part)
    except TimeoutError as error:
        raise RequestError(
            408, f"the body did not arrive within {limits.seconds:g} s (body_timeout); send it faster", close=True
        ) from error
    parts.append(unpack(b"", size))
    return b"".join(parts)


def parse_json(body: bytes, limits: BodyLimits) -> Any:
    """The value of a JSON text in UTF-8.

    Raises:
        RequestError: 400 for what is not JSON, has a name twice in an object or is nested too deeply; 413 for a body of
            too many values.
    """
    _check_values(body, limits.max_values)
    try:
        value = json.loads(
            body.decode("utf-8-sig"), object_pairs_hook=_unique, parse_int=_integer, parse_constant=_refuse_constant
        )
    except UnicodeDecodeError as error:
        raise RequestError(400, f"the body is not UTF-8 at byte {error.start}; encode it as UTF-8") from error
    except RecursionError as error:
        raise RequestError(400, "the body is nested too deeply; send lists and objects as the wire has them") from error
    except ValueError as error:  # JSONDecodeError, and numbers of thousands of digits
        raise RequestError(400, f"the body is not valid JSON: {error}") from error
    if SURROGATE.search(body):
        _check_unicode(value)
    return value


def check_content_type(headers: dict[bytes, bytes]) -> None:
    """Refuse what says that it is something other than JSON.

    Raises:
        RequestError: 415.
    """
    given = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
    if given and given not in JSON_TYPES and not (given.startswith("application/") and given.endswith("+json")):
        raise RequestError(415, f"the content type is {given!r}; send application/json")


async def _chunks(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeftError
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return


def _unpacker(encoding: str, limits: BodyLimits) -> Callable[[bytes, int], bytes]:
    """A function of a chunk and the size so far, which gives the unpacked chunk; of an empty chunk, what is left."""
    if encoding in ("", "identity"):
        return lambda chunk, size: chunk
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise RequestError(415, f"the content encoding is {encoding!r}; send gzip, deflate or none")
    stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # of gzip and zlib, whichever the header says

    def unpack(chunk: bytes, size: int) -> bytes:
        try:
            part = stream.decompress(chunk, limits.max_bytes - size + 1) if chunk else stream.flush()
        except zlib.error as error:
            raise RequestError(400, f"the body is not valid {encoding}", close=True) from error
        if not chunk and (not stream.eof or stream.unused_data):
            raise RequestError(400, f"the {encoding} body ends too early, or goes on after its end")
        return part

    return unpack


def _too_large(limits: BodyLimits) -> RequestError:
    return RequestError(
        413,
        f"the body is larger than {mebibytes(limits.max_bytes)} (max_body_bytes); send fewer or shorter documents",
        close=True,
    )


def _check_values(body: bytes, maximum: int) -> None:
    """Count the values of a JSON text by its commas and brackets; those within texts count only if there are many."""
    if body.count(b",") + body.count(b"[") + body.count(b"{") <= maximum:
        return
    # Texts are found to be skipped. Each has a comma or a bracket of its own, or the body is not JSON.
    for count, _ in enumerate(TEXT_OR_MARK.finditer(body)):
        if count > 2 * maximum:
            raise RequestError(
                413, f"the body has more JSON values than the limit max_json_values, {maximum:,}; send fewer"
            )


def _check_unicode(value: Any) -> None:
    """Refuse half a character, which cannot be encoded; escapes that are pairs are one character by now."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise RequestError(422, f"a text has a lone surrogate {half!r}, which is not valid Unicode") from error


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise RequestError(400, f"the body is not valid JSON: a number has more than {MAX_DIGITS} digits")
    return int(digits)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, if no name occurs twice in it: readers disagree about which one counts."""
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise RequestError(400, f"the name {twice[:100]!r} occurs twice in an object of the body; send it once")
    return found


def _refuse_constant(name: str) -> Any:
    raise RequestError(400, f"the body is not valid JSON: {name} is not a number")
