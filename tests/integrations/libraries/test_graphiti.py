"""graphiti's cross encoder clients, alone and in its search of an embedded graph."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from graphiti_core.cross_encoder.client import CrossEncoderClient
from graphiti_core.driver.kuzu_driver import KuzuDriver
from graphiti_core.edges import EntityEdge
from graphiti_core.nodes import EntityNode
from graphiti_core.search.search import edge_search
from graphiti_core.search.search_config import EdgeReranker, EdgeSearchConfig, EdgeSearchMethod
from graphiti_core.search.search_filters import SearchFilters

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


async def graph_of(facts: list[str]) -> KuzuDriver:
    """Two entities, and a relation between them for each fact."""
    driver = KuzuDriver(db=":memory:")
    now = {"group_id": "g", "created_at": datetime.now(UTC)}
    ends = [EntityNode(name=name, name_embedding=[1.0, 0.0], **now) for name in ("user", "program")]
    for end in ends:
        await end.save(driver)
    names = {"source_node_uuid": ends[0].uuid, "target_node_uuid": ends[1].uuid, "name": "USES"}
    for fact in facts:
        await EntityEdge(fact=fact, fact_embedding=[1.0, 0.5], episodes=[], **names, **now).save(driver)
    return driver


def test_a_search_of_a_graph_has_the_ranking(model: Reranker, documents: list[str]) -> None:
    by_vectors = EdgeSearchConfig(
        search_methods=[EdgeSearchMethod.cosine_similarity], reranker=EdgeReranker.cross_encoder
    )

    async def search() -> tuple[list[EntityEdge], list[float]]:
        graph = await graph_of(documents)
        async with AsyncReranker(model) as shared:
            client = ModernRankClient(shared)
            found = await edge_search(graph, client, QUERY, [1.0, 0.5], ["g"], by_vectors, SearchFilters(), limit=20)
            return found[0], found[1]

    edges, scores = asyncio.run(search())

    expected = model.rank(QUERY, documents, activation="sigmoid")
    assert [(edge.fact, score) for edge, score in zip(edges, scores, strict=True)] == [
        (result.document, result.score) for result in expected
    ]


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
