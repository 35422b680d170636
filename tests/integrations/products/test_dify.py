"""Dify's OpenAI-compatible reranker, the code of its plugins' SDK, with the credentials on the page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from dify_plugin.errors.model import CredentialsValidateFailedError, InvokeError
from dify_plugin.interfaces.model.openai_compatible.rerank import OAICompatRerankModel

from modernrank import Reranker
from support.product_page import HOST, KEY, blocks
from support.products import DOCUMENTS, QUERY
from support.serving import RunningServer, serving

pytestmark = pytest.mark.integrations


@pytest.fixture(scope="module")
def server(demo: Path) -> Iterator[RunningServer]:
    with serving(demo, "--threads", 1, env={"MODERNRANK_API_KEYS": KEY}) as running:
        yield running


@pytest.fixture(scope="module")
def settings(server: RunningServer) -> Any:
    return json.loads(blocks("Dify", "json")[0].replace(HOST, server.url))


@pytest.fixture(scope="module")
def model() -> OAICompatRerankModel:
    return OAICompatRerankModel([])


def test_the_credentials_are_valid_and_a_wrong_key_is_not(model: OAICompatRerankModel, settings: Any) -> None:
    model.validate_credentials(settings["model"], settings["credentials"])
    with pytest.raises(CredentialsValidateFailedError):
        model.validate_credentials(settings["model"], {**settings["credentials"], "api_key": "wrong"})


@pytest.mark.parametrize("documents", [DOCUMENTS, [*DOCUMENTS, DOCUMENTS[1]], DOCUMENTS * 100, DOCUMENTS[:1]])
def test_scores_are_those_of_the_reranker_scaled_by_dify(
    documents: list[str], model: OAICompatRerankModel, settings: Any, demo: Path
) -> None:
    with Reranker.load(demo) as reranker:
        expected = reranker.rank(QUERY, documents, activation="sigmoid")
    low, high = expected[-1].score, expected[0].score
    width = high - low or 1.0

    found = model.invoke(settings["model"], settings["credentials"], QUERY, documents).docs

    assert [(place.index, place.text) for place in found] == [(place.index, place.document) for place in expected]
    assert [place.score for place in found] == pytest.approx(
        [(place.score - low) / width for place in expected], abs=1e-5
    )


def test_top_n_and_a_threshold_are_honoured(model: OAICompatRerankModel, settings: Any) -> None:
    best = model.invoke(settings["model"], settings["credentials"], QUERY, DOCUMENTS, top_n=2).docs
    above = model.invoke(settings["model"], settings["credentials"], QUERY, DOCUMENTS, score_threshold=0.99).docs

    assert len(best) == 2
    assert [place.index for place in above] == [best[0].index]


def test_no_documents_ask_nobody(model: OAICompatRerankModel, settings: Any) -> None:
    assert model.invoke(settings["model"], settings["credentials"], QUERY, []).docs == []


def test_calls_from_several_threads_have_their_own_results(settings: Any) -> None:
    def ask(number: int) -> list[int]:
        model = OAICompatRerankModel([])  # one for each call: it refuses to be shared
        documents = DOCUMENTS[number % 4 :] + DOCUMENTS[: number % 4]
        found = model.invoke(settings["model"], settings["credentials"], QUERY, documents).docs
        return [DOCUMENTS.index(place.text) for place in found]

    with ThreadPoolExecutor(8) as pool:
        orders = list(pool.map(ask, range(32)))

    assert all(order == orders[0] for order in orders)


def test_a_refusal_is_an_error(model: OAICompatRerankModel, settings: Any) -> None:
    with pytest.raises(InvokeError):
        model.invoke(settings["model"], settings["credentials"], QUERY, ["a"] * 5000)
