"""Clients of JavaScript: Cohere's and Voyage's SDKs, LangChain, and the AI SDK."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.client_server import Server, check_places
from support.products import DOCUMENTS, QUERY, Places

# A folder with `rerank.js` and the clients; `make clients-check` makes it where there is npm.
VARIABLE = "MODERNRANK_NODE_CLIENTS"
CLIENTS = [
    "cohere-ai, version 2",
    "cohere-ai, version 1",
    "@langchain/cohere",
    "voyageai",
    "ai, cohere",
    "ai, voyage",
    "ai, togetherai",
]
pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(VARIABLE not in os.environ, reason=f"{VARIABLE} is not set: is there an npm?"),
]


def run(url: str, key: str, documents: list[str], top: int) -> Any:
    script = Path(os.environ[VARIABLE], "rerank.js")
    command = ["node", script, url, key, QUERY, json.dumps(documents), str(top)]
    done = subprocess.run(command, check=True, capture_output=True, timeout=120)
    return json.loads(done.stdout)


@pytest.fixture(scope="module", params=[2, 100])
def ranked(request: pytest.FixtureRequest, server: Server) -> tuple[int, Any]:
    top: int = request.param
    return top, run(server.url, server.key, DOCUMENTS, top)


@pytest.fixture(scope="module")
def refused(guarded: Server) -> Any:
    return run(guarded.url, "wrong", DOCUMENTS, 2)


@pytest.fixture(scope="module")
def too_many(guarded: Server) -> Any:
    return run(guarded.url, guarded.key, DOCUMENTS * 2, 2)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_has_the_ranking(client: str, ranked: tuple[int, Any], ranking: Places) -> None:
    top, answers = ranked
    check_places([(index, score) for index, score in answers[client]], ranking[:top])


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_reports_refusals(client: str, refused: Any, too_many: Any) -> None:
    assert refused[client]["status"] == 401
    assert too_many[client]["status"] == 413
