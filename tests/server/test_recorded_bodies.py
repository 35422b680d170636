"""Products that cannot run here: the bodies that they send, and what they have to find in the answers.

The bodies come from the products' sources of August 2026.
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from modernrank import Reranker
from modernrank.server import Settings, create_app
from support import products as reads
from support.products import DOCUMENTS, QUERY, Places, Reader, go_json, plain_json, python_json

JSON = {"content-type": "application/json"}
KEY = {"authorization": "Bearer key", **JSON}
GO = {"user-agent": "Go-http-client/1.1", "accept-encoding": "gzip"}  # without a content type
COUNT = len(DOCUMENTS)
OBJECTS = [{"text": text} for text in DOCUMENTS]
INFINITY = {"return_documents": False, "raw_scores": False, "top_n": COUNT}
XINFERENCE = {"max_chunks_per_doc": None, "return_documents": True, "return_len": None, "kwargs": "{}"}
NIM = {"model": "m", "query": {"text": QUERY}, "passages": OBJECTS}
CATALOGUE = "/v1/retrieval/nvidia/reranking"
TENSORS = [
    {"name": "query", "shape": [1], "datatype": "BYTES", "data": [QUERY]},
    {"name": "documents", "shape": [COUNT], "datatype": "BYTES", "data": DOCUMENTS},
]


@dataclass(frozen=True)
class Recorded:
    """A request of a product.

    read:    what the product does with the answer.
    top_n:   number of documents that it then has; None for all.
    logits:  whether it asks for raw scores.
    encode:  how its language writes JSON.
    """

    product: str
    path: str
    body: dict[str, Any]
    read: Reader
    headers: dict[str, str]
    encode: Callable[[Any], bytes] = python_json
    top_n: int | None = None
    logits: bool = False


def jina(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "query": QUERY, "documents": DOCUMENTS, **fields}


def tei(**fields: Any) -> dict[str, Any]:
    return {"query": QUERY, "texts": DOCUMENTS, **fields}


def without_model(**fields: Any) -> dict[str, Any]:
    return {"query": QUERY, "documents": DOCUMENTS, **fields}


DIFY = [
    Recorded("Dify OpenAI-compatible 0.0.63", "/rerank", jina(top_n=COUNT), reads.by_index, KEY),
    Recorded(
        "Dify OpenAI-compatible, earlier",
        "/v1/rerank",
        jina(top_n=None, return_documents=True),
        reads.with_document,
        KEY,
    ),
    Recorded("Dify TEI 0.1.10", "/rerank", tei(return_text=True), reads.first_two, KEY, plain_json, top_n=2),
    Recorded("Dify Xinference 0.0.15", "/v1/rerank", jina(top_n=2, **XINFERENCE), reads.with_document, KEY, top_n=2),
    Recorded("Dify LocalAI 0.0.8", "/rerank", jina(top_n=None), reads.document_or_own, KEY),
    Recorded("Dify GPUStack 0.0.15", "/v1/rerank", jina(top_n=3), reads.document_or_own, KEY, top_n=3),
    Recorded(
        "Dify Jina 0.0.23",
        "/v1/rerank",
        jina(documents=OBJECTS, top_n=None, return_documents=False),
        reads.in_order,
        KEY,
        plain_json,
    ),
]
RAGFLOW = [
    Recorded("RAGFlow 0.27 OpenAI, LocalAI, Jina", "/rerank", jina(top_n=COUNT), reads.ragflow, KEY),
    Recorded(
        "RAGFlow 0.27 Xinference", "/v1/rerank", jina(return_documents="true", return_len="true"), reads.ragflow, JSON
    ),
    Recorded("RAGFlow 0.27 HuggingFace", "/rerank", tei(raw_scores=False, truncate=True), reads.tei_sorted_back, JSON),
]
DATABASES = [
    Recorded("Weaviate 1.40 transformers", "/rerank", without_model(property=""), reads.weaviate, GO, go_json),
    Recorded("Weaviate 1.40 cohere", "/v2/rerank", jina(return_documents=False), reads.sorted_back, KEY, go_json),
    Recorded("Weaviate 1.40 jinaai", "/v1/rerank", jina(), reads.sorted_back, KEY, go_json),
    Recorded(
        "Milvus tei",
        "/rerank",
        tei(truncate=True, truncation_direction="Right"),
        reads.tei_sorted_back,
        JSON,
        go_json,
    ),
    Recorded("Milvus vllm", "/rerank", without_model(truncate_prompt_tokens=512), reads.sorted_back, JSON, go_json),
    Recorded(
        "Elasticsearch 9 custom",
        "/v1/rerank",
        without_model(top_n=3, return_documents=True),
        reads.with_document,
        KEY,
        plain_json,
        top_n=3,
    ),
    Recorded(
        "Elasticsearch 9 hugging_face",
        "/rerank",
        tei(return_text=True, top_n=2),
        reads.tei_with_text,
        KEY,
        plain_json,
        top_n=2,
    ),
    Recorded("OpenSearch 3.9 connector", "/v1/rerank", jina(top_n=COUNT), reads.opensearch, KEY, plain_json),
]
OTHERS = [
    Recorded("Open WebUI 0.12", "/v1/rerank", jina(top_n=COUNT), reads.sorted_back, KEY),
    Recorded("Infinity's client 0.0.78", "/rerank", jina(**INFINITY), reads.infinity, JSON, plain_json),
    Recorded(
        "AI SDK 7, Together AI",
        "/v1/rerank",
        jina(top_n=2, return_documents=False),
        reads.together,
        KEY,
        plain_json,
        top_n=2,
    ),
    Recorded("KServe, vLLM's wire", "/v1/rerank", jina(), reads.in_order, JSON),
    Recorded("KServe, open inference", "/v2/models/tiny/infer", {"id": "7", "inputs": TENSORS}, reads.tensor, JSON),
    Recorded("Triton's client", "/v2/models/tiny/versions/1/infer", {"inputs": TENSORS}, reads.tensor, JSON),
    Recorded("SageMaker, TEI's wire", "/invocations", tei(), reads.tei, JSON),
    Recorded("SageMaker, vLLM's wire", "/invocations", jina(), reads.in_order, JSON),
    Recorded("Weaviate 1.40 nvidia", CATALOGUE, NIM, reads.rankings, KEY, go_json, logits=True),
    Recorded(
        "RAGFlow 0.27 NVIDIA",
        CATALOGUE,
        {**NIM, "truncate": "END", "top_n": 3},
        reads.rankings,
        KEY,
        top_n=3,
        logits=True,
    ),
    Recorded(
        "LiteLLM 1.110 nvidia_nim",
        CATALOGUE,
        {**NIM, "top_k": 2},
        reads.rankings,
        KEY,
        plain_json,
        top_n=2,
        logits=True,
    ),
    Recorded("NIM", "/v1/ranking", {**NIM, "truncate": "END"}, reads.rankings, KEY, logits=True),
    Recorded(
        "LibreChat, agents 3.6",
        "/v1/rerank",
        jina(top_n=5, return_documents=True),
        reads.with_document,
        KEY,
        plain_json,
    ),
    Recorded("kotaemon 0.11", "/rerank", tei(is_truncated=True), reads.tei, JSON),
    Recorded(
        "Continue huggingface-tei",
        "/rerank",
        tei(return_text=False, raw_scores=False, truncation_direction="Right", truncate=True),
        reads.tei_sorted_back,
        KEY,
        plain_json,
    ),
    Recorded("Continue vllm", "/v1/rerank", jina(), reads.sorted_back, KEY, plain_json),
]


@pytest.fixture(scope="module")
def port(artifacts: Path) -> Iterator[int]:
    """A server in a thread of this process, on a port of its own."""
    app = create_app(Settings(artifacts=(str(artifacts / "tiny"),), threads=1))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        number = listening.getsockname()[1]
        while not server.started or ask(number, "GET", "/health/ready")[0] != 200:
            assert thread.is_alive()
            time.sleep(0.01)
        yield number
        server.should_exit = True
        thread.join()


def ask(port: int, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> tuple[int, Any]:
    """The status and the body of an answer. ``http.client`` adds host and length, and nothing about the body's type."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body or None, headers or {})
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    return response.status, json.loads(content) if content else None


