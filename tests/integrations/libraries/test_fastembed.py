"""fastembed, and Haystack's ranker on it."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastembed.rerank.cross_encoder import TextCrossEncoder
from haystack import Document, Pipeline
from haystack_integrations.components.rankers.fastembed import FastembedRanker

from modernrank import ArtifactError, InputError, RankedDocument, Reranker
from modernrank.integrations.search.fastembed import register
from support.pages import run_examples

pytestmark = pytest.mark.integrations

QUERY = "play music"
numbers = itertools.count()


@pytest.fixture(scope="module")
def name(demo: Path) -> str:
    register("modernrank/demo", demo, precision="fp32")
    return "modernrank/demo"


@pytest.fixture(scope="module")
def encoder(name: str) -> TextCrossEncoder:
    return TextCrossEncoder(name)


def new_name() -> str:
    return f"some/name-{next(numbers)}"


def test_the_name_is_listed_beside_those_of_fastembed(name: str, demo: Path) -> None:
    known = {model["model"]: model for model in TextCrossEncoder.list_supported_models()}

    assert len(known) > 1
    assert known[name]["license"] == "apache-2.0"
    assert known[name]["sources"]["url"] == demo.resolve().as_uri()
    assert 0 < known[name]["size_in_GB"] < 1


def test_scores_are_logits_in_the_order_of_the_documents(
    encoder: TextCrossEncoder, model: Reranker, documents: list[str]
) -> None:
    pairs = [(QUERY, document) for document in documents]

    assert list(encoder.rerank(QUERY, documents)) == model.score(pairs).tolist()
    assert list(encoder.rerank(QUERY, iter(documents), batch_size=1)) == model.score(pairs).tolist()
    assert list(encoder.rerank_pairs(iter(pairs))) == model.score(pairs).tolist()
    assert encoder.model.token_count(pairs) == model.count_tokens(pairs).sum()


def test_the_case_of_a_name_does_not_matter(name: str, model: Reranker) -> None:
    encoder = TextCrossEncoder(name.upper(), lazy_load=True, threads=1)

    assert list(encoder.rerank(QUERY, ["a"])) == model.score([(QUERY, "a")]).tolist()


def test_nothing_none_and_duplicates(encoder: TextCrossEncoder, model: Reranker) -> None:
    assert list(encoder.rerank(QUERY, [])) == []
    assert encoder.model.token_count([]) == 0
    first, second, third = encoder.rerank(QUERY, [None, "a", "a"])  # type: ignore[list-item]
    assert first == model.score([(QUERY, "")])[0]
    assert second == third


def test_thousands_of_documents_and_many_callers(name: str, model: Reranker, many: list[str]) -> None:
    encoder = TextCrossEncoder(name, lazy_load=True)
    queries = [QUERY, "draw charts", "write letters"]

    with ThreadPoolExecutor(len(queries)) as threads:
        found = list(threads.map(lambda query: list(encoder.rerank(query, many)), queries))

    for query, scores in zip(queries, found, strict=True):
        assert scores == model.score([(query, text) for text in many]).tolist()


def test_haystacks_ranker_finds_it_in_a_pipeline(name: str, documents: list[str], logits: list[RankedDocument]) -> None:
    pipeline = Pipeline()
    pipeline.add_component("ranker", FastembedRanker(model_name=name, top_k=3))
    pipeline = Pipeline.loads(pipeline.dumps())
    found = [Document(content=text, id=str(index)) for index, text in enumerate(documents)]

    ranked = pipeline.run({"ranker": {"query": QUERY, "documents": found}})["ranker"]["documents"]

    assert [(int(document.id), document.score) for document in ranked] == [
        (result.index, result.score) for result in logits[:3]
    ]


def test_haystacks_ranker_takes_documents_without_content(name: str) -> None:
    ranker = FastembedRanker(model_name=name)

    assert ranker.run(QUERY, [])["documents"] == []
    assert len(ranker.run(QUERY, [Document(content=None), Document(content="a")])["documents"]) == 2


@pytest.mark.parametrize(
    "options",
    [{"providers": ["CUDAExecutionProvider"]}, {"device_ids": [0]}, {"cuda": True}, {"specific_model_path": "a"}],
)
def test_options_without_a_meaning_are_refused(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        TextCrossEncoder(name, **options)


def test_further_processes_are_refused(encoder: TextCrossEncoder) -> None:
    with pytest.raises(InputError, match="parallel"):
        list(encoder.rerank_pairs([(QUERY, "a")], parallel=2))


def test_wrong_names_and_folders_are_refused(name: str, demo: Path, artifacts: Path, tmp_path: Path) -> None:
    before = len(TextCrossEncoder.list_supported_models())
    register("modernrank/Demo", demo, precision="fp32")
    assert len(TextCrossEncoder.list_supported_models()) == before
    with pytest.raises(InputError, match="Demo"):
        register("modernrank/Demo", demo)
    with pytest.raises(InputError, match="MiniLM"):
        register("Xenova/ms-marco-MiniLM-L-6-v2", demo)
    with pytest.raises(ArtifactError):
        register(new_name(), tmp_path)
    with pytest.raises(InputError, match="label"):
        register(new_name(), artifacts / "tiny-cls")


@pytest.mark.usefixtures("in_folder")
def test_the_example_of_the_page() -> None:
    run_examples("docs/integrations/search.md", "fastembed and Haystack")
