"""The node postprocessor, alone and inside LlamaIndex's own index and query engine."""

from __future__ import annotations

import asyncio
import copy
import pickle
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import MockEmbedding, VectorStoreIndex
from llama_index.core.llms import MockLLM
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import ImageNode, MetadataMode, NodeWithScore, QueryBundle, TextNode
from pydantic import ValidationError

from modernrank import AsyncReranker, ClosedError, InputError, Reranker, TruncationWarning
from modernrank.integrations.llama_index import ModernRankRerank
from support.checkpoints import checkpoint
from support.layout import ROOT

pytestmark = pytest.mark.integrations

QUERY = "play music in a terminal"
TEXTS = (ROOT / "demo" / "documents.txt").read_text(encoding="utf-8").splitlines()
ALL = len(TEXTS)


@pytest.fixture(scope="module")
def trained(demo: Path) -> Iterator[Reranker]:
    with Reranker.load(demo, precision="fp32") as loaded:
        yield loaded


def nodes(texts: Sequence[str] = TEXTS) -> list[NodeWithScore]:
    return [NodeWithScore(node=TextNode(text=text, id_=f"id-{i}"), score=0.5) for i, text in enumerate(texts)]


def expected(reranker: Reranker, texts: Sequence[str] = TEXTS, **options: Any) -> list[tuple[str, float]]:
    return [(f"id-{r.index}", r.score) for r in reranker.rank(QUERY, texts, **{"activation": "model", **options})]


def places(ranked: Sequence[NodeWithScore]) -> list[tuple[str, float | None]]:
    return [(node.node.node_id, node.score) for node in ranked]


def test_it_is_a_node_postprocessor() -> None:
    assert issubclass(ModernRankRerank, BaseNodePostprocessor)
    assert ModernRankRerank.class_name() == "ModernRankRerank"


@pytest.mark.parametrize("top_n", [1, 3, 100])
def test_the_ranking_is_that_of_the_reranker(top_n: int, trained: Reranker) -> None:
    ranked = ModernRankRerank(trained, top_n=top_n).postprocess_nodes(nodes(), QueryBundle(QUERY))

    assert places(ranked) == expected(trained)[:top_n]
    assert "music player" in ranked[0].node.get_content()


def test_two_are_kept_by_default(trained: Reranker) -> None:
    assert len(ModernRankRerank(trained).postprocess_nodes(nodes(), query_str=QUERY)) == 2


@pytest.mark.parametrize("activation", ["logit", "sigmoid", "model"])
def test_scores_have_the_scale_that_was_asked_for(activation: Any, trained: Reranker) -> None:
    ranked = ModernRankRerank(trained, ALL, activation=activation).postprocess_nodes(nodes(), query_str=QUERY)

    assert places(ranked) == expected(trained, activation=activation)


@pytest.mark.parametrize("shared", [True, False])
def test_coroutines_have_the_same_ranking(shared: bool, trained: Reranker) -> None:
    async def rerank() -> Any:
        model = AsyncReranker(trained) if shared else trained
        return await ModernRankRerank(model, ALL).apostprocess_nodes(nodes(), QueryBundle(QUERY))

    assert places(asyncio.run(rerank())) == expected(trained)


def test_metadata_is_scored_but_for_the_excluded_keys(trained: Reranker) -> None:
    given = nodes()
    for number, scored in enumerate(given):
        scored.node.metadata = {"section": "sound", "file": f"{number}.txt"}
        scored.node.excluded_embed_metadata_keys = ["file"]
    texts = [scored.node.get_content(metadata_mode=MetadataMode.EMBED) for scored in given]
    assert "section: sound" in texts[0] and "file" not in texts[0]

    assert places(ModernRankRerank(trained, ALL).postprocess_nodes(given, query_str=QUERY)) == expected(trained, texts)


def test_the_nodes_are_not_changed(trained: Reranker) -> None:
    given = nodes()
    before = copy.deepcopy(given)

    ranked = ModernRankRerank(trained, ALL, keep_retrieval_score=True).postprocess_nodes(given, query_str=QUERY)

    assert given == before
    assert all(node.node.metadata == {"retrieval_score": 0.5} for node in ranked)


