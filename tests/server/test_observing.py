"""Metrics, logs and traces: they count what happened, and hold no text of a request."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from support.layout import ROOT
from support.serving import RunningServer, serving

SECRET = "xylophone-secret"
GOOD = {"query": f"the {SECRET}", "documents": [f"of the {SECRET}", "notice " * 3]}
DASHBOARD = ROOT / "docs" / "grafana-dashboard.json"


def test_requests_are_counted_by_wire_and_status(artifacts: Path) -> None:
    with serving(artifacts / "tiny", "--max-length", 16) as server:
        server.post("/rerank", GOOD)
        server.post("/rerank", {"query": "a", "texts": ["b", "c", "word " * 30]})
        server.post("/v2/rerank", {"query": 1, "documents": []})
        server.post("/rerank", b"{")
        count = {
            (wire, status): server.metric(f'modernrank_requests_total{{status="{status}",wire="{wire}"}}')
            for wire, status in (("jina", 200), ("tei", 200), ("cohere", 422), ("jina", 400))
        }
        assert set(count.values()) == {1.0}
        assert server.metric("modernrank_request_documents_sum") == 5
        assert server.metric("modernrank_truncated_pairs_total") >= 1
        assert server.metric("modernrank_request_tokens_count") == 2
        for stage in ("parse", "tokenise", "queue", "run"):
            assert server.metric(f'modernrank_stage_seconds_count{{stage="{stage}"}}') == 2
        assert server.metric('modernrank_pairs_total{model="tiny"}') == 5
        assert server.metric('modernrank_calls_total{model="tiny",outcome="completed"}') == 2
        assert server.metric('modernrank_queue_wait_seconds_count{model="tiny"}') == 2
        assert server.metric('modernrank_queue_wait_seconds_bucket{le="+Inf",model="tiny"}') == 2
        tokens = server.metric('modernrank_pair_tokens_total{model="tiny"}')
        assert tokens == server.metric("modernrank_request_tokens_sum")
        assert server.metric('modernrank_computed_tokens_total{model="tiny"}') >= tokens


def test_a_request_is_a_line_of_json(server: RunningServer) -> None:
    answer = server.post("/rerank", GOOD, {"x-request-id": "line-1"})
    (line,) = server.logged(request_id="line-1")
    assert line["status"] == 200
    assert (line["wire"], line["model"], line["documents"]) == ("jina", "tiny", 2)
    assert line["tokens"] == answer.json["usage"]["total_tokens"]
    assert line["ms"] > 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])


def test_no_text_of_a_request_is_logged(server: RunningServer) -> None:
    """Of good ones, of bad ones, of those that fail at each stage."""
    server.post("/rerank", GOOD)
    for body in (
        {"query": SECRET, "documents": [1]},
        {"query": SECRET, "documents": ["a"], "top_n": SECRET},
        {SECRET: SECRET},
        {"query": SECRET + "\ud800", "documents": ["a"]},
    ):
        assert server.post("/rerank", body).status == 422
    server.post("/rerank", f'{{"query": "{SECRET}'.encode())
    server.post("/rerank", f'{{"{SECRET}": 1, "{SECRET}": 1}}'.encode())
    server.post(f"/rerank?q={SECRET}", GOOD)
    server.post("/rerank", GOOD, {"x-request-id": "last-one"})
    server.logged(request_id="last-one")
    assert not [line for line in server.lines if SECRET in line]


def test_lines_for_people(artifacts: Path) -> None:
    with serving(artifacts / "tiny", "--log-format", "text", "--no-access-log") as server:
        server.post("/rerank", GOOD)
        assert not [line for line in server.lines if line.startswith("{") or "/rerank" in line]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_disk_for_logs_loses_lines_and_nothing_else(artifacts: Path, tmp_path: Path) -> None:
    path = tmp_path / "s"
    command = f"exec {sys.executable} -m modernrank serve {artifacts / 'tiny'} --port 0 --metrics-port 0 --uds {path}"
    process = subprocess.Popen(f"{command} 2> /dev/full", shell=True)
    try:
        answers = []
        until = time.monotonic() + 20
        while len(answers) < 3 and time.monotonic() < until:
            with contextlib.suppress(OSError):
                answers += [line for line in _ask(path) if b"200 OK" in line]
        assert len(answers) == 3
        assert process.poll() is None
    finally:
        process.terminate()
        assert process.wait(20) == 0


def _ask(path: Path) -> list[bytes]:
    body = json.dumps(GOOD).encode()
    head = b"POST /rerank HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(str(path))
        sock.sendall(head % len(body) + b"connection: close\r\n\r\n" + body)
        return sock.recv(65536).splitlines()[:1]


def test_the_dashboard_asks_for_metrics_that_exist(artifacts: Path) -> None:
    with serving(artifacts / "tiny") as server:
        server.post("/rerank", GOOD)
        text = server.get("/metrics").body.decode()
    names = {line.partition("{")[0].partition(" ")[0] for line in text.splitlines() if not line.startswith("#")}
    dashboard = json.loads(DASHBOARD.read_text())
    asked = {name for query in _queries(dashboard) for name in re.findall(r"\b(?:modernrank|process)_\w+", query)}
    assert len(asked) > 15
    assert asked <= names


def _queries(panel: Any) -> list[str]:
    found = [target["expr"] for target in panel.get("targets", [])]
    return found + [query for inner in panel.get("panels", []) for query in _queries(inner)]


def test_spans_where_opentelemetry_is_installed(artifacts: Path, tmp_path: Path) -> None:
    """With the real SDK: one span for a request, which goes on the client's trace."""
    pytest.importorskip("opentelemetry.sdk")
    script = tmp_path / "traced.py"
    script.write_text(
        "import json, sys\n"
        "from opentelemetry import trace\n"
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "from opentelemetry.sdk.trace.export import SimpleSpanProcessor, ConsoleSpanExporter\n"
        "provider = TracerProvider()\n"
        "provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=sys.stdout)))\n"
        "trace.set_tracer_provider(provider)\n"
        "from modernrank.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    out = tmp_path / "spans"
    with (
        out.open("w") as stdout,
        serving(artifacts / "tiny", command=[sys.executable, str(script)], stdout=stdout) as server,
    ):
        trace = "4bf92f3577b34da6a3ce929d0e0e4736"
        server.post("/rerank", GOOD, {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
    spans = [json.loads("{" + text) for text in re.split(r"^\{", out.read_text(), flags=re.MULTILINE)[1:]]
    (span,) = [span for span in spans if span["name"] == "POST /rerank"]
    assert span["context"]["trace_id"] == f"0x{trace}"
    assert span["attributes"]["openinference.span.kind"] == "RERANKER"
    assert span["attributes"]["reranker.model_name"] == "tiny"
    assert span["attributes"]["http.response.status_code"] == 200
    assert SECRET not in out.read_text()
