"""The settings on the page of products over HTTP: each is read, used as its product uses it, and sent to a server.

What is replayed here was read in the products' sources and documentation of 2026. ``make integrations`` and ``make
clients-check`` run those products whose code can be installed.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from modernrank import Reranker
from support import products as reads
from support.product_page import HOST, KEY, PAGE, blocks, section, variables
from support.products import DOCUMENTS, QUERY, Places, plain_json, python_json
from support.serving import RunningServer, serving

COUNT = len(DOCUMENTS)


@pytest.fixture(scope="module")
def guarded(artifacts: Path) -> Iterator[RunningServer]:
    """A server that asks for the key on the page."""
    with serving(artifacts / "tiny", "--threads", 1, env={"MODERNRANK_API_KEYS": KEY}) as running:
        yield running


@pytest.fixture(scope="module")
def ranking(reranker: Reranker) -> Places:
    return [(place.index, place.score) for place in reranker.rank(QUERY, DOCUMENTS, activation="sigmoid")]


def ask(server: RunningServer, url: str, body: bytes, key: str | None = KEY) -> Any:
    """The answer to what a product sends to a URL on the page."""
    assert url.startswith(HOST)
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    answer = server.post(url.removeprefix(HOST), body, headers)
    assert answer.status == 200, answer.body
    return answer.json


def check(places: Places, expected: Places) -> None:
    assert [index for index, _ in places] == [index for index, _ in expected]
    assert [score for _, score in places] == pytest.approx([score for _, score in expected], abs=1e-6)


def asked(**fields: Any) -> dict[str, Any]:
    return {"query": QUERY, "documents": DOCUMENTS, **fields}


def test_litellm(guarded: RunningServer, ranking: Places) -> None:
    (entry,) = yaml.safe_load(blocks("LiteLLM", "yaml")[0])["model_list"]
    settings = entry["litellm_params"]
    provider, _, model = settings["model"].partition("/")

    body = python_json(asked(model=model))
    answer = ask(guarded, f"{settings['api_base']}/rerank", body, settings["api_key"])

    assert provider == "hosted_vllm"
    check(reads.in_order(answer), ranking)


def test_open_webui(guarded: RunningServer, ranking: Places) -> None:
    settings = variables("Open WebUI")

    body = python_json(asked(model=settings["RAG_RERANKING_MODEL"], top_n=COUNT))
    answer = ask(guarded, settings["RAG_EXTERNAL_RERANKER_URL"], body, settings["RAG_EXTERNAL_RERANKER_API_KEY"])

    assert settings["RAG_RERANKING_ENGINE"] == "external"
    check(reads.sorted_back(answer), ranking)


def test_dify(guarded: RunningServer, ranking: Places) -> None:
    model = json.loads(blocks("Dify", "json")[0])
    credentials = model["credentials"]

    body = python_json(asked(model=model["model"], top_n=None, return_documents=True))
    answer = ask(guarded, f"{credentials['endpoint_url']}/rerank", body, credentials["api_key"])

    check(reads.with_document(answer), ranking)


def test_ragflow(guarded: RunningServer, ranking: Places) -> None:
    settings = json.loads(blocks("RAGFlow", "json")[0])

    body = python_json(asked(model=settings["model_name"], top_n=COUNT))
    answer = ask(guarded, f"{settings['base_url']}/rerank", body, settings["api_key"])

    check(reads.ragflow(answer), ranking)


def test_weaviate(server: RunningServer, ranking: Places) -> None:
    environment = yaml.safe_load(blocks("Weaviate", "yaml")[0])["services"]["weaviate"]["environment"]
    base = environment["RERANKER_INFERENCE_API"]

    answer = ask(server, f"{base}/rerank", reads.go_json(asked(property="")), key=None)

    assert "reranker-transformers" in environment["ENABLE_MODULES"].split(",")
    assert server.get(f"{base}/.well-known/ready".removeprefix(HOST)).status == 204
    assert server.get(f"{base}/meta".removeprefix(HOST)).status == 200
    check(reads.weaviate(answer), ranking)


@pytest.mark.parametrize("provider", ["tei", "vllm"])
def test_milvus(provider: str, server: RunningServer, reranker: Reranker) -> None:
    tree = ast.parse(blocks("Milvus", "py")[0])
    (call,) = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    settings = next(ast.literal_eval(word.value) for word in call.keywords if word.arg == "params")
    url, (query,) = f"{settings['endpoint']}/rerank", settings["queries"]

    if provider == "tei":
        body = {"query": query, "texts": DOCUMENTS, "truncate": settings["truncate"]}
        places = reads.tei_sorted_back(ask(server, url, reads.go_json(body), key=None))
    else:
        body = {"query": query, "documents": DOCUMENTS}
        places = reads.sorted_back(ask(server, url, reads.go_json(body), key=None))

    assert (settings["reranker"], settings["provider"]) == ("model", "tei")
    check(places, [(place.index, place.score) for place in reranker.rank(query, DOCUMENTS, activation="sigmoid")])


def test_elasticsearch(guarded: RunningServer, ranking: Places) -> None:
    settings = json.loads(blocks("Elasticsearch", "json")[0])["service_settings"]
    secrets = settings["secret_parameters"]
    values = {"query": json.dumps(QUERY), "input": json.dumps(DOCUMENTS)}  # it adds the quotes

    body = re.sub(r"\$\{(\w+)\}", lambda found: values[found[1]], settings["request"])
    authorization = settings["headers"]["Authorization"].replace("${api_key}", secrets["api_key"])
    answer = ask(guarded, settings["url"], body.encode(), authorization.removeprefix("Bearer "))

    paths = settings["response"]["json_parser"]
    indices, scores, texts = (
        values_at(answer, paths[name]) for name in ("reranked_index", "relevance_score", "document_text")
    )
    check(list(zip(indices, scores, strict=True)), ranking)
    assert texts == [DOCUMENTS[index] for index in indices]


def values_at(answer: Any, path: str) -> list[Any]:
    """What a path such as ``$.results[*].document.text`` leads to."""
    found = re.fullmatch(r"\$\.(\w+)\[\*\]\.([\w.]+)", path)
    assert found is not None
    values = answer[found[1]]
    for name in found[2].split("."):
        values = [value[name] for value in values]
    return list(values)


def test_opensearch(guarded: RunningServer, ranking: Places) -> None:
    cluster, connector, pipeline = (json.loads(block) for block in blocks("OpenSearch", "json"))
    (action,) = connector["actions"]
    # Strings are escaped and not quoted; the function of Cohere gives all three.
    parameters = {
        **connector["parameters"],
        "query": json.dumps(QUERY)[1:-1],
        "documents": json.dumps(DOCUMENTS),
        "top_n": str(COUNT),
    }

    body = re.sub(r"\$\{parameters\.(\w+)\}", lambda found: parameters[found[1]], action["request_body"])
    authorization = action["headers"]["Authorization"].replace("${credential.key}", connector["credential"]["key"])
    answer = ask(guarded, action["url"], body.encode(), authorization.removeprefix("Bearer "))

    check(reads.opensearch(answer), ranking)
    (trusted,) = cluster["persistent"]["plugins.ml_commons.trusted_connector_endpoints_regex"]
    assert re.fullmatch(trusted, action["url"])
    assert {action[name].rpartition(".")[2] for name in ("pre_process_function", "post_process_function")} == {"rerank"}
    assert "ml_opensearch" in pipeline["response_processors"][0]["rerank"]


def test_vespa(guarded: RunningServer, ranking: Places) -> None:
    names: dict[str, Any] = {}
    exec(compile(blocks("Vespa", "py")[0].replace(HOST, guarded.url), "over-http.md", "exec"), names)
    hits = [{"id": f"index:content/0/{n}", "relevance": 1.0, "fields": {"text": t}} for n, t in enumerate(DOCUMENTS)]
    found = {"root": {"id": "toplevel", "relevance": 1.0, "fields": {"totalCount": COUNT}, "children": hits}}

    reranked = names["rerank"](found, QUERY)

    check([(hits.index(next(h for h in hits if h["id"] == r["id"])), r["relevance"]) for r in reranked], ranking)
    assert names["rerank"]({"root": {"fields": {"totalCount": 0}}}, QUERY) == []


def test_librechat(guarded: RunningServer, ranking: Places) -> None:
    settings = yaml.safe_load(blocks("LibreChat", "yaml")[0])["webSearch"]
    values = variables("LibreChat")
    url, key = (values[settings[name].strip("${}")] for name in ("jinaApiUrl", "jinaApiKey"))

    body = plain_json(asked(model="jina-reranker-v2-base-multilingual", top_n=COUNT, return_documents=True))

    assert settings["rerankerType"] == "jina"
    check(reads.with_document(ask(guarded, url, body, key)), ranking)


def test_n8n(guarded: RunningServer, ranking: Places) -> None:
    settings = json.loads(blocks("n8n", "json")[0])["parameters"]
    item = {"query": QUERY, "documents": DOCUMENTS}
    expression = settings["jsonBody"]

    body = re.sub(
        r"\{\{ JSON\.stringify\(\$json\.(\w+)\) \}\}", lambda found: json.dumps(item[found[1]]), expression[1:]
    )
    (header,) = settings["headerParameters"]["parameters"]
    answer = ask(guarded, settings["url"], body.encode(), header["value"].removeprefix("Bearer "))

    assert expression.startswith("=") and header["name"] == "Authorization"
    check(reads.with_document(answer), ranking)


def test_every_product_of_the_table_has_a_section_and_a_setting() -> None:
    table = re.findall(r"^\| \[([^\]]+)\]\(#[\w-]+\) \|", PAGE, re.MULTILINE)
    sections = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)
    assert table == sections
    assert len(table) == 11
    assert all(HOST in section(name) for name in table)
