"""Frameworks that build a ``CrossEncoder`` from a name, unchanged, on a folder that runs modernrank."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lancedb
import pytest
from haystack import Document as HaystackDocument
from haystack import Pipeline
from haystack_integrations.components.rankers.sentence_transformers import SentenceTransformersSimilarityRanker
from lancedb.rerankers import CrossEncoderReranker
from langchain_classic.retrievers.document_compressors import CrossEncoderReranker as LangChainReranker
from langchain_community.cross_encoders import HuggingFaceCrossEncoder
from langchain_core.documents import Document as LangChainDocument
from llama_index.core.postprocessor import SentenceTransformerRerank
from llama_index.core.schema import NodeWithScore, TextNode

from modernrank import InputError, Reranker
from modernrank.integrations.sentence_transformers.module import ModernRank
from support.layout import ROOT

pytestmark = pytest.mark.integrations

QUERY = "play music in the terminal"
DOCUMENTS = (ROOT / "demo" / "documents.txt").read_text().splitlines()


@pytest.fixture(scope="module")
def folder(folders: dict[str, Path]) -> str:
    return str(folders["demo"])


@pytest.fixture(scope="module")
def reranker(folder: str) -> Iterator[Reranker]:
    with Reranker.load(folder) as loaded:
        yield loaded


def ranking(reranker: Reranker, documents: list[str], activation: Any = "model") -> list[tuple[str, float]]:
    return [(found.document, found.score) for found in reranker.rank(QUERY, documents, activation=activation)]


def assert_ranked(found: list[tuple[str, float]], expected: list[tuple[str, float]]) -> None:
    assert [text for text, _ in found] == [text for text, _ in expected]
    assert [score for _, score in found] == pytest.approx([score for _, score in expected], abs=1e-6)


@pytest.fixture(scope="module")
def langchain(folder: str) -> HuggingFaceCrossEncoder:
    return HuggingFaceCrossEncoder(model_name=folder, model_kwargs={"trust_remote_code": True, "device": "cpu"})


def test_langchain_scores(langchain: HuggingFaceCrossEncoder, reranker: Reranker) -> None:
    assert isinstance(langchain.client[0], ModernRank)
    pairs = [(QUERY, document) for document in DOCUMENTS]
    assert list(langchain.score(pairs)) == pytest.approx(reranker.score(pairs, activation="model").tolist(), abs=1e-6)


def test_langchain_reranks(langchain: HuggingFaceCrossEncoder, reranker: Reranker) -> None:
    compressor = LangChainReranker(model=langchain, top_n=4)
    documents = [LangChainDocument(page_content=text, metadata={"id": i}) for i, text in enumerate(DOCUMENTS)]
    best = compressor.compress_documents(documents, QUERY)
    assert [document.page_content for document in best] == [text for text, _ in ranking(reranker, DOCUMENTS)[:4]]


@pytest.fixture(scope="module")
def llama_index(folder: str) -> SentenceTransformerRerank:
    return SentenceTransformerRerank(model=folder, top_n=5, device="cpu", keep_retrieval_score=True)


def test_llama_index_reranks(llama_index: SentenceTransformerRerank, reranker: Reranker) -> None:
    assert isinstance(llama_index._model[0], ModernRank)
    assert llama_index._model.max_seq_length == min(512, reranker.max_length)
    nodes = [NodeWithScore(node=TextNode(text=text), score=0.25) for text in DOCUMENTS]
    best = llama_index.postprocess_nodes(nodes, query_str=QUERY)
    assert_ranked([(found.node.text, found.score) for found in best], ranking(reranker, DOCUMENTS)[:5])
    assert llama_index.postprocess_nodes([], query_str=QUERY) == []


@pytest.fixture(scope="module")
def haystack(folder: str) -> SentenceTransformersSimilarityRanker:
    return SentenceTransformersSimilarityRanker(model=folder, trust_remote_code=True, top_k=5)


@pytest.mark.parametrize(("scale", "activation"), [(True, "sigmoid"), (False, "logit")])
def test_haystack_ranks(
    haystack: SentenceTransformersSimilarityRanker, reranker: Reranker, scale: bool, activation: str
) -> None:
    documents = [HaystackDocument(content=text) for text in DOCUMENTS]
    best = haystack.run(query=QUERY, documents=[*documents, documents[0]], scale_score=scale)["documents"]
    assert isinstance(haystack._cross_encoder[0], ModernRank)
    assert_ranked([(found.content, found.score) for found in best], ranking(reranker, DOCUMENTS, activation)[:5])
    assert haystack.run(query=QUERY, documents=[])["documents"] == []


def test_haystack_scores_documents_without_content_as_empty(
    haystack: SentenceTransformersSimilarityRanker, reranker: Reranker
) -> None:
    found = haystack.run(query=QUERY, documents=[HaystackDocument(content=None, id="none")])["documents"]
    assert found[0].score == pytest.approx(float(reranker.score([(QUERY, "")], activation="sigmoid")[0]), abs=1e-6)


def test_a_haystack_pipeline_is_saved_and_loaded(folder: str, reranker: Reranker) -> None:
    pipeline = Pipeline()
    ranker = SentenceTransformersSimilarityRanker(model=folder, trust_remote_code=True, model_kwargs={"threads": 1})
    pipeline.add_component("ranker", ranker)
    again = Pipeline.loads(pipeline.dumps())
    documents = [HaystackDocument(content=text) for text in DOCUMENTS]
    found = again.run({"ranker": {"query": QUERY, "documents": documents, "top_k": 3}})["ranker"]["documents"]
    assert_ranked([(best.content, best.score) for best in found], ranking(reranker, DOCUMENTS, "sigmoid")[:3])


def test_lancedb_reranks_a_search(folder: str, reranker: Reranker, tmp_path: Path) -> None:
    rows = [{"text": text, "vector": [float(number), 1.0]} for number, text in enumerate(DOCUMENTS)]
    table = lancedb.connect(tmp_path / "database").create_table("documents", data=rows)
    search = table.search([0.0, 1.0]).rerank(CrossEncoderReranker(folder, device="cpu"), query_string=QUERY)
    found = search.limit(len(rows)).to_list()
    assert_ranked([(row["text"], row["_relevance_score"]) for row in found], ranking(reranker, DOCUMENTS))


def test_thousands_of_documents(langchain: HuggingFaceCrossEncoder, reranker: Reranker) -> None:
    pairs = [(QUERY, f"{DOCUMENTS[number % len(DOCUMENTS)]} {number % 50}") for number in range(2000)]
    assert list(langchain.score(pairs)) == pytest.approx(reranker.score(pairs, activation="model").tolist(), abs=1e-6)


def test_a_text_that_is_none_is_refused(langchain: HuggingFaceCrossEncoder) -> None:
    with pytest.raises(InputError, match="pair 0"):
        langchain.score([(QUERY, None)])  # type: ignore[list-item]
