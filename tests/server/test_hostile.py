"""What somebody would try who means the server ill: small requests that cost much, odd framing, half-done clients."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.serving import RunningServer, serving

GOOD = {"query": "the terms", "documents": ["of the license", "notice"]}
LONG = {"query": "the terms", "documents": [f"{i} " + "word " * 1000 for i in range(20)]}
OIP = "/v2/models/tiny/infer"


def message(body: object, *headers: str, path: str = "/rerank", method: str = "POST") -> bytes:
    """A request as it is sent."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "host: a", "content-type: application/json", f"content-length: {len(data)}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + data


def answers(sock: socket.socket, count: int) -> list[tuple[int, bytes]]:
    """Status and body of the next answers of a connection."""
    file, found = sock.makefile("rb"), []
    for _ in range(count):
        status = int(file.readline().split()[1])
        headers = http.client.parse_headers(file)
        found.append((status, file.read(int(headers["content-length"]))))
    return found


@contextlib.contextmanager
def responsive(server: RunningServer, seconds: float = 1.0) -> Iterator[None]:
    """The server answers others meanwhile, none of them later than this."""
    ended, worst = threading.Event(), [0.0]

    def ask() -> None:
        while not ended.is_set():
            begun = time.perf_counter()
            assert server.get("/health/live").status == 200
            worst[0] = max(worst[0], time.perf_counter() - begun)

    thread = threading.Thread(target=ask)
    thread.start()
    yield
    ended.set()
    thread.join()
    assert worst[0] < seconds


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/rerank", {"query": "a", "documents": [{"a": "x" * 1_000_000}], "rank_fields": ["a"] * 2000}),
        ("/rerank", {"query": "a " * 4000, "documents": ["b " * 800_000]}),
        ("/rerank", {"query": "a" * 200_000, "documents": ["b"]}),
        ("/rerank", {"query": "a", "documents": [{}], "rank_fields": ["\x7f" * 3_000_000]}),
        ("/v2/rerank", {**GOOD, "relevant_spans": {"mode": "\x7f" * 3_000_000}}),
        (OIP, {"inputs": [{"name": "q", "shape": [2**31] * 90_000, "datatype": "BYTES", "data": ["a"]}]}),
        (OIP, {"inputs": [{"name": "q", "shape": [1], "datatype": "\x7f" * 3_000_000, "data": ["a"]}]}),
        (OIP, {"inputs": [{"name": "q", "shape": [1], "datatype": "BYTES", "data": eval("[" * 80 + "]" * 80)}]}),
        ("/rerank", {"query": "a", "documents": ["b"], "top_n": [int("9" * 299)] * 9000}),
    ],
)
def test_a_small_request_costs_little(server: RunningServer, path: str, body: dict[str, Any]) -> None:
    before = server.metric("process_resident_memory_bytes")
    with responsive(server):
        answer = server.post(path, json.dumps(body, ensure_ascii=False).encode())
    assert answer.status in (413, 422)
    assert len(answer.body) < 5000
    assert server.metric("process_resident_memory_bytes") < before + 300e6


def test_texts_that_look_like_values_do_not_block(server: RunningServer) -> None:
    for body in (b"[" + b'"",' * 4_000_000, b"[" + b'\\",' * 4_000_000):
        with responsive(server):
            assert server.post("/rerank", body).status in (400, 413)


@pytest.mark.parametrize(
    "body",
    [
        {"query": "a", "documents": [{"text": "b", "id": "\ud800"}], "return_documents": True},
        {"query": "a", "documents": [{"text": "b", "\udc00": 1}], "return_documents": True},
        {**GOOD, "relevant_spans": {"mode": "\ud800"}},
        {**GOOD, "unknown": "\ud800"},
    ],
)
def test_half_a_character_anywhere_is_422(server: RunningServer, body: dict[str, Any]) -> None:
    assert server.post("/v2/rerank", body).status == 422
    assert server.post(OIP, {"id": "\ud800", "inputs": []}).status == 422
    assert server.post("/rerank", b'{"query": "\\ud83c\\udf88", "documents": ["\\ud83c\\udf88"]}').status == 200