def ranked(reranker: Reranker, recorded: Recorded) -> Places:
    """The documents best first, as the engine itself ranks them."""
    activation = "logit" if recorded.logits else "sigmoid"
    best = reranker.rank(QUERY, DOCUMENTS, recorded.top_n, activation=activation)
    return [(place.index, place.score) for place in best]


@pytest.mark.parametrize("recorded", [*DIFY, *RAGFLOW, *DATABASES, *OTHERS], ids=lambda recorded: recorded.product)
def test_a_product_has_the_ranking_of_the_engine(recorded: Recorded, port: int, reranker: Reranker) -> None:
    status, answer = ask(port, "POST", recorded.path, recorded.encode(recorded.body), recorded.headers)

    assert status == 200
    places, expected = recorded.read(answer), ranked(reranker, recorded)
    assert [index for index, _ in places] == [index for index, _ in expected]
    assert [score for _, score in places] == pytest.approx([score for _, score in expected], abs=1e-6)


# The field in which a product looks for the reason of a refusal; it must be a string.
REASONS = [
    ("Weaviate transformers", "/rerank", {"query": QUERY, "documents": [7], "property": ""}, "error"),
    ("Weaviate cohere", "/v2/rerank", jina(documents=[7]), "message"),
    ("Weaviate jinaai", "/v1/rerank", jina(documents=[7]), "detail"),
    ("Xinference", "/v1/rerank", jina(top_n=-1), "detail"),
    ("Haystack TEI", "/rerank", tei(texts=[7]), "error"),
    ("Continue huggingface-tei", "/rerank", tei(texts=[7]), "error_type"),
    ("NIM", "/v1/ranking", {**NIM, "query": QUERY}, "detail"),
    ("KServe", "/v2/models/tiny/infer", {"inputs": TENSORS[:1]}, "error"),
]


