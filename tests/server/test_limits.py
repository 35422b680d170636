"""Every limit of the server: the status, the reason with limit and remedy, and a hint when waiting helps."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.serving import RunningServer, serving

GOOD = {"query": "the terms", "documents": ["of the license", "notice"]}
# About a second of work.
LONG = {"query": "the terms", "documents": [f"{i} " + "word " * 1000 for i in range(20)]}


def refused(answer: object, status: int, limit: str) -> str:
    assert answer.status == status, answer.body  # type: ignore[attr-defined]
    assert limit in answer.json["message"]  # type: ignore[attr-defined]
    return str(answer.json["message"])  # type: ignore[attr-defined]


def one_answer(sock: socket.socket) -> int:
    """The status of an answer, which is read to its end."""
    response = http.client.HTTPResponse(sock)
    response.begin()
    response.read()
    return response.status


def until_closed(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(65536), b""))


@contextlib.contextmanager
def busy(server: RunningServer) -> Iterator[list[int]]:
    """A long request is in progress; its status comes with the end of the block."""
    status: list[int] = []
    thread = threading.Thread(target=lambda: status.append(server.post("/rerank", LONG).status))
    thread.start()
    while not server.metric("modernrank_requests_in_progress"):
        time.sleep(0.005)
    yield status
    thread.join()


@pytest.fixture(scope="module")
def small(artifacts: Path) -> Iterator[RunningServer]:
    """A server with small limits."""
    limits = {
        "max-body-bytes": 100_000,
        "max-documents": 5,
        "max-characters": 2000,
        "max-tokens": 300,
        "header-timeout": 0.4,
        "body-timeout": 0.4,
        "keep-alive": 1,
        "max-connections": 8,
    }
    with serving(artifacts / "tiny", *(f"--{name}={value}" for name, value in limits.items())) as running:
        yield running


def test_limits_of_size(small: RunningServer) -> None:
    assert small.post("/rerank", GOOD).status == 200
    refused(small.post("/rerank", {**GOOD, "documents": ["a"] * 6}), 413, "max_documents")
    refused(small.post("/rerank", {**GOOD, "documents": ["a" * 2001]}), 413, "max_characters")
    refused(small.post("/rerank", {**GOOD, "query": "a" * 2001}), 413, "max_characters")
    refused(small.post("/rerank", {"query": "a", "documents": ["a b c d e " * 100]}), 413, "max_tokens")
    answer = small.post("/rerank", {**GOOD, "documents": ["a" * 200_000]})
    refused(answer, 413, "max_body_bytes")
    assert answer.headers["connection"] == "close"
    assert "retry-after" not in answer.headers
    answer = small.post("/rerank", {"query": "a", "texts": ["a"] * 6})
    assert answer.status == 413
    assert answer.json["error_type"] == "Validation"
    assert "max_documents" in answer.json["error"]


def test_too_many_tokens_are_refused_before_any_are_scored(artifacts: Path) -> None:
    with serving(artifacts / "tiny", "--max-tokens", 9000) as server:
        body = {"query": "the terms", "documents": [f"{i} " + "word notice " * 8 for i in range(300)]}
        refused(server.post("/rerank", body), 413, "max_tokens")
        refused(server.post("/score", {"text_1": "a", "text_2": body["documents"]}), 413, "max_tokens")
        assert server.metric('modernrank_pairs_total{model="tiny"}') == 0
        assert server.post("/rerank", {**body, "documents": body["documents"][:50]}).status == 200
        assert server.post("/rerank", {**body, "max_tokens_per_doc": 4}).status == 200  # what is cut does not count


def test_a_body_without_an_end_is_refused_at_its_limit(small: RunningServer) -> None:
    with small.connect() as sock:
        sock.sendall(b"POST /rerank HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
        with contextlib.suppress(OSError):  # the server has closed the connection
            for _ in range(100):
                sock.sendall(b"1000\r\n" + b" " * 0x1000 + b"\r\n")
        assert sock.recv(65536).startswith(b"HTTP/1.1 413")


def test_slow_clients_time_out(small: RunningServer) -> None:
    with small.connect() as sock:  # a body that stops
        sock.sendall(b"POST /rerank HTTP/1.1\r\nhost: a\r\ncontent-length: 50\r\n\r\n{")
        assert b"body_timeout" in until_closed(sock)
    with small.connect() as sock:  # headers that stop
        sock.sendall(b"POST /rerank HTTP/1.1\r\nhost")
        answer = sock.recv(65536)
        assert answer.startswith(b"HTTP/1.1 408")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == 408
    with small.connect() as sock:  # nothing at all
        assert sock.recv(1) == b""
    with small.connect() as sock:  # a second request that stops
        sock.sendall(b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n")
        assert one_answer(sock) == 200
        sock.sendall(b"GET /hea")
        assert sock.recv(65536).startswith(b"HTTP/1.1 408")
    with small.connect() as sock:  # an idle connection
        sock.sendall(b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n")
        assert one_answer(sock) == 200
        assert sock.recv(1) == b""


def test_headers_have_a_limit(small: RunningServer) -> None:
    with small.connect() as sock:
        with contextlib.suppress(OSError):
            sock.sendall(b"GET /health HTTP/1.1\r\n" + b"a: " + b"b" * 200_000)
        assert sock.recv(65536).startswith(b"HTTP/1.1 431")


def test_connections_have_a_limit(small: RunningServer) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(small.connect())
        answer = small.get("/health")
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert "max_connections" in answer.json["message"]
    until = time.monotonic() + 10
    while small.get("/health").status != 200:
        assert time.monotonic() < until


def test_a_full_queue_is_429_and_says_when_to_come_again(artifacts: Path) -> None:
    with serving(artifacts / "tiny", "--max-waiting-tokens", 8192, "--threads", 1) as server:
        body = {"query": "the terms", "documents": ["word " * 400, "notice " * 300]}
        with ThreadPoolExecutor(24) as pool:
            answers = list(pool.map(lambda _: server.post("/rerank", body), range(24)))
        assert {answer.status for answer in answers} == {200, 429}
        for answer in answers:
            if answer.status == 429:
                assert int(answer.headers["retry-after"]) >= 1
                assert answer.json["error_type"] == "overloaded"
                assert "max_waiting_tokens" in answer.json["message"]


def test_requests_in_progress_have_a_limit(artifacts: Path) -> None:
    with serving(artifacts / "tiny", "--max-requests", 1) as server:
        with busy(server) as status:
            answer = server.post("/rerank", GOOD)
            refused(answer, 429, "max_requests")
            assert answer.headers["retry-after"] == "1"
            assert server.get("/health/ready").status == 200
            tei = server.post("/rerank", {"query": "a", "texts": ["b"]})
            assert tei.status == 429
        assert status == [200]


def test_time_in_the_queue_and_in_all_have_limits(artifacts: Path) -> None:
    with serving(artifacts / "tiny", "--max-queue-seconds", 0.01, "--threads", 1) as server:
        server.post("/rerank", GOOD)
        with busy(server):
            until = time.monotonic() + 20
            while (answer := server.post("/rerank", GOOD)).status == 200:
                assert time.monotonic() < until
            refused(answer, 503, "max_queue_seconds")
            assert int(answer.headers["retry-after"]) >= 1
    with serving(artifacts / "tiny", "--request-timeout", 0.2) as server:
        answer = server.post("/rerank", LONG)
        assert answer.status == 503
        assert answer.headers["retry-after"]


def test_a_client_that_left_costs_nothing_further(artifacts: Path) -> None:
    with serving(artifacts / "tiny", "--threads", 1) as server:
        body = json.dumps(LONG).encode()
        with server.connect() as sock:
            head = b"POST /rerank HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
            sock.sendall(head % len(body) + body)
            while not server.metric("modernrank_requests_in_progress"):
                time.sleep(0.005)
        (line,) = server.logged(status=499)
        assert line["message"] == "client left"
        assert server.metric("modernrank_requests_in_progress") == 0
        scored = server.metric('modernrank_pairs_total{model="tiny"}')
        assert scored < len(LONG["documents"])
        time.sleep(0.2)
        assert server.metric('modernrank_pairs_total{model="tiny"}') <= scored + 1
        assert server.metric('modernrank_requests_total{status="499",wire="jina"}') == 1


def test_few_file_handles_are_few_connections(artifacts: Path) -> None:
    """Fewer than ``max_connections`` needs: the server says so, refuses what is too much, and goes on."""
    command = ("sh", "-c", 'ulimit -n 80; exec "$@"', "sh", sys.executable, "-m", "modernrank")
    with serving(artifacts / "tiny", command=command) as server, contextlib.ExitStack() as stack:
        assert "80 open files" in server.logged(level="warning")[0]["message"]
        held = [stack.enter_context(server.connect()) for _ in range(70)]
        held[0].sendall(b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n")
        assert one_answer(held[0]) == 200
        assert one_answer(held[-1]) == 503
        for sock in held:
            sock.close()
        until = time.monotonic() + 20
        while server.post("/rerank", GOOD).status != 200:
            assert time.monotonic() < until
        assert not [line for line in server.log if line["level"] == "error"]
