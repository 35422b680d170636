"""LiteLLM: each provider that takes an address, in calls and in coroutines."""

from __future__ import annotations

import asyncio
from typing import Any

import litellm
import pytest

from support.client_server import Server, check_places
from support.products import DOCUMENTS, QUERY, Places

pytestmark = pytest.mark.clients

# A provider and what follows the server's address in `api_base`.
PROVIDERS = [
    ("cohere", ""),
    ("infinity", "/infinity"),  # it takes a document back as a string
    ("hosted_vllm", ""),
    ("huggingface", ""),
    ("jina_ai", ""),
    ("voyage", "/voyage"),  # without top_n its body is like that of others, whose answers have another form
    ("together_ai", ""),
    ("fireworks_ai", "/v1"),
    ("scaleway", "/v1"),
    ("azure_ai", ""),
    ("litellm_proxy", ""),
]
# Their answers are logits.
NVIDIA = [("nvidia_nim", ""), ("nvidia_nim/ranking", "")]
NAMES = [name for name, _ in [*PROVIDERS, *NVIDIA]]


def rerank(server: Server, provider: str, path: str, documents: list[Any] = DOCUMENTS, **fields: Any) -> Any:
    key = fields.pop("api_key", server.key)
    return litellm.rerank(
        model=f"{provider}/tiny", query=QUERY, documents=documents, api_base=server.url + path, api_key=key, **fields
    )


def places(response: Any) -> Places:
    return [(result["index"], result["relevance_score"]) for result in response.results]


@pytest.mark.parametrize(("provider", "path"), [*PROVIDERS, *NVIDIA], ids=NAMES)
@pytest.mark.parametrize("top_n", [None, 2])
def test_a_provider_has_the_ranking(
    provider: str, path: str, top_n: int | None, server: Server, ranking: Places, logits: Places
) -> None:
    expected = logits if provider.startswith("nvidia_nim") else ranking

    response = rerank(server, provider, path, top_n=top_n)

    check_places(places(response), expected[:top_n])
    if provider != "scaleway":  # it asks for no documents
        assert [result["document"]["text"] for result in response.results] == [
            DOCUMENTS[index] for index, _ in expected[:top_n]
        ]


@pytest.mark.parametrize(("provider", "path"), PROVIDERS, ids=NAMES[: len(PROVIDERS)])
def test_a_provider_has_the_ranking_in_a_coroutine(provider: str, path: str, server: Server, ranking: Places) -> None:
    async def ranked() -> Any:
        return await litellm.arerank(
            model=f"{provider}/tiny",
            query=QUERY,
            documents=DOCUMENTS,
            top_n=3,
            api_base=server.url + path,
            api_key=server.key,
        )

    check_places(places(asyncio.run(ranked())), ranking[:3])


@pytest.mark.parametrize("provider", ["infinity", "hosted_vllm", "jina_ai", "voyage", "cohere"])
def test_tokens_are_counted(provider: str, server: Server) -> None:
    meta = rerank(server, provider, dict(PROVIDERS)[provider]).meta

    assert meta["billed_units"]["total_tokens"] > len(DOCUMENTS)


def test_documents_may_be_objects(server: Server, ranking: Places) -> None:
    documents = [{"text": text, "id": index} for index, text in enumerate(DOCUMENTS)]

    check_places(places(rerank(server, "hosted_vllm", "", documents)), ranking)


def test_limits_of_tokens_are_passed_on(server: Server) -> None:
    limits = {"max_tokens_per_doc": 4, "truncate_prompt_tokens": 20, "truncation_side": "left"}

    response = rerank(server, "hosted_vllm", "", **limits)

    expected = server.ask("/rerank", {"query": QUERY, "documents": DOCUMENTS, **limits})["results"]
    check_places(places(response), [(place["index"], place["relevance_score"]) for place in expected])


@pytest.mark.parametrize(("provider", "path"), [*PROVIDERS, *NVIDIA], ids=NAMES)
def test_a_wrong_key_is_an_authentication_error(provider: str, path: str, guarded: Server) -> None:
    with pytest.raises(litellm.AuthenticationError):
        rerank(guarded, provider, path, api_key="wrong")


@pytest.mark.parametrize(("provider", "path"), [*PROVIDERS, *NVIDIA], ids=NAMES)
def test_too_many_documents_are_refused(provider: str, path: str, guarded: Server) -> None:
    with pytest.raises((litellm.BadRequestError, litellm.APIError)) as refused:
        rerank(guarded, provider, path, DOCUMENTS * 2)
    assert refused.value.status_code == 413
