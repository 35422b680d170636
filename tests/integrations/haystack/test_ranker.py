"""The ranker, alone."""

from __future__ import annotations

import asyncio
import copy
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from haystack import Document
from haystack_integrations.components.rankers.modernrank import ModernRankRanker

from modernrank import ArtifactError, InputError, Reranker, TruncationWarning
from support.checkpoints import checkpoint
from support.layout import ROOT

pytestmark = pytest.mark.integrations

QUERY = "play music in a terminal"
TEXTS = (ROOT / "demo" / "documents.txt").read_text(encoding="utf-8").splitlines()
EXACT: dict[str, Any] = {"precision": "fp32"}


@pytest.fixture(scope="module")
def trained(demo: Path) -> Iterator[Reranker]:
    with Reranker.load(demo, precision="fp32") as loaded:
        yield loaded


@pytest.fixture(scope="module")
def ranker(demo: Path) -> Iterator[ModernRankRanker]:
    made = ModernRankRanker(str(demo), load_options=EXACT)
    yield made
    made.close()


def documents(texts: Sequence[str | None] = TEXTS) -> list[Document]:
    return [Document(id=f"id-{number}", content=text, meta={"n": number}) for number, text in enumerate(texts)]


def expected(
    reranker: Reranker, texts: Sequence[str] = TEXTS, activation: Any = "sigmoid", **options: Any
) -> list[tuple[str, float]]:
    return [(f"id-{r.index}", r.score) for r in reranker.rank(QUERY, texts, activation=activation, **options)]


def places(answer: dict[str, list[Document]]) -> list[tuple[str, float | None]]:
    assert list(answer) == ["documents"]
    return [(document.id, document.score) for document in answer["documents"]]


@pytest.mark.parametrize("top_k", [1, 3, 100])
def test_the_ranking_is_that_of_the_reranker(top_k: int, ranker: ModernRankRanker, trained: Reranker) -> None:
    answer = ranker.run(QUERY, documents(), top_k=top_k)

    assert places(answer) == expected(trained)[:top_k]
    assert "music player" in (answer["documents"][0].content or "")
    assert places(asyncio.run(ranker.run_async(QUERY, documents(), top_k=top_k))) == expected(trained)[:top_k]


@pytest.mark.parametrize(("scale_score", "activation"), [(True, "sigmoid"), (False, "logit")])
def test_scores_are_scaled_or_raw(scale_score: bool, activation: str, demo: Path, trained: Reranker) -> None:
    always = ModernRankRanker(demo, scale_score=scale_score, load_options=EXACT)
    once = ModernRankRanker(demo, scale_score=not scale_score, load_options=EXACT)

    assert places(always.run(QUERY, documents())) == expected(trained, activation=activation)
    assert places(once.run(QUERY, documents(), scale_score=scale_score)) == expected(trained, activation=activation)
    always.close()
    once.close()


def test_a_threshold_is_on_the_scale_of_the_scores(demo: Path, trained: Reranker) -> None:
    places_of_all = expected(trained)
    ranker = ModernRankRanker(demo, score_threshold=places_of_all[1][1], load_options=EXACT)

    assert places(ranker.run(QUERY, documents())) == places_of_all[:2]
    assert places(ranker.run(QUERY, documents(), score_threshold=places_of_all[3][1])) == places_of_all[:4]
    assert places(ranker.run(QUERY, documents(), score_threshold=0.0)) == places_of_all
    assert places(ranker.run(QUERY, documents(), score_threshold=2.0)) == []
    ranker.close()


def test_meta_fields_are_put_before_the_content(demo: Path, trained: Reranker) -> None:
    given = [
        Document(id="id-0", content=TEXTS[0], meta={"section": "sound", "size": 0, "other": "x"}),
        Document(id="id-1", content=TEXTS[1], meta={"section": "", "size": 12}),
        Document(id="id-2", content=None, meta={"section": "music"}),
        Document(id="id-3", content=TEXTS[2], meta={"section": None}),
    ]
    texts = [f"sound | 0 | {TEXTS[0]}", f"12 | {TEXTS[1]}", "music | ", TEXTS[2]]
    fields = ["section", "size", "missing"]
    ranker = ModernRankRanker(demo, meta_fields_to_embed=fields, embedding_separator=" | ", load_options=EXACT)

    assert places(ranker.run(QUERY, given)) == expected(trained, texts)
    ranker.close()


def test_the_documents_are_not_changed(ranker: ModernRankRanker) -> None:
    given = documents()
    before = copy.deepcopy(given)

    answer = ranker.run(QUERY, given)

    assert given == before
    by_id = {document.id: document for document in given}
    for document in answer["documents"]:
        assert (document.content, document.meta) == (by_id[document.id].content, by_id[document.id].meta)


def test_no_content_is_an_empty_text(ranker: ModernRankRanker, trained: Reranker) -> None:
    assert places(ranker.run(QUERY, documents([None, TEXTS[1], ""]))) == expected(trained, ["", TEXTS[1], ""])


