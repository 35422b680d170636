"""The ranker inside Haystack's pipelines, which are saved and loaded without a list of allowed modules."""

from __future__ import annotations

import asyncio
import copy
import importlib.util
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from haystack import Document, Pipeline
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack_integrations.components.rankers.jina import JinaRanker
from haystack_integrations.components.rankers.modernrank import ModernRankRanker

from modernrank import Reranker
from support.layout import ROOT

pytestmark = pytest.mark.integrations

QUERY = "play music in a terminal"
TEXTS = (ROOT / "demo" / "documents.txt").read_text(encoding="utf-8").splitlines()
CLASS = "haystack_integrations.components.rankers.modernrank.ranker.ModernRankRanker"


@pytest.fixture(scope="module")
def ranking(demo: Path) -> Iterator[list[tuple[str, float]]]:
    with Reranker.load(demo, precision="fp32") as reranker:
        yield [(r.document, r.score) for r in reranker.rank(QUERY, TEXTS, top_k=3, activation="sigmoid")]


def pipeline(model: Path) -> Pipeline:
    store = InMemoryDocumentStore()
    store.write_documents([Document(content=text) for text in TEXTS])
    made = Pipeline()
    made.add_component("retriever", InMemoryBM25Retriever(store, top_k=len(TEXTS)))
    made.add_component("ranker", ModernRankRanker(str(model), top_k=3, load_options={"precision": "fp32"}))
    made.connect("retriever.documents", "ranker.documents")
    return made


INPUT = {"retriever": {"query": QUERY}, "ranker": {"query": QUERY}}


def places(answer: dict[str, Any]) -> list[tuple[str, float]]:
    return [(document.content, document.score) for document in answer["ranker"]["documents"]]


def test_a_pipeline_ranks_and_closes(demo: Path, ranking: Any) -> None:
    made = pipeline(demo)

    made.warm_up()
    assert places(made.run(INPUT)) == ranking
    made.close()
    assert places(made.run(INPUT)) == ranking  # it is loaded again
    made.close()


def test_a_pipeline_ranks_in_a_coroutine(demo: Path, ranking: Any) -> None:
    made = pipeline(demo)

    async def run() -> list[Any]:
        await made.warm_up_async()
        answers = [places(await made.run_async(INPUT)) for _ in range(2)]
        answers += map(places, await asyncio.gather(*(made.run_async(INPUT) for _ in range(10))))
        await made.close_async()
        return answers

    assert asyncio.run(run()) == [ranking] * 12


def test_a_pipeline_is_saved_and_loaded_without_an_allow_list(demo: Path, ranking: Any) -> None:
    """In a process that has not imported the ranker."""
    text = pipeline(demo).dumps()
    assert f"type: {CLASS}\n" in text
    code = f"""
import sys
from haystack import Document, Pipeline
made = Pipeline.loads(sys.stdin.read())
documents = [Document(content=text) for text in {TEXTS!r}]
answer = made.get_component("ranker").run({QUERY!r}, documents)
print([(document.content, document.score) for document in answer["documents"]])
made.close()
"""
    allowed = {name: value for name, value in os.environ.items() if "ALLOWLIST" not in name}
    done = subprocess.run(
        [sys.executable, "-c", code], input=text, capture_output=True, text=True, env=allowed, timeout=120
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{ranking}\n"


def test_a_loaded_pipeline_is_the_one_that_was_saved(demo: Path) -> None:
    made = pipeline(demo)

    assert Pipeline.loads(made.dumps()).to_dict() == made.to_dict()


def test_copies_load_models_of_their_own(demo: Path, ranking: Any) -> None:
    documents = [Document(content=text) for text in TEXTS]
    made = Pipeline()
    made.add_component("ranker", ModernRankRanker(str(demo), 3, load_options={"precision": "fp32"}))
    made.warm_up()

    copied = copy.deepcopy(made)
    pickled = pickle.loads(pickle.dumps(made.get_component("ranker")))
    made.close()

    assert places(copied.run({"ranker": {"query": QUERY, "documents": documents}})) == ranking
    assert places({"ranker": pickled.run(QUERY, documents)}) == ranking
    copied.close()
    pickled.close()


def test_every_argument_is_saved() -> None:
    arguments = {
        "model": "artifacts/demo",
        "top_k": 4,
        "meta_fields_to_embed": ["title"],
        "embedding_separator": " ",
        "scale_score": False,
        "score_threshold": 0.25,
        "max_length": 128,
        "long_documents": "chunk",
        "load_options": {"precision": "int8", "threads": 1},
    }
    saved = ModernRankRanker(**arguments).to_dict()

    assert saved == {"type": CLASS, "init_parameters": arguments}
    assert ModernRankRanker.from_dict(saved).to_dict() == saved


def test_the_namespace_is_shared_with_other_distributions() -> None:
    import haystack_integrations.components.rankers as namespace

    assert JinaRanker.__module__.startswith(namespace.__name__)
    assert ModernRankRanker.__module__.startswith(namespace.__name__)
    assert namespace.__file__ is None


def test_another_name_for_the_module_is_refused() -> None:
    """Two classes of one name would be saved as two types."""
    spec = importlib.util.spec_from_file_location(
        "ranker_by_its_path", ROOT / "integrations" / "haystack" / "__init__.py"
    )
    assert spec is not None and spec.loader is not None
    with pytest.raises(ImportError, match="haystack_integrations"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
