"""LanceDB: live tables, searched by vectors, words and both."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
import pytest
from lancedb.rerankers import AnswerdotaiRerankers

from modernrank import AsyncReranker, InputError, RankedDocument, Reranker, TruncationWarning
from modernrank.integrations.search.lancedb import ModernRankReranker
from support.pages import run_examples

pytestmark = pytest.mark.integrations

QUERY = "play music"
VECTOR = [0.5, 0.5, 0.5, 0.5]


def rows_of(texts: list[str | None]) -> pa.Table:
    vectors = np.random.default_rng(0).random((len(texts), 4), np.float32)
    vector = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 4)
    return pa.table({"id": pa.array(range(len(texts))), "text": pa.array(texts, pa.string()), "vector": vector})


@pytest.fixture(scope="module")
def table(documents: list[str], tmp_path_factory: pytest.TempPathFactory) -> Any:
    table = lancedb.connect(tmp_path_factory.mktemp("lancedb")).create_table("packages", rows_of(list(documents)))
    table.create_fts_index("text")  # lancedb 0.30 has no other way
    return table


def places(found: pa.Table) -> list[tuple[str, float]]:
    return list(zip(found["text"].to_pylist(), found["_relevance_score"].to_pylist(), strict=True))


def expected(ranking: list[RankedDocument]) -> list[tuple[str, float]]:
    return [(result.document, result.score) for result in ranking]


def test_a_vector_search_has_the_ranking(table: Any, model: Reranker, ranking: list[RankedDocument]) -> None:
    found = table.search(VECTOR).rerank(ModernRankReranker(model), query_string=QUERY).limit(20).to_arrow()

    assert places(found) == expected(ranking)
    assert found["_relevance_score"].type == pa.float32()
    assert "_distance" not in found.column_names


def test_a_search_of_words_has_the_scores(table: Any, model: Reranker, ranking: list[RankedDocument]) -> None:
    found = table.search("music", query_type="fts").rerank(ModernRankReranker(model, return_score="all")).to_arrow()

    texts = [text for text, _ in places(found)]
    again = model.rank("music", texts, activation="model")
    assert places(found) == expected(again)
    assert "_score" in found.column_names


@pytest.mark.parametrize("return_score", ["relevance", "all"])
def test_a_hybrid_search_has_the_ranking(
    return_score: Any, table: Any, model: Reranker, ranking: list[RankedDocument]
) -> None:
    reranker = ModernRankReranker(model, return_score=return_score)
    search = table.search(query_type="hybrid").vector(VECTOR).text(QUERY).limit(20)

    found = search.rerank(reranker).to_arrow()

    assert places(found) == expected(ranking)
    assert ({"_distance", "_score"} <= set(found.column_names)) == (return_score == "all")
    assert found.schema.field("vector").type == table.schema.field("vector").type


def test_a_hybrid_search_keeps_the_scores_of_each_search(table: Any, model: Reranker) -> None:
    vector = table.search(VECTOR).with_row_id(True).limit(20).to_arrow()
    words = table.search(QUERY, query_type="fts").with_row_id(True).limit(20).to_arrow()
    distance = dict(zip(vector["id"].to_pylist(), vector["_distance"].to_pylist(), strict=True))
    score = dict(zip(words["id"].to_pylist(), words["_score"].to_pylist(), strict=True))

    found = ModernRankReranker(model, return_score="all").rerank_hybrid(QUERY, vector, words)

    assert 0 < len(score) < len(distance)
    for row in found.to_pylist():
        assert (row["_distance"], row["_score"]) == (distance.get(row["id"]), score.get(row["id"]))


def test_several_vector_searches_are_ranked_together(table: Any, model: Reranker) -> None:
    searches = [table.search([x, 0, 0, 1]).with_row_id(True).limit(5) for x in (0.0, 1.0)]

    found = ModernRankReranker(model).rerank_multivector(searches, QUERY, deduplicate=True)

    ids = found["id"].to_pylist()
    assert len(ids) == len(set(ids)) > 0


def test_an_asynchronous_search_has_the_ranking(
    documents: list[str], model: Reranker, ranking: list[RankedDocument], tmp_path: Path
) -> None:
    async def search() -> pa.Table:
        connection = await lancedb.connect_async(tmp_path)
        table = await connection.create_table("packages", rows_of(list(documents)))
        await table.create_index("text", config=lancedb.index.FTS())
        query = table.query().nearest_to(VECTOR).nearest_to_text(QUERY).limit(20)
        async with AsyncReranker(model) as reranker:
            return await query.rerank(ModernRankReranker(reranker)).to_arrow()

    assert places(asyncio.run(search())) == expected(ranking)


def test_nothing_found_is_nothing_ranked(table: Any, model: Reranker) -> None:
    for return_score in ("relevance", "all"):
        reranker = ModernRankReranker(model, return_score=return_score)
        assert len(table.search("xyzzy", query_type="fts").rerank(reranker).to_arrow()) == 0
        none = table.search(VECTOR).where("id < 0").rerank(reranker, query_string=QUERY).to_arrow()
        assert len(none) == 0
        assert "_relevance_score" in none.column_names
        both = table.search(query_type="hybrid").vector(VECTOR).text("xyzzy").where("id < 0").rerank(reranker)
        assert len(both.to_arrow()) == 0


def test_nulls_are_empty_texts_and_equal_texts_tie(model: Reranker, tmp_path: Path) -> None:
    texts = [None, "a music player", "", "a music player"]
    table = lancedb.connect(tmp_path).create_table("some", rows_of(texts))

    found = table.search(VECTOR).rerank(ModernRankReranker(model), query_string=QUERY).to_arrow()

    score = dict(zip(found["id"].to_pylist(), found["_relevance_score"].to_pylist(), strict=True))
    assert score[0] == score[2] == model.score([(QUERY, "")], activation="model")[0]
    assert score[1] == score[3]


def test_thousands_of_rows_and_many_callers(model: Reranker, many: list[str], tmp_path: Path) -> None:
    table = lancedb.connect(tmp_path).create_table("many", rows_of(list(many)))
    reranker = ModernRankReranker(model)

    def search(query: str) -> list[tuple[str, float]]:
        return places(table.search(VECTOR).limit(len(many)).rerank(reranker, query_string=query).to_arrow())

    queries = [QUERY, "draw charts"]
    with ThreadPoolExecutor(len(queries)) as threads:
        found = list(threads.map(search, queries))
    for query, ranked in zip(queries, found, strict=True):
        score = dict(zip(many, model.score([(query, text) for text in many], activation="model").tolist(), strict=True))
        assert len(ranked) == len(many)
        assert all(score[text] == value for text, value in ranked)


def test_cut_texts_are_reported(model: Reranker) -> None:
    rows = pa.table({"text": ["music " * 1000]})

    with pytest.warns(TruncationWarning):
        ModernRankReranker(model).rerank_vector(QUERY, rows)
    whole = ModernRankReranker(model, long_documents="chunk").rerank_vector(QUERY, rows)
    assert places(whole) == expected(model.rank(QUERY, ["music " * 1000], activation="model", long_documents="chunk"))


def test_wrong_input_is_refused_by_name(table: Any, model: Reranker, several_labels: Reranker) -> None:
    with pytest.raises(InputError, match="title.*text"):
        table.search(VECTOR).rerank(ModernRankReranker(model, column="title"), query_string=QUERY).to_arrow()
    with pytest.raises(InputError, match="query_string"):
        ModernRankReranker(model).rerank_vector(None, pa.table({"text": ["a"]}))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="int"):
        ModernRankReranker(model, column="id").rerank_vector(QUERY, pa.table({"id": [1]}))
    with pytest.raises(InputError, match="label"):
        ModernRankReranker(several_labels)


def test_through_the_library_rerankers(table: Any, demo: Path, logits: list[RankedDocument]) -> None:
    import modernrank.integrations.search.rerankers  # noqa: F401 - adds its ranker

    reranker = AnswerdotaiRerankers("ModernRankRanker", str(demo), precision="fp32", verbose=0)
    found = table.search(VECTOR).rerank(reranker, query_string=QUERY).limit(20).to_arrow()
    assert places(found) == expected(logits)


@pytest.mark.usefixtures("in_folder")
def test_the_example_of_the_page() -> None:
    run_examples("docs/integrations/search.md", "LanceDB")