def test_of_one_id_the_document_with_the_best_score_is_ranked(ranker: ModernRankRanker) -> None:
    given = [
        Document(id="a", content="1"),
        Document(id="b", content="2", score=0.1),
        Document(id="a", content="3", score=-5.0),
        Document(id="b", content="4", score=0.1),
        Document(id="a", content="5", score=0.5),
    ]

    ranked = ranker.run(QUERY, given)["documents"]

    assert {(document.id, document.content) for document in ranked} == {("a", "5"), ("b", "2")}
    assert len(ranked) == 2


def test_nothing_to_rank_loads_no_model() -> None:
    ranker = ModernRankRanker("there/is/none")

    assert ranker.run(QUERY, []) == {"documents": []}
    assert asyncio.run(ranker.run_async(QUERY, [])) == {"documents": []}


def test_thousands_of_documents(ranker: ModernRankRanker, trained: Reranker) -> None:
    texts = [f"{TEXTS[number % len(TEXTS)]} Release {number}." for number in range(3000)]

    assert places(ranker.run(QUERY, documents(texts))) == expected(trained, texts)[:10]


def test_threads_share_a_ranker_that_loads_once(demo: Path, trained: Reranker) -> None:
    ranker = ModernRankRanker(demo, load_options=EXACT)
    with ThreadPoolExecutor(8) as pool:
        rankings = list(pool.map(lambda _: places(ranker.run(QUERY, documents())), range(40)))
    ranker.close()

    assert all(ranking == expected(trained) for ranking in rankings)


def test_tasks_share_a_ranker_and_leave_no_threads(ranker: ModernRankRanker, trained: Reranker) -> None:
    async def rerank() -> list[Any]:
        await ranker.warm_up_async()
        before = threading.active_count()
        answers = await asyncio.gather(*(ranker.run_async(QUERY, documents()) for _ in range(40)))
        named = [thread for thread in threading.enumerate() if "tokenise" in thread.name]
        assert named == [] and threading.active_count() >= before
        return answers

    assert all(places(answer) == expected(trained) for answer in asyncio.run(rerank()))


def test_warming_up_and_closing_may_be_repeated(demo: Path, trained: Reranker) -> None:
    ranker = ModernRankRanker(demo, load_options=EXACT)
    ranker.close()
    ranker.warm_up()
    ranker.warm_up()
    first = places(ranker.run(QUERY, documents()))
    ranker.close()
    ranker.close()

    assert first == places(ranker.run(QUERY, documents())) == expected(trained)

    async def again() -> dict[str, list[Document]]:
        await ranker.close_async()
        await ranker.warm_up_async()
        answer = await ranker.run_async(QUERY, documents())
        await ranker.close_async()
        return answer

    assert places(asyncio.run(again())) == first


def test_a_checkpoint_is_exported(tmp_path: Path, reranker: Reranker) -> None:
    ranker = ModernRankRanker(str(checkpoint("tiny")), load_options={"cache": str(tmp_path)})

    assert places(ranker.run(QUERY, documents())) == expected(reranker)
    ranker.close()


def test_documents_that_are_cut_are_reported(demo: Path, trained: Reranker) -> None:
    texts = [TEXTS[1] * 20, TEXTS[0]]
    cut = ModernRankRanker(demo, max_length=64, load_options=EXACT)
    whole = ModernRankRanker(demo, max_length=64, long_documents="chunk", load_options=EXACT)

    with pytest.warns(TruncationWarning, match="1 document"):
        assert places(cut.run(QUERY, documents(texts))) == expected(trained, texts, max_length=64)
    chunks = expected(trained, texts, max_length=64, long_documents="chunk")
    assert places(whole.run(QUERY, documents(texts))) == chunks
    cut.close()
    whole.close()


@pytest.mark.parametrize("top_k", [0, -1, True, 1.5])
def test_a_maximum_is_positive(top_k: Any, ranker: ModernRankRanker) -> None:
    with pytest.raises(ValueError, match="top_k"):
        ModernRankRanker("any", top_k=top_k)
    with pytest.raises(ValueError, match="top_k"):
        ranker.run(QUERY, documents(), top_k=top_k)
    with pytest.raises(ValueError, match="top_k"):
        asyncio.run(ranker.run_async(QUERY, [], top_k=top_k))


def test_what_cannot_rank_is_refused(artifacts: Path, trained: Reranker, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="Reranker"):
        ModernRankRanker(trained)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="maybe"):
        ModernRankRanker(artifacts / "tiny-cls").warm_up()
    with pytest.raises(ArtifactError):
        ModernRankRanker(tmp_path).run(QUERY, documents())
    with pytest.raises(InputError, match="long_documents"):
        ModernRankRanker(artifacts / "tiny", long_documents="all").run(QUERY, documents())  # type: ignore[arg-type]
