"""A server's life: live, ready, reloaded, draining, ended; and what goes wrong at its start."""

from __future__ import annotations

import http.client
import shutil
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from modernrank import Reranker
from modernrank.export import export_checkpoint
from support.serving import RunningServer, exit_code, serving

GOOD = {"query": "the terms", "documents": ["of the license", "notice"]}
LONG = {"query": "the terms", "documents": [f"{i} " + "word " * 1000 for i in range(20)]}
READY = ["/health", "/health/ready", "/v1/health/ready", "/v2/health/ready"]
LIVE = ["/health/live", "/ping", "/v1/health/live", "/v2/health/live"]


def first_score(server: RunningServer) -> float:
    answer = server.post("/rerank", {**GOOD, "raw_scores": True})
    return float(next(result["relevance_score"] for result in answer.json["results"] if result["index"] == 0))


def expected_score(artifact: Path) -> float:
    with Reranker.load(artifact) as reranker:
        return float(reranker.score([(GOOD["query"], GOOD["documents"][0])])[0])


def one_more(checkpoint: Path) -> Path:
    """The checkpoint, changed to one whose logits are higher by 1."""
    file = checkpoint / "model.safetensors"
    tensors = load_file(file)
    tensors["classifier.bias"] = tensors["classifier.bias"] + 1
    save_file(tensors, file)
    return checkpoint


class InProgress(threading.Thread):
    """A long request, which has begun; ``status`` is that of its answer."""

    def __init__(self, server: RunningServer) -> None:
        super().__init__()
        self._server = server
        self.status = 0
        self.start()
        while not server.metric("modernrank_requests_in_progress"):
            time.sleep(0.002)

    def run(self) -> None:
        self.status = self._server.post("/rerank", LONG).status


def test_health(server: RunningServer) -> None:
    assert [server.get(path).status for path in READY + LIVE] == [200] * 8
    assert server.metric("modernrank_ready") == 1


def test_a_server_is_live_before_it_is_ready(artifacts: Path) -> None:
    """While several models are being loaded; requests are refused meanwhile, with a hint to try again."""
    many = [f"model-{number}={artifacts / 'tiny'}" for number in range(12)]
    with serving(*many, wait="") as server:
        before = [(server.get("/health/live").status, server.get("/health/ready").status)]
        answer = server.post("/rerank", GOOD)
        while server.get("/health/ready").status != 200:
            before.append((server.get("/health/live").status, server.get("/health/ready").status))
        assert before[0] == (200, 503)
        assert {live for live, _ in before} == {200}
        assert answer.status == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert server.post("/rerank", GOOD).status == 200


def test_models_are_chosen_by_name(artifacts: Path) -> None:
    """An unknown name is answered by the first model, unless names are taken strictly."""
    models = (artifacts / "tiny", f"other={artifacts / 'tiny-standard'}")
    with serving(*models) as server:
        for asked, answered in ((None, "tiny"), ("tiny", "tiny"), ("other", "other"), ("rerank-v3.5", "tiny")):
            assert server.post("/rerank", {**GOOD, "model": asked}).json["model"] == answered
        assert server.post("/v2/models/other/infer", {"inputs": []}).status == 422
        assert server.post("/v2/models/unknown/infer", {"inputs": []}).status in (404, 422)
        assert server.get("/v2/models/unknown").status == 404
    with serving(*models, "--strict-models") as server:
        assert server.post("/rerank", {**GOOD, "model": "other"}).json["model"] == "other"
        assert server.post("/rerank", GOOD).json["model"] == "tiny"
        refused = server.post("/rerank", {**GOOD, "model": "rerank-v3.5"})
        assert refused.status == 404
        assert "tiny, other" in refused.json["message"]


def test_sigterm_ends_an_idle_server_at_once(artifacts: Path) -> None:
    with serving(artifacts / "tiny") as server:
        begun = time.monotonic()
        server.signal()
        assert server.wait() == 0
        assert time.monotonic() - begun < 5
        assert server.log[-1]["message"] == "ended"


def test_sigterm_drains(artifacts: Path) -> None:
    """Requests in progress are answered; meanwhile the server is not ready, and its port is closed."""
    with serving(artifacts / "tiny", "--shutdown-delay", 0.3) as server:
        request = InProgress(server)
        idle = http.client.HTTPConnection("127.0.0.1", server.port)
        idle.request("GET", "/health/ready")
        assert idle.getresponse().read()
        server.signal()
        server.logged(message="draining: no longer ready")
        idle.request("GET", "/health/ready")
        response = idle.getresponse()
        assert response.status == 503
        response.read()
        assert server.post("/rerank", GOOD).status == 200  # a balancer has not noticed yet
        assert server.wait() == 0
        request.join()
        assert request.status == 200
        with pytest.raises(ConnectionRefusedError):
            server.get("/health/live")


def test_what_does_not_end_in_time_is_cancelled(artifacts: Path) -> None:
    with serving(artifacts / "tiny", "--shutdown-timeout", 0.2, "--threads", 1) as server:
        request = InProgress(server)
        begun = time.monotonic()
        server.signal()
        assert server.wait() == 0
        request.join()
        assert request.status == 503
        assert time.monotonic() - begun < 10
        assert not any("stack" in line for line in server.log)


