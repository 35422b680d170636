"""LiteLLM's SDK and its proxy, each with the configuration on the page."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from modernrank import Reranker
from support.product_page import HOST, KEY, blocks
from support.products import DOCUMENTS, QUERY, Places
from support.serving import RunningServer, serving

# The prices of models come with the package, and are not fetched.
ENVIRONMENT = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"}
MASTER_KEY = f"sk-{secrets.token_hex(32)}"  # the proxy does not start without one
os.environ |= ENVIRONMENT

import litellm  # noqa: E402 - it reads the environment

pytestmark = pytest.mark.integrations

SECONDS_TO_START = 240


@pytest.fixture(scope="module")
def server(demo: Path) -> Iterator[RunningServer]:
    with serving(demo, "--threads", 1, env={"MODERNRANK_API_KEYS": KEY}) as running:
        yield running


@pytest.fixture(scope="module")
def config(server: RunningServer) -> str:
    return blocks("LiteLLM", "yaml")[0].replace(HOST, server.url)


@pytest.fixture(scope="module")
def proxy(config: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of LiteLLM's proxy, in a process of its own."""
    folder = tmp_path_factory.mktemp("proxy")
    (folder / "config.yaml").write_text(config)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("litellm")
    command = [program, "--config", "config.yaml", "--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, **ENVIRONMENT, "LITELLM_MASTER_KEY": MASTER_KEY}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(f"{url}/health/liveliness", process, folder / "log")
            yield url
        finally:
            process.terminate()
            process.wait(30)


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < until and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(log.read_text()[-3000:])


def ask(url: str, path: str = "/rerank", **fields: Any) -> Any:
    body = json.dumps({"model": "reranker", "query": QUERY, "documents": DOCUMENTS, **fields}).encode()
    headers = {"content-type": "application/json", "authorization": f"Bearer {MASTER_KEY}"}
    request = urllib.request.Request(url + path, body, headers)
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


def places(answer: Any) -> Places:
    return [(place["index"], place["relevance_score"]) for place in answer["results"]]


@pytest.fixture(scope="module")
def reference(demo: Path) -> Iterator[Reranker]:
    with Reranker.load(demo) as reranker:
        yield reranker


def check(found: Places, reference: Reranker, documents: list[str], top_k: int | None = None) -> None:
    expected = reference.rank(QUERY, documents, top_k, activation="sigmoid")
    assert [index for index, _ in found] == [place.index for place in expected]
    assert [score for _, score in found] == pytest.approx([place.score for place in expected], abs=1e-6)


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_the_proxy_has_the_ranking(path: str, proxy: str, reference: Reranker) -> None:
    check(places(ask(proxy, path)), reference, DOCUMENTS)


def test_the_proxy_passes_top_n_and_many_and_equal_documents_on(proxy: str, reference: Reranker) -> None:
    many = DOCUMENTS * 100
    check(places(ask(proxy, documents=many)), reference, many)
    check(places(ask(proxy, top_n=2)), reference, DOCUMENTS, 2)


def test_the_proxy_serves_several_at_once(proxy: str, reference: Reranker) -> None:
    with ThreadPoolExecutor(8) as pool:
        for answer in pool.map(lambda _: ask(proxy), range(16)):
            check(places(answer), reference, DOCUMENTS)


def test_the_proxy_passes_a_refusal_on(proxy: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(proxy, documents=["a"] * 5000)
    assert refused.value.code == 413


def test_the_sdk_has_the_ranking_with_the_same_settings(config: str, reference: Reranker) -> None:
    settings = yaml.safe_load(config)["model_list"][0]["litellm_params"]

    answer = litellm.rerank(query=QUERY, documents=DOCUMENTS, **settings)

    check(places({"results": answer.results}), reference, DOCUMENTS)


def test_the_router_of_the_sdk_takes_the_configuration(config: str, reference: Reranker) -> None:
    router = litellm.Router(model_list=yaml.safe_load(config)["model_list"])

    answer = asyncio.run(router.arerank(model="reranker", query=QUERY, documents=DOCUMENTS))

    check(places({"results": answer.results}), reference, DOCUMENTS)
