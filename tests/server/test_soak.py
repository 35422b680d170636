"""A server under mixed load: good requests of all lengths, and between them everything that clients do wrong.

Every score is compared with that of the model alone, every request has exactly one answer, and memory does not grow.
``make server-soak`` does this for 20 minutes.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import statistics
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from modernrank import Reranker
from support.serving import RunningServer, serving

SECONDS = float(os.environ.get("SOAK_SECONDS", "12"))
CLIENTS = 8
GROWTH = 0.05  # of the memory from the second quarter to the last
QUERY = "the terms of the license"
# Repetitions of a document's words: pairs of 10 to 8,192 tokens, mostly short.
REPEATS = (1, 1, 1, 2, 3, 5, 8, 13, 34, 200, 1600)
BAD = [b"", b"{", b'{"query": 1}', b"[" * 20_000, b'{"query": "a", "documents": ["\xff"]}', b'{"a": 1, "a": 2}']

pytestmark = pytest.mark.slow


class Expected:
    """Requests, and the scores of the model alone."""

    def __init__(self, artifact: Path) -> None:
        generator = random.Random(0)
        self.requests: list[list[str]] = []
        for number in range(60):
            repeats = REPEATS[number % len(REPEATS)]
            count = 1 if repeats > 100 else generator.randrange(1, 12)
            self.requests.append([f"{number} {i} " + "word notice " * repeats for i in range(count)])
        with Reranker.load(artifact) as reranker:
            self.scores = [
                reranker.score([(QUERY, text) for text in texts], activation="sigmoid").tolist()
                for texts in self.requests
            ]


class Client(threading.Thread):
    """Sends requests until the end, and counts what came of them."""

    def __init__(self, number: int, server: RunningServer, expected: Expected, until: float) -> None:
        super().__init__()
        self._generator = random.Random(number)
        self._server, self._expected, self._until = server, expected, until
        self.counts: Counter[str] = Counter()
        self.error: BaseException | None = None

    def run(self) -> None:
        acts = [self._good] * 12 + [self._bad, self._vanish, self._half]
        try:
            while time.monotonic() < self._until:
                act = self._generator.choice(acts)
                act()
                self.counts[act.__name__] += 1
        except (AssertionError, OSError, ValueError, http.client.HTTPException) as error:
            self.error = error

    def _good(self) -> None:
        number = self._generator.randrange(len(self._expected.requests))
        texts, scores = self._expected.requests[number], self._expected.scores[number]
        if self._generator.random() < 0.5:
            answer = self._server.post("/rerank", {"query": QUERY, "texts": texts})
            found = {item["index"]: item["score"] for item in answer.json}
        else:
            answer = self._server.post("/v2/rerank", {"query": QUERY, "documents": texts, "model": "m"})
            found = {item["index"]: item["relevance_score"] for item in answer.json["results"]}
        assert answer.status == 200, answer.body
        assert sorted(found) == list(range(len(texts)))
        assert [found[i] for i in range(len(texts))] == scores  # to the last bit, in any company

    def _bad(self) -> None:
        assert self._server.post("/rerank", self._generator.choice(BAD)).status in (400, 422)

    def _vanish(self) -> None:
        """Leave while the request waits, or while it is sent."""
        texts = self._generator.choice(self._expected.requests)
        body = json.dumps({"query": QUERY, "texts": texts}).encode()
        head = b"POST /rerank HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        with contextlib.suppress(OSError), self._server.connect() as sock:
            sock.sendall(head % len(body) + body[: self._generator.choice((0, 10, len(body)))])
            time.sleep(self._generator.random() * 0.02)
            if self._generator.random() < 0.5:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # a reset, not an end

    def _half(self) -> None:
        """Send slowly, and then to the end."""
        body = json.dumps({"query": QUERY, "texts": ["a"]}).encode()
        with self._server.connect() as sock:
            sock.sendall(b"POST /rerank HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: application/json\r\n")
            time.sleep(0.05)
            sock.sendall(b"content-length: %d\r\n\r\n" % len(body) + body[:9])
            time.sleep(0.05)
            sock.sendall(body[9:])
            assert sock.recv(65536).startswith(b"HTTP/1.1 200")


def test_mixed_load(artifacts: Path) -> None:
    expected = Expected(artifacts / "tiny")
    with serving(artifacts / "tiny", "--no-access-log", "--max-queue-seconds", 600) as server:
        until = time.monotonic() + SECONDS
        clients = [Client(number, server, expected, until) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        memory: list[float] = []
        while any(client.is_alive() for client in clients):
            time.sleep(min(3.0, SECONDS / 12))
            memory.append(server.metric("process_resident_memory_bytes"))
            if len(memory) % 4 == 0:
                server.signal(signal.SIGHUP)  # the same artifact anew: requests go on
        for client in clients:
            client.join()
            if client.error is not None:
                raise client.error
        done = sum((client.counts for client in clients), Counter[str]())
        assert set(done) == {"_good", "_bad", "_vanish", "_half"}
        assert server.metric("modernrank_requests_in_progress") == 0
        assert not [line for line in server.log if line["level"] == "error"]
        # Medians, because requests in progress take up to 200 MB at a moment.
        size = max(1, len(memory) // 4)
        quarter, end = statistics.median(memory[size : 2 * size]), statistics.median(memory[-size:])
        print(
            f"{done.total()} requests in {SECONDS:g} s: {dict(done)}; {quarter / 1e6:.0f} MB, then {end / 1e6:.0f} MB"
        )
        if SECONDS >= 60:  # before, what is allocated once still comes
            assert end < quarter * (1 + GROWTH)
        server.signal()
        assert server.wait() == 0