@pytest.mark.parametrize("upgrade", ["h2c", "websocket", "TLS/1.0"])
def test_an_offer_to_upgrade_changes_nothing(server: RunningServer, upgrade: str) -> None:
    """As Java's client makes one for each request; what looks like a request in its body is a body."""
    for sent in (GOOD, {**GOOD, "x": "GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n"}):
        with server.connect() as sock:
            data = message(sent, "connection: Upgrade, HTTP2-Settings", f"Upgrade: {upgrade}", "HTTP2-Settings: AAM")
            head, _, body = data.partition(b"\r\n\r\n")
            for part in (head[:50], head[50:] + b"\r\n\r\n", body):
                sock.sendall(part)
                time.sleep(0.02)
            ((status, answer),) = answers(sock, 1)
            assert status == 200
            assert len(json.loads(answer)["results"]) == 2


def test_refusals_without_reading_keep_the_connection_in_step(artifacts: Path) -> None:
    with serving(artifacts / "tiny", env={"MODERNRANK_API_KEYS": "k"}) as server, server.connect() as sock:
        big = {**GOOD, "documents": ["word " * 60_000]}
        key = "authorization: Bearer k"
        sent = [
            (message(big), 401),
            (message(big, key, "content-type: text/plain"), 415),
            (message(big, path="/similarity"), 422),
            (message(big, path="/nothing"), 404),
            (message(big, method="PUT"), 405),
            (message(GOOD, key), 200),
        ]
        for data, expected in sent:
            sock.sendall(data)
            ((status, _),) = answers(sock, 1)
            assert status == expected


def test_requests_in_one_packet_are_answered_in_order(server: RunningServer) -> None:
    bodies = [{"query": "the terms", "documents": ["a"] * count} for count in range(1, 9)]
    with server.connect() as sock:
        sock.sendall(b"".join(map(message, bodies)) + b"GET /ping HTTP/1.1\r\nhost: a\r\n\r\n")
        found = answers(sock, 9)
    assert [status for status, _ in found] == [200] * 9
    assert [len(json.loads(body)["results"]) for _, body in found[:8]] == list(range(1, 9))


@pytest.mark.parametrize(
    "start",
    [
        b"POST /rerank HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n0\r\na: ",
        message(LONG) + b"GET /ping HTTP/1.1\r\nhost: a\r\na: ",
        message(LONG) + b"GET /",
    ],
    ids=["trailers", "headers behind a request", "a path behind a request"],
)
def test_headers_without_an_end_are_bounded_wherever_they_are(server: RunningServer, start: bytes) -> None:
    before = server.metric("process_resident_memory_bytes")
    with server.connect() as sock:
        sock.settimeout(0.5)
        sock.sendall(start)
        sent = 0
        with contextlib.suppress(OSError):  # refused, or no longer read
            while sent < 100e6:
                sent += sock.send(b"b" * 65_536)
        assert sent < 100e6
    assert server.metric("process_resident_memory_bytes") < before + 50e6


def test_a_trailer_is_no_header(server: RunningServer) -> None:
    data = json.dumps(GOOD).encode()
    with server.connect() as sock:
        sock.sendall(b"POST /rerank HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n")
        sock.sendall(b"%x\r\n%s\r\n0\r\ncontent-encoding: br\r\nx-request-id: trailer\r\n\r\n" % (len(data), data))
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"trailer" not in answer


@pytest.mark.parametrize("close", [True, False])
def test_a_client_that_does_not_receive_its_answer_is_cut_off(artifacts: Path, close: bool) -> None:
    limits = ("--write-timeout", 0.5, "--max-documents", 5000, "--keep-alive", 0.5, "--max-length", 16)
    with serving(artifacts / "tiny", *limits) as server:
        texts = [f"{i} " + "x" * 1500 for i in range(1500)]
        body = {"query": "a", "texts": texts, "return_text": True, "truncate": True}
        held = []
        for _ in range(3):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(("127.0.0.1", server.port))
            sock.sendall(message(body, *(["connection: close"] if close else [])))
            held.append(sock)
        until = time.monotonic() + 30
        while server.metric("modernrank_connections") > 1:
            assert time.monotonic() < until
            time.sleep(0.1)
        for sock in held:
            sock.close()


def test_slow_bodies_take_no_place_of_others(artifacts: Path) -> None:
    with serving(artifacts / "tiny", "--max-requests", 2) as server, contextlib.ExitStack() as stack:
        for _ in range(8):
            sock = stack.enter_context(server.connect())
            sock.sendall(message(GOOD)[:-5])
        assert server.post("/rerank", GOOD).status == 200