def test_without_keep_retrieval_score_the_nodes_are_the_same_objects(trained: Reranker) -> None:
    given = nodes()

    ranked = ModernRankRerank(trained, ALL).postprocess_nodes(given, query_str=QUERY)

    assert {id(scored.node) for scored in ranked} == {id(scored.node) for scored in given}


def test_a_kept_score_is_hidden_from_models(trained: Reranker) -> None:
    ranker = ModernRankRerank(trained, ALL, keep_retrieval_score=True)

    once = ranker.postprocess_nodes(nodes(), query_str=QUERY)
    twice = ranker.postprocess_nodes(once, query_str=QUERY)

    assert places(twice) == places(once)
    assert twice[0].node.metadata["retrieval_score"] == once[0].score
    for mode in (MetadataMode.EMBED, MetadataMode.LLM):
        assert "retrieval_score" not in twice[0].node.get_content(metadata_mode=mode)


def test_nodes_without_a_score_or_a_text_are_ranked(trained: Reranker) -> None:
    given = [
        NodeWithScore(node=TextNode(text="", id_="id-0")),
        NodeWithScore(node=TextNode(text=TEXTS[1], id_="id-1")),
        NodeWithScore(node=ImageNode(id_="id-2")),
    ]

    ranked = ModernRankRerank(trained, ALL, keep_retrieval_score=True).postprocess_nodes(given, query_str=QUERY)

    assert places(ranked) == expected(trained, ["", TEXTS[1], ""])
    assert ranked[0].node.metadata == {"retrieval_score": None}


def test_nodes_of_one_id_are_all_kept(trained: Reranker) -> None:
    given = [NodeWithScore(node=TextNode(text=text, id_="same")) for text in (TEXTS[1], TEXTS[0], TEXTS[1])]

    ranked = ModernRankRerank(trained, ALL).postprocess_nodes(given, query_str=QUERY)

    assert [node.node.get_content() for node in ranked] == [TEXTS[1], TEXTS[1], TEXTS[0]]


def test_nothing_to_rank_does_not_touch_the_model(demo: Path) -> None:
    ranker = ModernRankRerank(str(demo))
    ranker.close()
    ranker.close()

    assert ranker.postprocess_nodes([], query_str=QUERY) == []
    assert asyncio.run(ranker.apostprocess_nodes([], query_str=QUERY)) == []
    with pytest.raises(ClosedError):
        ranker.postprocess_nodes(nodes(), query_str=QUERY)


@pytest.mark.parametrize("given", [[], nodes()])
def test_a_query_is_required(given: list[NodeWithScore], trained: Reranker) -> None:
    with pytest.raises(ValueError, match="query_bundle"):
        ModernRankRerank(trained).postprocess_nodes(given)
    with pytest.raises(ValueError, match="query_bundle"):
        asyncio.run(ModernRankRerank(trained).apostprocess_nodes(given))


def test_thousands_of_nodes(trained: Reranker) -> None:
    texts = [f"{TEXTS[number % ALL]} Release {number}." for number in range(3000)]

    ranked = ModernRankRerank(trained, 10).postprocess_nodes(nodes(texts), query_str=QUERY)

    assert places(ranked) == expected(trained, texts)[:10]


def test_threads_share_it(trained: Reranker) -> None:
    ranker = ModernRankRerank(trained, ALL)
    with ThreadPoolExecutor(8) as pool:
        rankings = list(pool.map(lambda _: places(ranker.postprocess_nodes(nodes(), query_str=QUERY)), range(40)))

    assert all(ranking == expected(trained) for ranking in rankings)


def test_tasks_share_it_and_leave_no_threads(trained: Reranker) -> None:
    ranker = ModernRankRerank(trained, ALL)

    async def rerank() -> list[Any]:
        return await asyncio.gather(*(ranker.apostprocess_nodes(nodes(), query_str=QUERY) for _ in range(40)))

    before = threading.active_count()
    rankings = asyncio.run(rerank())

    assert all(places(ranking) == expected(trained) for ranking in rankings)
    assert threading.active_count() == before


