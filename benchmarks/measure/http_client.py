"""The least client that can measure a rerank server: one connection, bodies made in advance, and nothing else.

A client of comfort takes as long for a request as the server does for a short one, and shares its processors.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from modernrank.errors import BackendError, InputError
from modernrank.text.checks import Pair


@dataclass(frozen=True)
class Address:
    """Where a server ranks: ``http://127.0.0.1:8080/rerank``."""

    host: str
    port: int
    path: str

    @staticmethod
    def of(url: str) -> Address:
        """The address in ``url``, whose path is ``/rerank`` unless it has one.

        Raises:
            InputError: it is not the URL of a server on this machine.

        >>> Address.of("http://127.0.0.1:8080")
        Address(host='127.0.0.1', port=8080, path='/rerank')
        """
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.hostname not in ("127.0.0.1", "localhost", "::1"):
            raise InputError(f"{url!r} is not an http:// URL of this machine; load goes to no other", value=url)
        return Address(parts.hostname, parts.port or 80, parts.path.rstrip("/") or "/rerank")


def request(address: Address, pairs: Sequence[Pair]) -> bytes:
    """A request that ranks the documents of one query, in the wire of Jina and Cohere."""
    body = json.dumps({"model": "m", "query": pairs[0][0], "documents": [document for _, document in pairs]}).encode()
    head = (
        f"POST {address.path} HTTP/1.1\r\nhost: {address.host}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Connection:
    """A connection that stays open, as an asynchronous context manager."""

    def __init__(self, address: Address) -> None:
        self._address = address

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(self._address.host, self._address.port)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._writer.close()

    async def send(self, message: bytes) -> bytes:
        """The body of the answer to a request.

        Raises:
            BackendError: the status is not 200.
        """
        if self._reader.at_eof():  # the server has closed it, because it was idle
            await self.__aenter__()
        self._writer.write(message)
        head = await self._reader.readuntil(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])
        }
        body = await self._reader.readexactly(int(headers[b"content-length"]))
        if lines[0].split(b" ")[1] != b"200":
            raise BackendError(f"the server answered {lines[0].decode()}: {body[:200].decode(errors='replace')}")
        return body


def scores(body: bytes) -> list[float]:
    """The scores of an answer, in the order of the documents."""
    results = json.loads(body)["results"]
    return [result["relevance_score"] for result in sorted(results, key=lambda result: result["index"])]