def test_the_bodies_of_all_requests_have_a_limit(artifacts: Path) -> None:
    with serving(artifacts / "tiny", "--max-buffered-bytes", 100_000) as server, contextlib.ExitStack() as stack:
        for _ in range(4):
            sock = stack.enter_context(server.connect())
            sock.sendall(message({**GOOD, "x": "y" * 30_000})[:-5])
        time.sleep(0.2)
        answer = server.post("/rerank", {**GOOD, "x": "y" * 30_000})
        assert answer.status == 503
        assert "max_buffered_bytes" in answer.json["message"]


def test_a_client_that_asked_twice_and_left_costs_nothing_further(artifacts: Path) -> None:
    with serving(artifacts / "tiny", "--threads", 1) as server:
        with server.connect() as sock:
            sock.sendall(message(LONG) + message(GOOD))
            while not server.metric("modernrank_requests_in_progress"):
                time.sleep(0.002)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        server.logged(status=499)
        assert server.metric('modernrank_pairs_total{model="tiny"}') < len(LONG["documents"])
        assert not [line for line in server.log if line["level"] == "error"]


def test_a_reader_of_the_log_that_stands_still_stops_nothing(artifacts: Path, tmp_path: Path) -> None:
    path = tmp_path / "s"
    command = [sys.executable, "-m", "modernrank", "serve", str(artifacts / "tiny"), "--uds", str(path)]
    reading, writing = os.pipe()
    process = subprocess.Popen(command, stderr=writing)
    os.close(writing)
    try:
        until = time.monotonic() + 30
        while not path.exists():
            assert time.monotonic() < until
            time.sleep(0.01)
        for _ in range(3):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(20)
                sock.connect(str(path))
                sock.sendall(message(b"{") * 500)
                assert len(answers(sock, 500)) == 500
    finally:
        process.terminate()
        assert process.wait(20) == 0
        os.close(reading)


def test_lines_for_people_cannot_be_forged(artifacts: Path) -> None:
    with serving(artifacts / "tiny", "--log-format", "text") as server:
        server.get("/%0a12:00:00%20info%20FORGED%1b[31m")
        server.get("/end")
        while not any("/end" in line for line in server.lines):
            time.sleep(0.01)
        assert len([line for line in server.lines if "FORGED" in line]) == 1
        assert not any("\x1b" in line or line.startswith("12:00:00 info FORGED") for line in server.lines)


def test_a_new_server_on_the_same_socket_keeps_it(artifacts: Path, tmp_path: Path) -> None:
    """A rolling restart: the old one ends after the new one has begun."""
    path = tmp_path / "s"
    with serving(artifacts / "tiny", "--uds", path, "--shutdown-delay", 2, wait="", listens=False) as old:
        old.logged(logger="modernrank.server")
        path.unlink()  # as the new one does when the old one no longer listens
        with serving(artifacts / "tiny", "--uds", path, wait="", listens=False):
            while not path.exists():
                time.sleep(0.01)
            old.signal()
            assert old.wait() == 0, old.lines
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(path))
                sock.sendall(b"GET /ping HTTP/1.1\r\nhost: a\r\n\r\n")
                assert answers(sock, 1)[0][0] == 200


def test_a_path_with_a_slash_behind_it_is_no_redirect(server: RunningServer) -> None:
    answer = server.post("/rerank/", GOOD, {"host": "example.org"})
    assert answer.status == 404
    assert "location" not in answer.headers


def test_what_no_request_came_of_is_counted(artifacts: Path) -> None:
    with serving(artifacts / "tiny", "--header-timeout", 0.2) as server:
        for data in (b"\x16\x03\x01\x02\x00", b"GET / HTTP/9.9\r\n\r\n", b"GET /", b"a" * 70_000):
            with server.connect() as sock:
                sock.sendall(data)
                assert sock.recv(65536).startswith(b"HTTP/1.1 4")
        counted = {
            status: server.metric(f'modernrank_requests_total{{status="{status}",wire="none"}}')
            for status in (400, 408, 431)
        }
        assert counted == {400: 2, 408: 1, 431: 1}
