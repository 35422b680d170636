"""The document compressor, alone and inside LangChain's own retrievers and runnables."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_classic.retrievers.document_compressors import DocumentCompressorPipeline
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from pydantic import ValidationError

from modernrank import AsyncReranker, ClosedError, InputError, Reranker, TruncationWarning
from modernrank.integrations.langchain import ModernRankRerank
from support.layout import ROOT

pytestmark = pytest.mark.integrations

QUERY = "play music in a terminal"
TEXTS = (ROOT / "demo" / "documents.txt").read_text(encoding="utf-8").splitlines()


class Fixed(BaseRetriever):
    """A first stage that finds the same documents for every query."""

    documents: list[Document]

    def _get_relevant_documents(self, query: str, **kwargs: Any) -> list[Document]:
        return self.documents


@pytest.fixture(scope="module")
def trained(demo: Path) -> Iterator[Reranker]:
    with Reranker.load(demo, precision="fp32") as loaded:
        yield loaded


def documents(texts: list[str] = TEXTS) -> list[Document]:
    return [
        Document(page_content=text, id=f"id-{number}", metadata={"source": number, "tags": ["a"]})
        for number, text in enumerate(texts)
    ]


def expected(reranker: Reranker, texts: list[str] = TEXTS, activation: Any = "model") -> list[tuple[str, float]]:
    return [(f"id-{r.index}", r.score) for r in reranker.rank(QUERY, texts, activation=activation)]


def places(ranked: Any) -> list[tuple[Any, float]]:
    return [(document.id, document.metadata["relevance_score"]) for document in ranked]


def test_it_is_a_document_compressor(trained: Reranker) -> None:
    assert isinstance(ModernRankRerank(model=trained), BaseDocumentCompressor)


@pytest.mark.parametrize("top_n", [1, 3, 100, None])
def test_the_ranking_is_that_of_the_reranker(top_n: int | None, trained: Reranker) -> None:
    ranked = ModernRankRerank(model=trained, top_n=top_n).compress_documents(documents(), QUERY)

    assert places(ranked) == expected(trained)[:top_n]
    assert "music player" in ranked[0].page_content


def test_three_are_kept_by_default(trained: Reranker) -> None:
    assert len(ModernRankRerank(model=trained).compress_documents(documents(), QUERY)) == 3


@pytest.mark.parametrize("activation", ["logit", "sigmoid", "model"])
def test_scores_have_the_scale_that_was_asked_for(activation: Any, trained: Reranker) -> None:
    compressor = ModernRankRerank(model=trained, top_n=None, activation=activation)

    assert places(compressor.compress_documents(documents(), QUERY)) == expected(trained, activation=activation)


@pytest.mark.parametrize("shared", [True, False])
def test_coroutines_have_the_same_ranking(shared: bool, trained: Reranker) -> None:
    async def compress() -> Any:
        model = AsyncReranker(trained) if shared else trained
        return await ModernRankRerank(model=model, top_n=None).acompress_documents(documents(), QUERY)

    assert places(asyncio.run(compress())) == expected(trained)


def test_calls_that_block_may_use_an_async_reranker(trained: Reranker) -> None:
    compressor = ModernRankRerank(model=AsyncReranker(trained), top_n=None)

    assert places(compressor.compress_documents(documents(), QUERY)) == expected(trained)


def test_the_documents_are_not_changed(trained: Reranker) -> None:
    class Page(Document):
        number: int = 0

    given = [*documents(), Page(page_content="Plays songs.", number=7)]
    before = [document.model_copy(deep=True) for document in given]

    ranked = ModernRankRerank(model=trained, top_n=None).compress_documents(given, QUERY)

    assert given == before
    assert [document.number for document in ranked if isinstance(document, Page)] == [7]
    by_id = {document.id: document for document in given}
    for document in ranked:
        rest = {name: value for name, value in document.metadata.items() if name != "relevance_score"}
        assert (document.page_content, rest) == (by_id[document.id].page_content, by_id[document.id].metadata)


def test_a_score_of_an_earlier_stage_is_replaced(trained: Reranker) -> None:
    given = [Document(page_content=TEXTS[0], metadata={"relevance_score": 7.0})]

    (ranked,) = ModernRankRerank(model=trained).compress_documents(given, QUERY)

    assert ranked.metadata == {"relevance_score": trained.rank(QUERY, TEXTS[:1], activation="model")[0].score}
    assert given[0].metadata == {"relevance_score": 7.0}


def test_a_threshold_is_on_the_scale_of_the_scores(trained: Reranker) -> None:
    scores = [score for _, score in expected(trained)]
    compressor = ModernRankRerank(model=trained, top_n=None, score_threshold=scores[1])

    assert places(compressor.compress_documents(documents(), QUERY)) == expected(trained)[:2]
    none = ModernRankRerank(model=trained, score_threshold=scores[0] + 1)
    assert none.compress_documents(documents(), QUERY) == []


def test_nothing_to_rank_does_not_touch_the_model(demo: Path) -> None:
    with Reranker.load(demo, precision="fp32") as reranker:
        compressor = ModernRankRerank(model=reranker)

    assert compressor.compress_documents([], QUERY) == []
    assert asyncio.run(compressor.acompress_documents([], QUERY)) == []
    with pytest.raises(ClosedError):
        compressor.compress_documents(documents(), QUERY)


def test_empty_texts_are_ranked(trained: Reranker) -> None:
    texts = ["", TEXTS[1], " ", ""]

    ranked = ModernRankRerank(model=trained, top_n=None).compress_documents(documents(texts), QUERY)

    assert places(ranked) == expected(trained, texts)


def test_documents_of_one_id_are_all_kept(trained: Reranker) -> None:
    given = [Document(page_content=text, id="same") for text in (TEXTS[1], TEXTS[0], TEXTS[1])]

    ranked = ModernRankRerank(model=trained, top_n=None).compress_documents(given, QUERY)

    assert [document.page_content for document in ranked] == [TEXTS[1], TEXTS[1], TEXTS[0]]
    assert ranked[0].metadata == ranked[1].metadata


def test_thousands_of_documents(trained: Reranker) -> None:
    texts = [f"{TEXTS[number % len(TEXTS)]} Release {number}." for number in range(3000)]

    ranked = ModernRankRerank(model=trained, top_n=10).compress_documents(documents(texts), QUERY)

    assert places(ranked) == expected(trained, texts)[:10]


def test_threads_share_a_compressor(trained: Reranker) -> None:
    compressor = ModernRankRerank(model=trained, top_n=None)
    with ThreadPoolExecutor(8) as pool:
        rankings = list(pool.map(lambda _: places(compressor.compress_documents(documents(), QUERY)), range(40)))

    assert all(ranking == expected(trained) for ranking in rankings)


def test_tasks_share_a_compressor_and_leave_no_threads(trained: Reranker) -> None:
    compressor = ModernRankRerank(model=trained, top_n=None)

    async def compress() -> list[Any]:
        return await asyncio.gather(*(compressor.acompress_documents(documents(), QUERY) for _ in range(40)))

    before = threading.active_count()
    rankings = asyncio.run(compress())

    assert all(places(ranking) == expected(trained) for ranking in rankings)
    assert threading.active_count() == before


def test_a_cancelled_task_computes_nothing_more(trained: Reranker) -> None:
    compressor = ModernRankRerank(model=trained)
    many = documents([f"{TEXTS[number % len(TEXTS)]} Release {number}." for number in range(20_000)])

    async def compress() -> None:
        async with asyncio.timeout(0.3):
            await compressor.acompress_documents(many, QUERY)

    with pytest.raises(TimeoutError):
        asyncio.run(compress())
    assert trained.metrics.waiting_tokens == 0


def test_documents_that_are_cut_are_reported(trained: Reranker) -> None:
    long = documents([TEXTS[1] * 20, TEXTS[0]])
    with pytest.warns(TruncationWarning, match="1 document"):
        cut = ModernRankRerank(model=trained, max_length=64).compress_documents(long, QUERY)
    whole = ModernRankRerank(model=trained, max_length=64, long_documents="chunk").compress_documents(long, QUERY)

    texts = [document.page_content for document in long]
    for ranked, policy in ((cut, "truncate"), (whole, "chunk")):
        direct = trained.rank(QUERY, texts, max_length=64, activation="model", long_documents=policy)
        assert places(ranked) == [(f"id-{result.index}", result.score) for result in direct]


@pytest.mark.parametrize(
    ("wrong", "fact"),
    [
        ({"top_n": 0}, "top_n"),
        ({"max_length": 0}, "max_length"),
        ({"activation": "tanh"}, "activation"),
        ({"long_documents": "all"}, "long_documents"),
        ({"top_k": 3}, "top_k"),
        ({"model": "artifacts/demo"}, "Reranker.load"),
    ],
)
def test_wrong_arguments_are_refused(wrong: dict[str, Any], fact: str, trained: Reranker) -> None:
    with pytest.raises(ValidationError, match=fact):
        ModernRankRerank(**{"model": trained, **wrong})


def test_a_model_of_several_labels_is_refused(artifacts: Path) -> None:
    with Reranker.load(artifacts / "tiny-cls") as reranker, pytest.raises(ValidationError, match="maybe"):
        ModernRankRerank(model=reranker)


def test_invalid_unicode_is_refused(trained: Reranker) -> None:
    with pytest.raises(InputError, match="document 1"):
        ModernRankRerank(model=trained).compress_documents(documents(["a", "\ud800"]), QUERY)


def test_the_model_is_not_dumped(trained: Reranker) -> None:
    dumped = ModernRankRerank(model=trained, top_n=5).model_dump()

    assert dumped["top_n"] == 5
    assert "model" not in dumped


def test_a_retriever_compresses_with_it(trained: Reranker) -> None:
    compressor = ModernRankRerank(model=trained)
    retriever = ContextualCompressionRetriever(base_compressor=compressor, base_retriever=Fixed(documents=documents()))

    assert places(retriever.invoke(QUERY)) == expected(trained)[:3]
    assert places(asyncio.run(retriever.ainvoke(QUERY))) == expected(trained)[:3]
    empty = ContextualCompressionRetriever(base_compressor=compressor, base_retriever=Fixed(documents=[]))
    assert empty.invoke(QUERY) == []


def test_a_pipeline_of_compressors_has_it(trained: Reranker) -> None:
    pipeline = DocumentCompressorPipeline(
        transformers=[ModernRankRerank(model=trained, top_n=5), ModernRankRerank(model=trained, top_n=1)]
    )

    assert places(pipeline.compress_documents(documents(), QUERY)) == expected(trained)[:1]
    assert places(asyncio.run(pipeline.acompress_documents(documents(), QUERY))) == expected(trained)[:1]


def test_a_runnable_has_it(trained: Reranker) -> None:
    compressor = ModernRankRerank(model=trained)

    def rerank(found: dict[str, Any]) -> Any:
        return compressor.compress_documents(found["documents"], found["query"])

    async def arerank(found: dict[str, Any]) -> Any:
        return await compressor.acompress_documents(found["documents"], found["query"])

    chain = {
        "query": RunnablePassthrough(),
        "documents": Fixed(documents=documents()),
    } | RunnableLambda(rerank, arerank)
    best = chain | itemgetter(0)

    assert places(chain.invoke(QUERY)) == expected(trained)[:3]
    assert places(asyncio.run(chain.ainvoke(QUERY))) == expected(trained)[:3]
    assert [ranked.id for ranked in best.batch([QUERY, QUERY])] == [expected(trained)[0][0]] * 2
