"""The cross encoder, alone and inside LangChain's ``CrossEncoderReranker``."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_classic.retrievers.document_compressors import CrossEncoderReranker
from langchain_core.cross_encoders import BaseCrossEncoder
from langchain_core.documents import Document

from modernrank import AsyncReranker, InputError, Reranker, TruncationWarning
from modernrank.integrations.langchain import ModernRankCrossEncoder
from support.layout import ROOT

pytestmark = pytest.mark.integrations

QUERY = "play music in a terminal"
TEXTS = (ROOT / "demo" / "documents.txt").read_text(encoding="utf-8").splitlines()
PAIRS = [(QUERY, text) for text in TEXTS]


@pytest.fixture(scope="module")
def trained(demo: Path) -> Iterator[Reranker]:
    with Reranker.load(demo, precision="fp32") as loaded:
        yield loaded


@pytest.mark.parametrize("activation", ["model", "logit", "sigmoid"])
def test_scores_are_those_of_the_reranker(activation: Any, trained: Reranker) -> None:
    encoder: BaseCrossEncoder = ModernRankCrossEncoder(trained, activation=activation)

    scores = encoder.score(PAIRS)

    assert np.array_equal(np.float32(scores), trained.score(PAIRS, activation=activation))
    assert {type(score) for score in scores} == {float}


def test_an_async_reranker_may_be_its_model(trained: Reranker) -> None:
    assert ModernRankCrossEncoder(AsyncReranker(trained)).score(PAIRS) == ModernRankCrossEncoder(trained).score(PAIRS)


def test_no_pairs_have_no_scores(trained: Reranker) -> None:
    assert ModernRankCrossEncoder(trained).score([]) == []


def test_langchains_reranker_has_it(trained: Reranker) -> None:
    reranker = CrossEncoderReranker(model=ModernRankCrossEncoder(trained), top_n=2)
    documents = [Document(page_content=text, id=str(number)) for number, text in enumerate(TEXTS)]
    expected = [str(result.index) for result in trained.rank(QUERY, TEXTS, top_k=2)]

    assert [document.id for document in reranker.compress_documents(documents, QUERY)] == expected
    assert [document.id for document in asyncio.run(reranker.acompress_documents(documents, QUERY))] == expected
    assert list(reranker.compress_documents([], QUERY)) == []


def test_pairs_that_are_cut_are_reported(trained: Reranker) -> None:
    with pytest.warns(TruncationWarning):
        ModernRankCrossEncoder(trained, max_length=16).score([(QUERY, TEXTS[0] * 5)])


@pytest.mark.parametrize("wrong", [{"activation": "tanh"}, {"max_length": 1_000_000}])
def test_wrong_options_are_refused(wrong: dict[str, Any], trained: Reranker) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        ModernRankCrossEncoder(trained, **wrong).score(PAIRS)


def test_other_models_are_refused(artifacts: Path) -> None:
    with pytest.raises(InputError, match="Reranker.load"):
        ModernRankCrossEncoder("artifacts/demo")  # type: ignore[arg-type]
    with Reranker.load(artifacts / "tiny-cls") as several, pytest.raises(InputError, match="maybe"):
        ModernRankCrossEncoder(several)