def test_nodes_that_are_cut_are_reported(trained: Reranker) -> None:
    texts = [TEXTS[1] * 20, TEXTS[0]]
    with pytest.warns(TruncationWarning, match="1 document"):
        cut = ModernRankRerank(trained, max_length=64).postprocess_nodes(nodes(texts), query_str=QUERY)
    whole = ModernRankRerank(trained, max_length=64, long_documents="chunk")

    assert places(cut) == expected(trained, texts, max_length=64)
    assert places(whole.postprocess_nodes(nodes(texts), query_str=QUERY)) == expected(
        trained, texts, max_length=64, long_documents="chunk"
    )


def test_a_name_is_loaded_with_its_options_and_closed(demo: Path, trained: Reranker) -> None:
    ranker = ModernRankRerank(demo, ALL, load_options={"precision": "fp32", "threads": 1})

    assert ranker.model == str(demo)
    assert places(ranker.postprocess_nodes(nodes(), query_str=QUERY)) == expected(trained)
    ranker.close()


def test_a_checkpoint_is_exported_once(tmp_path: Path, reranker: Reranker) -> None:
    options = {"cache": str(tmp_path)}
    first = ModernRankRerank(str(checkpoint("tiny")), ALL, load_options=options)

    assert places(first.postprocess_nodes(nodes(), query_str=QUERY)) == expected(reranker)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.onnx*")}
    ModernRankRerank(str(checkpoint("tiny")), load_options=options).close()
    assert files
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.onnx*")} == files
    first.close()


def test_a_model_of_someone_else_is_not_closed(trained: Reranker) -> None:
    ModernRankRerank(trained).close()

    assert trained.rank(QUERY, TEXTS, top_k=1)


def test_it_is_saved_and_made_again(demo: Path) -> None:
    first = ModernRankRerank(str(demo), 3, activation="logit", max_length=100)

    again = ModernRankRerank.from_dict(first.to_dict())
    by_pickle = pickle.loads(pickle.dumps(first))

    assert again.to_dict() == first.to_dict() == by_pickle.to_dict()
    given = nodes()
    rankings = [places(ranker.postprocess_nodes(given, query_str=QUERY)) for ranker in (first, again, by_pickle)]
    assert rankings[0] == rankings[1] == rankings[2]
    for ranker in (first, again, by_pickle):
        ranker.close()


def test_a_loaded_model_is_not_pickled(trained: Reranker) -> None:
    ranker = ModernRankRerank(trained)

    assert ranker.to_dict()["model"] == trained.manifest.name
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(ranker)


@pytest.mark.parametrize(
    ("wrong", "fact"),
    [
        ({"top_n": 0}, "top_n"),
        ({"max_length": 0}, "max_length"),
        ({"activation": "tanh"}, "activation"),
        ({"long_documents": "all"}, "long_documents"),
    ],
)
def test_wrong_arguments_are_refused(wrong: dict[str, Any], fact: str, trained: Reranker) -> None:
    with pytest.raises(ValidationError, match=fact):
        ModernRankRerank(trained, **wrong)


def test_other_models_are_refused(artifacts: Path, trained: Reranker) -> None:
    with pytest.raises(InputError, match="Reranker.load"):
        ModernRankRerank(7)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="maybe"):
        ModernRankRerank(str(artifacts / "tiny-cls"))
    with pytest.raises(InputError, match="precision"):
        ModernRankRerank(trained, load_options={"precision": "int8"})


def test_a_query_engine_has_it(trained: Reranker) -> None:
    index = VectorStoreIndex([scored.node for scored in nodes()], embed_model=MockEmbedding(8))
    ranker = ModernRankRerank(trained, 3, keep_retrieval_score=True)
    engine = index.as_query_engine(llm=MockLLM(), similarity_top_k=ALL, node_postprocessors=[ranker])

    for _ in range(2):  # the index has not been changed by the first query
        assert places(engine.query(QUERY).source_nodes) == expected(trained)[:3]
        assert places(asyncio.run(engine.aquery(QUERY)).source_nodes) == expected(trained)[:3]
    assert not any(node.metadata for node in index.docstore.docs.values())
