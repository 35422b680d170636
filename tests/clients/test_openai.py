"""OpenAI's SDK: it has no rerank, and lists the models."""

from __future__ import annotations

import asyncio

import openai
import pytest

from support.client_server import Server

pytestmark = pytest.mark.clients


def test_it_lists_the_models(server: Server) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="any")

    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "modernrank"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


def test_it_lists_the_models_in_a_coroutine(server: Server) -> None:
    async def names() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="any") as client:
            return [model.id async for model in client.models.list()]

    assert asyncio.run(names()) == ["tiny"]


def test_a_wrong_key_is_an_authentication_error(guarded: Server) -> None:
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{guarded.url}/v1", api_key="wrong").models.list()
