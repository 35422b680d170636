"""graphiti's cross encoder clients, in its search of edges."""

from __future__ import annotations

import asyncio

import pytest
from graphiti_core.cross_encoder.client import CrossEncoderClient

from modernrank import AsyncReranker, InputError, Reranker, TruncationWarning
from modernrank.integrations.agents.graphiti import ModernRankClient
from support.pages import run_examples

pytestmark = pytest.mark.integrations

QUERY = "play music"


def test_it_has_the_ranking(model: Reranker, documents: list[str]) -> None:
    expected = [(r.document, r.score) for r in model.rank(QUERY, documents, activation="sigmoid")]

    async def with_either() -> list[list[tuple[str | None, float]]]:
        async with AsyncReranker(model) as shared:
            clients = [ModernRankClient(model), ModernRankClient(shared)]
            assert all(isinstance(client, CrossEncoderClient) for client in clients)
            return [await client.rank(QUERY, documents) for client in clients]

    assert asyncio.run(with_either()) == [expected, expected]
    assert all(0 <= score <= 1 for _, score in expected)


def test_many_tasks_and_thousands_of_passages(model: Reranker, many: list[str]) -> None:
    queries = [QUERY, "draw charts", "write letters"]

    async def main() -> list[list[tuple[str | None, float]]]:
        async with AsyncReranker(model) as shared:
            client = ModernRankClient(shared)
            return await asyncio.gather(*(client.rank(query, many) for query in queries))

    for query, found in zip(queries, asyncio.run(main()), strict=True):
        assert found == [(r.document, r.score) for r in model.rank(query, many, activation="sigmoid")]


def test_nothing_none_and_duplicates(model: Reranker) -> None:
    client = ModernRankClient(model)

    assert asyncio.run(client.rank(QUERY, [])) == []
    found = asyncio.run(client.rank(QUERY, [None, "a", "a", ""]))
    assert len(found) == 4
    score = dict(found)
    assert score[None] == score[""]


def test_cuts_are_reported_and_wrong_input_is_refused(model: Reranker, several_labels: Reranker) -> None:
    with pytest.warns(TruncationWarning):
        asyncio.run(ModernRankClient(model).rank(QUERY, ["music " * 1000]))
    with pytest.raises(InputError, match="int"):
        asyncio.run(ModernRankClient(model).rank(QUERY, [1]))  # type: ignore[list-item]
    with pytest.raises(InputError, match="label"):
        ModernRankClient(several_labels)


@pytest.mark.usefixtures("in_folder")
def test_the_example_of_the_page() -> None:
    run_examples("docs/integrations/agents.md", "graphiti")
