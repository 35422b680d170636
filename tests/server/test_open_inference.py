"""The Open Inference Protocol: tensors in JSON and in binary, as Triton's clients send them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from modernrank import Reranker
from support.serving import RunningServer

QUERY = "the terms"
DOCUMENTS = ["of the license", "größe", ""]
URL = "/v2/models/tiny/infer"


def texts(name: str, values: list[str], shape: list[int] | None = None) -> dict[str, Any]:
    return {"name": name, "datatype": "BYTES", "shape": shape or [len(values)], "data": values}


def packed(values: list[str]) -> bytes:
    data = [value.encode() for value in values]
    return b"".join(len(text).to_bytes(4, "little") + text for text in data)


@pytest.fixture(scope="module")
def expected(reranker: Reranker) -> list[float]:
    found: list[float] = reranker.score([(QUERY, text) for text in DOCUMENTS], activation="sigmoid").tolist()
    return found


@pytest.mark.parametrize("queries", [[QUERY], [QUERY] * 3])
@pytest.mark.parametrize("path", [URL, "/v2/models/tiny/versions/1/infer"])
def test_tensors_in_json(server: RunningServer, expected: list[float], queries: list[str], path: str) -> None:
    body = {"id": "7", "inputs": [texts("query", queries), texts("documents", DOCUMENTS, [1, 3])]}
    answer = server.post(path, body).json
    assert (answer["model_name"], answer["id"]) == ("tiny", "7")
    (output,) = answer["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("scores", "FP32", [3])
    assert output["data"] == pytest.approx(expected, abs=1e-6)


def test_tensors_in_binary(server: RunningServer, expected: list[float]) -> None:
    parts = [packed([QUERY]), packed(DOCUMENTS)]
    inputs = [
        {"name": name, "datatype": "BYTES", "shape": [count], "parameters": {"binary_data_size": len(part)}}
        for name, count, part in zip(("query", "documents"), (1, 3), parts, strict=True)
    ]
    outputs = [{"name": "scores", "parameters": {"binary_data": True}}]
    head = json.dumps({"inputs": inputs, "outputs": outputs}).encode()
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(head))}
    answer = server.post(URL, head + b"".join(parts), headers)
    length = int(answer.headers["inference-header-content-length"])
    assert json.loads(answer.body[:length])["outputs"][0]["parameters"] == {"binary_data_size": 12}
    assert np.frombuffer(answer.body[length:], "<f4").tolist() == pytest.approx(expected, abs=1e-6)
    for broken in (head + b"".join(parts)[:-1], head + parts[0]):
        assert server.post(URL, broken, headers).status == 422
    assert server.post(URL, head, {**headers, "inference-header-content-length": "99999"}).status == 400


def test_logits_by_a_parameter(server: RunningServer, reranker: Reranker) -> None:
    body = {"inputs": [texts("query", [QUERY]), texts("documents", ["a"])], "parameters": {"raw_scores": True}}
    found = server.post(URL, body).json["outputs"][0]["data"]
    assert found == pytest.approx(reranker.score([(QUERY, "a")]).tolist(), abs=1e-5)


@pytest.mark.parametrize(
    "inputs",
    [
        [],
        [texts("query", [QUERY])],
        [texts("query", [QUERY, "b"]), texts("documents", ["a"])],
        [texts("query", [QUERY], [2]), texts("documents", ["a"])],
        [texts("query", [QUERY], [-1]), texts("documents", ["a"])],
        [{**texts("query", [QUERY]), "datatype": "FP32"}, texts("documents", ["a"])],
        [{**texts("query", [QUERY]), "data": [1]}, texts("documents", ["a"])],
        [{"name": "query", "datatype": "BYTES", "shape": [1]}, texts("documents", ["a"])],
        [texts("query", [QUERY]), {**texts("documents", ["a"]), "data": [[[[["a"], "b"]]]]}],
    ],
)
def test_tensors_that_do_not_fit_are_422(server: RunningServer, inputs: list[Any]) -> None:
    answer = server.post(URL, {"inputs": inputs})
    assert answer.status == 422
    assert list(answer.json) == ["error"]


def test_the_server_and_its_models(server: RunningServer) -> None:
    assert server.get("/v2").json["name"] == "modernrank"
    about = server.get("/v2/models/tiny").json
    assert [tensor["name"] for tensor in about["inputs"]] == ["query", "documents"]
    assert server.get("/v2/models/tiny/ready").json["ready"] is True
    assert server.get("/v2/models/other/ready").status == 404
    assert (
        server.post("/v2/models/other/infer", {"inputs": [texts("query", ["a"]), texts("documents", ["b"])]}).status
        == 404
    )
