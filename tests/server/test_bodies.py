"""Whatever arrives as a body: a refusal with its reason, never a server error, and never much memory."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.serving import RunningServer

GOOD = {"query": "the terms", "documents": ["of the license", "notice"]}
PATHS = ["/rerank", "/v2/rerank", "/score", "/predict", "/v1/ranking", "/invocations", "/v2/models/tiny/infer"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = (
    *("query", "documents", "texts", "model", "top_n", "top_k", "truncate", "inputs", "text_1", "text_2", "passages"),
    *("property", "priority", "relevant_spans", "max_tokens_per_doc", "return_documents", "rank_fields", "raw_scores"),
)


def refused(answer: Any, status: int) -> str:
    """The reason of a refusal."""
    assert answer.status == status, answer.body
    reason = answer.json.get("message") or answer.json["error"]
    assert "Traceback" not in reason
    return str(reason)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nothing",
        b"{'query': 'a'}",
        b'{"query": "a", "documents": ["b"],}',
        b'{"query": "a"} {"query": "b"}',
        b'\xff\xfe{"query": "a"}',
        b'{"query": "\xff", "documents": ["b"]}',
        b'{"query": "a", "query": "b", "documents": ["c"]}',
        b'{"query": "a", "documents": ["b"], "deep": {"a": 1, "a": 1}}',
        b'{"query": "a", "documents": ["b"], "top_n": NaN}',
        b'{"query": "a", "documents": ["b"], "top_n": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b'{"query": "a\nb", "documents": ["c"]}',  # a bare line break within a text
    ],
)
def test_what_is_not_json_is_400(server: RunningServer, path: str, body: bytes) -> None:
    assert refused(server.post(path, body), 400)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("body", [None, 1, "text", [], {}, [GOOD], {"query": None}, {"query": "a", "documents": None}])
def test_what_does_not_fit_is_422(server: RunningServer, path: str, body: object) -> None:
    assert refused(server.post(path, body), 422)


@pytest.mark.parametrize(
    "change",
    [
        {"query": ["a"]},
        {"documents": "a"},
        {"documents": {"0": "a"}},
        {"documents": [None]},
        {"documents": [1]},
        {"documents": [["a"]]},
        {"documents": [{"text": ["a"]}]},
        {"documents": [{"text": True}]},
        {"documents": ["a", "\ud800"]},
        {"query": "\udc00"},
        {"top_n": -1},
        {"top_n": 1.5},
        {"top_n": "many"},
        {"return_documents": "perhaps"},
        {"rank_fields": "text"},
        {"max_tokens_per_doc": -2},
        {"truncate_prompt_tokens": 1},
        {"truncate_prompt_tokens": 10**6},
        {"truncation_side": "middle"},
        {"priority": -1},
    ],
)
def test_a_field_that_cannot_be_used_is_422(server: RunningServer, change: dict[str, object]) -> None:
    assert refused(server.post("/rerank", {**GOOD, **change}), 422)


@pytest.mark.parametrize("text", ["a\0b", "\0", "", " ", "\ufeff", "\U0001f388" * 50, "a\u2028b", "\x7f\x1b[31m"])
def test_odd_texts_are_scored(server: RunningServer, text: str) -> None:
    assert server.post("/rerank", {"query": text, "documents": [text, "b"]}).status == 200


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(PATHS), body=JSON | st.dictionaries(st.sampled_from(NAMES), JSON, min_size=1))
def test_any_json_is_answered_in_json(server: RunningServer, path: str, body: object) -> None:
    answer = server.post(path, json.dumps(body).encode())
    assert answer.status in (200, 400, 404, 413, 422)
    assert answer.json is not None
    if answer.status >= 400:
        assert answer.json.get("message") or answer.json["error"]


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "image/png"]
)
def test_other_content_types_are_415(server: RunningServer, kind: str) -> None:
    assert kind in refused(server.post("/rerank", GOOD, {"content-type": kind}), 415)


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.x+json"])
def test_json_by_any_name(server: RunningServer, kind: str) -> None:
    assert server.post("/rerank", GOOD, {"content-type": kind}).status == 200


def test_packed_bodies(server: RunningServer) -> None:
    data = json.dumps(GOOD).encode()
    expected = server.post("/rerank", GOOD).json["results"]
    for encoding, packed in (("gzip", gzip.compress(data)), ("deflate", zlib.compress(data)), ("identity", data)):
        answer = server.post("/rerank", packed, {"content-encoding": encoding})
        assert answer.json["results"] == expected
    assert refused(server.post("/rerank", data, {"content-encoding": "br"}), 415)
    assert refused(server.post("/rerank", data, {"content-encoding": "gzip"}), 400)
    assert refused(server.post("/rerank", gzip.compress(data)[:-9], {"content-encoding": "gzip"}), 400)
    assert refused(server.post("/rerank", gzip.compress(data) + b"more", {"content-encoding": "gzip"}), 400)


def test_bombs_are_refused_and_cost_no_memory(server: RunningServer) -> None:
    """256 MiB of blanks in gzip, five million objects, a long text of commas and quotes."""
    packer = zlib.compressobj(wbits=31)
    bomb = b"".join([packer.compress(b" " * 2**20) for _ in range(256)]) + packer.flush()
    before = server.metric("process_resident_memory_bytes")
    assert "max_body_bytes" in refused(server.post("/rerank", bomb, {"content-encoding": "gzip"}), 413)
    objects = b'{"query":"a","documents":[' + b"{}," * 5_000_000 + b"{}]}"
    assert "max_json_values" in refused(server.post("/rerank", objects), 413)
    assert server.post("/rerank", b"[" + b'"",' * 3_000_000).status in (400, 413)
    assert server.metric("process_resident_memory_bytes") < before + 150e6
    text = {"query": "a", "documents": ["," * 200_000 + '"[{' * 1000]}
    assert server.post("/rerank", text).status == 200


def test_a_million_documents_are_refused(server: RunningServer) -> None:
    assert "max_documents" in refused(server.post("/rerank", {**GOOD, "documents": ["a"] * 1001}), 413)
    answer = server.post("/rerank", {**GOOD, "documents": [""] * 1_000_000})
    assert "max_json_values" in refused(answer, 413)


def test_a_body_in_chunks(server: RunningServer) -> None:
    data = json.dumps(GOOD).encode()
    chunks = b"".join(b"%x\r\n%s\r\n" % (1, data[i : i + 1]) for i in range(len(data))) + b"0\r\n\r\n"
    with server.connect() as sock:
        sock.sendall(b"POST /rerank HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n")
        sock.sendall(chunks)
        assert sock.recv(65536).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(("method", "path"), [("GET", "/rerank"), ("PUT", "/v1/rerank"), ("POST", "/metrics")])
def test_other_methods_are_405(server: RunningServer, method: str, path: str) -> None:
    answer = server.send(method, path, None)
    assert refused(answer, 405)
    assert answer.headers["allow"]


@pytest.mark.parametrize("path", ["/nothing", "/v3/rerank", "/rerank/", "//rerank", "/..%2f..%2fetc/passwd", "/%00"])
def test_other_paths_are_404(server: RunningServer, path: str) -> None:
    answer = server.post(path, GOOD)
    assert answer.status in (307, 404)
    if answer.status == 404:
        assert refused(answer, 404)
