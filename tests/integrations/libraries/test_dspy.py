"""The recipe for DSPy: a reranker inside a module, without a language model."""

from __future__ import annotations

import pytest

from modernrank import RankedDocument
from support.pages import run_examples

pytestmark = pytest.mark.integrations


@pytest.mark.usefixtures("in_folder")
def test_the_example_of_the_page(ranking: list[RankedDocument], documents: list[str]) -> None:
    names = run_examples("docs/integrations/agents.md", "DSPy")

    search = names["Search"](names["reranker"], lambda query, k: documents[:k], found=len(documents))
    prediction = search("play music")

    assert prediction.passages == [result.document for result in ranking[:3]]
    assert prediction.scores == [result.score for result in ranking[:3]]
    assert search.deepcopy().reranker is names["reranker"]