@pytest.mark.parametrize(("product", "path", "body", "name"), REASONS, ids=[row[0] for row in REASONS])
def test_a_product_finds_the_reason_of_a_refusal(
    product: str, path: str, body: dict[str, Any], name: str, port: int
) -> None:
    status, answer = ask(port, "POST", path, python_json(body), JSON)

    assert status == 422
    assert isinstance(answer[name], str) and answer[name]


def test_clients_of_tei_find_a_reranker_and_its_limits(port: int) -> None:
    status, info = ask(port, "GET", "/info", headers=JSON)

    assert status == 200
    assert list(info["model_type"]) == ["reranker"]  # Dify reads the first name
    assert info["max_input_length"] == 8192
    assert info["max_client_batch_size"] >= COUNT  # clients split their requests by it
    assert isinstance(info["model_id"], str)


def test_dify_finds_a_reranker_as_of_xinference(port: int) -> None:
    assert ask(port, "GET", "/v1/cluster/auth") == (200, {"auth": False})
    status, model = ask(port, "GET", "/v1/models/tiny")
    assert status == 200
    assert (model["id"], model["object"], model["model_type"]) == ("tiny", "model", "rerank")
    assert ask(port, "GET", "/v1/models/other")[0] == 404


def test_weaviate_sees_that_the_server_is_ready(port: int) -> None:
    assert ask(port, "GET", "/.well-known/ready", headers=GO) == (204, None)
    status, meta = ask(port, "GET", "/meta", headers=GO)
    assert status == 200 and isinstance(meta, dict)


@pytest.mark.parametrize("path", ["/ping", "/health", "/v1/health/ready", "/v1/health/live", "/v2/health/live"])
def test_probes_of_platforms_see_a_healthy_server(path: str, port: int) -> None:
    assert ask(port, "GET", path)[0] == 200


def test_kserve_reads_flags_of_health(port: int) -> None:
    assert ask(port, "GET", "/v2/health/ready")[1]["ready"] is True
    assert ask(port, "GET", "/v2/health/live")[1]["live"] is True


@pytest.mark.parametrize(("version", "status"), [("1", 200), ("2", 404)])
def test_tritons_client_may_name_the_version(version: str, status: int, port: int) -> None:
    path = f"/v2/models/tiny/versions/{version}"
    assert ask(port, "GET", path)[0] == status
    assert ask(port, "GET", f"{path}/ready")[0] == status
    assert ask(port, "POST", f"{path}/infer", python_json({"inputs": TENSORS}), JSON)[0] == status
