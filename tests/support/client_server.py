"""A server for the tests of real clients. Their environment has no modernrank, so another Python runs the server."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .products import DOCUMENTS, QUERY, Places

# The Python that has modernrank.
VARIABLE = "MODERNRANK_SERVER"
START_SECONDS = 60


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
def serving(artifact: Path, log: Path, *flags: object, key: str | None = None) -> Iterator[Server]:
    """A server of this artifact on a free port, until the end of the block."""
    environment = {**os.environ, **({} if key is None else {"MODERNRANK_API_KEYS": key})}
    command = modernrank("serve", artifact, "--port", 0, "--threads", 1, *flags)
    with log.open("w") as file, subprocess.Popen(command, stdout=file, stderr=file, env=environment) as process:
        try:
            url = _until_ready(process, log)
            yield Server(url, key or "any")
        finally:
            process.terminate()


def _until_ready(process: subprocess.Popen[bytes], log: Path) -> str:
    give_up = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up and process.poll() is None:
        text = log.read_text()
        if (found := re.search(r"listening for requests on (http://[^, ]+)", text)) and "is ready" in text:
            return found[1]
        time.sleep(0.05)
    raise RuntimeError(f"the server did not start: {log.read_text()}")


def check_places(places: Places, expected: Places) -> None:
    """The same documents in the same order, with the same scores."""
    assert [index for index, _ in places] == [index for index, _ in expected]
    assert [score for _, score in places] == pytest.approx([score for _, score in expected], abs=1e-6)


def numbered(found: list[tuple[str, float]]) -> Places:
    """Documents by their texts, as places."""
    return [(DOCUMENTS.index(text), score) for text, score in found]