def test_a_second_signal_ends_it_at_once(artifacts: Path) -> None:
    with serving(artifacts / "tiny", "--shutdown-delay", 30) as server:
        server.signal()
        server.logged(message="draining: no longer ready")
        server.signal(signal.SIGINT)
        assert server.wait() == 0


def test_a_replaced_artifact_is_loaded_beside_the_old_one(
    artifacts: Path, artifact: Path, broken_checkpoint: Path, tmp_path: Path
) -> None:
    """No request is lost: those in progress end with the model that they began with."""
    with serving(artifact) as server:
        old = first_score(server)
        assert old == pytest.approx(expected_score(artifacts / "tiny"), abs=1e-5)
        artifact.rename(tmp_path / "old")
        export_checkpoint(one_more(broken_checkpoint), artifact)
        assert first_score(server) == old
        statuses: list[int] = []
        ended = threading.Event()

        def ask() -> None:
            while not ended.is_set():
                statuses.append(server.post("/rerank", GOOD).status)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        server.signal(signal.SIGHUP)
        server.logged(message="loaded tiny anew")
        time.sleep(0.1)
        ended.set()
        for thread in threads:
            thread.join()
        assert set(statuses) == {200}
        assert first_score(server) == pytest.approx(old + 1, abs=1e-4)


def test_an_artifact_that_is_gone_leaves_the_loaded_one(artifact: Path) -> None:
    with serving(artifact, env={"MODERNRANK_API_KEYS": "secret"}) as server:
        key = {"authorization": "Bearer secret"}
        before = server.post("/rerank", GOOD, key).json["results"]
        shutil.rmtree(artifact)
        answer = server.post("/admin/reload", b"", key)
        assert answer.status == 500
        assert answer.json == {"models": {"tiny": "kept"}}
        assert server.post("/rerank", GOOD, key).json["results"] == before
        assert server.get("/health/ready").status == 200


def test_reloading_over_http_needs_a_key(artifacts: Path, server: RunningServer) -> None:
    assert server.post("/admin/reload", b"").status == 403
    with serving(artifacts / "tiny", env={"MODERNRANK_API_KEYS": "one,two"}) as keyed:
        assert keyed.post("/admin/reload", b"").status == 401
        answer = keyed.post("/admin/reload", b"", {"authorization": "Bearer two"})
        assert (answer.status, answer.json) == (200, {"models": {"tiny": "loaded"}})


def test_a_unix_socket(artifacts: Path, tmp_path: Path) -> None:
    path = tmp_path / "server.sock"
    leftover = socket.socket(socket.AF_UNIX)
    leftover.bind(str(path))
    leftover.close()  # the file stays, and nobody listens: it is replaced
    with serving(artifacts / "tiny", "--uds", path, wait="", listens=False) as server:
        connection = socket.socket(socket.AF_UNIX)
        until = time.monotonic() + 20
        while connection.connect_ex(str(path)) != 0:
            assert time.monotonic() < until
        code, errors = exit_code(artifacts / "tiny", "--uds", path)
        assert code == 1
        assert "another server" in errors
        connection.sendall(b"GET /health/live HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        server.signal()
        assert server.wait() == 0
        assert not path.exists()


def test_a_port_that_is_taken_is_named(artifacts: Path, server: RunningServer) -> None:
    code, errors = exit_code(artifacts / "tiny", "--port", server.port)
    assert code == 1
    assert f"127.0.0.1:{server.port}" in errors
    assert "Traceback" not in errors


def test_an_artifact_that_cannot_be_loaded_ends_the_server(artifact: Path) -> None:
    file = artifact / "model.fp32.onnx.data"
    file.write_bytes(file.read_bytes()[:-1])
    code, errors = exit_code(artifact, "--port", 0)
    assert code == 1
    assert "model.fp32.onnx.data" in errors
    assert "Traceback" not in errors


def test_no_artifact_and_no_folder(tmp_path: Path) -> None:
    for arguments in ((), (tmp_path,), (tmp_path / "missing",)):
        code, errors = exit_code(*arguments)
        assert code == 1
        assert errors.startswith("modernrank: ")
        assert len(errors.splitlines()) == 1


def test_two_artifacts_of_one_name_are_refused(artifacts: Path) -> None:
    code, errors = exit_code(artifacts / "tiny", artifacts / "tiny")
    assert code == 1
    assert "NAME=" in errors


def test_health_and_metrics_on_a_port_of_their_own(artifacts: Path) -> None:
    with serving(artifacts / "tiny", "--metrics-port", 0, wait="") as server:
        port = server.port_for("health and metrics")
        until = time.monotonic() + 20
        while server.get("/health/ready", port=port).status != 200:
            assert time.monotonic() < until
        assert server.get("/metrics", port=port).status == 200
        assert server.get("/metrics").status == 404
        assert server.send("POST", "/rerank", b"{}", {}, port).status == 404
        assert server.post("/rerank", GOOD).status == 200


def test_other_machines_and_no_key_is_a_warning(artifacts: Path) -> None:
    with serving(artifacts / "tiny", "--host", "0.0.0.0") as server:
        assert server.logged(level="warning")[0]["message"].endswith("--api-key-file")
    with serving(artifacts / "tiny", "--host", "0.0.0.0", env={"MODERNRANK_API_KEYS": "k"}) as server:
        assert not [line for line in server.log if line["level"] == "warning"]
