"""OpenInference's instrumentation of LlamaIndex: a span of the kind RERANKER, with what came in and what came out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from openinference.instrumentation.llama_index import LlamaIndexInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from modernrank import Reranker
from modernrank.integrations.llama_index import ModernRankRerank
from support.layout import ROOT

pytestmark = pytest.mark.integrations

QUERY = "play music in a terminal"
TEXTS = (ROOT / "demo" / "documents.txt").read_text(encoding="utf-8").splitlines()


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor = LlamaIndexInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    yield exporter
    instrumentor.uninstrument()


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_ranking_is_a_span_of_a_reranker(asynchronous: bool, demo: Path, spans: InMemorySpanExporter) -> None:
    nodes = [NodeWithScore(node=TextNode(text=text), score=0.5) for text in TEXTS]
    with Reranker.load(demo, precision="fp32") as reranker:
        ranker = ModernRankRerank(reranker, 2)
        if asynchronous:
            chosen = asyncio.run(ranker.apostprocess_nodes(nodes, QueryBundle(QUERY)))
        else:
            chosen = ranker.postprocess_nodes(nodes, QueryBundle(QUERY))
        name = reranker.manifest.name

    (span,) = spans.get_finished_spans()
    seen: Any = span.attributes
    assert seen["openinference.span.kind"] == "RERANKER"
    assert (seen["reranker.query"], seen["reranker.top_k"], seen["reranker.model_name"]) == (QUERY, 2, name)
    for number, node in enumerate(chosen):
        place = f"reranker.output_documents.{number}.document"
        assert (seen[f"{place}.content"], seen[f"{place}.score"]) == (node.node.get_content(), node.score)
    assert f"reranker.input_documents.{len(TEXTS) - 1}.document.content" in seen
    assert json.dumps(dict(seen))
