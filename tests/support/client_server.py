"""A server for the tests of real clients. Their environment has no modernrank, so another Python runs the server."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .products import DOCUMENTS, QUERY, Places
from .serving import serving as start

# The Python that has modernrank.
VARIABLE = "MODERNRANK_SERVER"


@dataclass(frozen=True)
class Server:
    """A server that runs. ``key`` is the one that it demands, if any."""

    url: str
    key: str = "any"

    @property
    def address(self) -> str:
        """Host and port."""
        return self.url.removeprefix("http://")

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """The answer to a request by the standard library."""
        headers = {"content-type": "application/json", "authorization": f"Bearer {self.key}"}
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data, headers), timeout=60) as answer:
            return json.load(answer)

    def ranking(self, documents: list[str] = DOCUMENTS, **fields: Any) -> Places:
        """What the server answers in the wire of text-embeddings-inference; the default suite checks that."""
        answer = self.ask("/rerank", {"query": QUERY, "texts": documents, **fields})
        return [(place["index"], place["score"]) for place in answer]


def modernrank(*arguments: object) -> list[str]:
    """The command line."""
    return [os.environ[VARIABLE], "-P", "-m", "modernrank", *map(str, arguments)]


@contextmanager
def serving(artifact: Path, *flags: object, key: str | None = None) -> Iterator[Server]:
    """A server of this artifact on a free port, until the end of the block."""
    environment = {} if key is None else {"MODERNRANK_API_KEYS": key}
    with start(artifact, "--threads", 1, *flags, env=environment, command=modernrank()) as running:
        yield Server(running.url, key or "any")


def check_places(places: Places, expected: Places) -> None:
    """The same documents in the same order, with the same scores."""
    assert [index for index, _ in places] == [index for index, _ in expected]
    assert [score for _, score in places] == pytest.approx([score for _, score in expected], abs=1e-6)


def numbered(found: list[tuple[str, float]]) -> Places:
    """Documents by their texts, as places."""
    return [(DOCUMENTS.index(text), score) for text, score in found]
