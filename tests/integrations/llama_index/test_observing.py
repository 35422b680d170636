"""What observers of LlamaIndex see: events, spans and callbacks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload, LlamaDebugHandler
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events import BaseEvent
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.instrumentation.span import SimpleSpan
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from pydantic import Field

from modernrank import InputError, Reranker
from modernrank.integrations.llama_index import ModernRankRerank
from support.layout import ROOT

pytestmark = pytest.mark.integrations

QUERY = "play music in a terminal"
TEXTS = (ROOT / "demo" / "documents.txt").read_text(encoding="utf-8").splitlines()

Call = Callable[[ModernRankRerank, list[NodeWithScore]], list[NodeWithScore]]


def directly(ranker: ModernRankRerank, nodes: list[NodeWithScore]) -> list[NodeWithScore]:
    return ranker.postprocess_nodes(nodes, QueryBundle(QUERY))


def in_a_coroutine(ranker: ModernRankRerank, nodes: list[NodeWithScore]) -> list[NodeWithScore]:
    return asyncio.run(ranker.apostprocess_nodes(nodes, QueryBundle(QUERY)))


BOTH = pytest.mark.parametrize("call", [directly, in_a_coroutine])


class Events(BaseEventHandler):
    seen: list[BaseEvent] = Field(default_factory=list)

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        if isinstance(event, ReRankStartEvent | ReRankEndEvent):
            self.seen.append(event)


@pytest.fixture(scope="module")
def trained(demo: Path) -> Iterator[Reranker]:
    with Reranker.load(demo, precision="fp32") as loaded:
        yield loaded


@pytest.fixture
def observed() -> Iterator[tuple[list[BaseEvent], list[SimpleSpan]]]:
    """Events and completed spans of everything that runs."""
    dispatcher = get_dispatcher()
    events, spans = Events(), SimpleSpanHandler()
    before = dispatcher.event_handlers, dispatcher.span_handlers
    dispatcher.event_handlers, dispatcher.span_handlers = [events], [spans]
    yield events.seen, spans.completed_spans
    dispatcher.event_handlers, dispatcher.span_handlers = before


def nodes() -> list[NodeWithScore]:
    return [NodeWithScore(node=TextNode(text=text), score=0.5) for text in TEXTS]


@BOTH
def test_events_tell_what_came_in_and_what_came_out(call: Call, trained: Reranker, observed: Any) -> None:
    events, _ = observed
    given = nodes()

    chosen = call(ModernRankRerank(trained, 3), given)

    start, end = events
    assert (start.query.query_str, start.top_n, start.model_name) == (QUERY, 3, trained.manifest.name)
    assert [(node.node.node_id, node.score) for node in start.nodes] == [(n.node.node_id, 0.5) for n in given]
    assert end.nodes == chosen


@BOTH
def test_an_empty_ranking_has_both_events(call: Call, trained: Reranker, observed: Any) -> None:
    events, _ = observed

    assert call(ModernRankRerank(trained), []) == []

    start, end = events
    assert (start.nodes, end.nodes) == ([], [])


@BOTH
def test_each_call_is_one_span(call: Call, trained: Reranker, observed: Any) -> None:
    events, spans = observed

    call(ModernRankRerank(trained), nodes())

    assert [span.id_.partition("-")[0] for span in spans] == [
        "ModernRankRerank._apostprocess_nodes" if call is in_a_coroutine else "ModernRankRerank._postprocess_nodes"
    ]
    assert {event.span_id for event in events} == {spans[0].id_}


@BOTH
def test_callbacks_have_the_payload_of_a_reranking(call: Call, trained: Reranker) -> None:
    debug = LlamaDebugHandler(print_trace_on_end=False)

    chosen = call(ModernRankRerank(trained, callback_manager=CallbackManager([debug])), nodes())

    ((start, end),) = debug.get_event_pairs(CBEventType.RERANKING)
    assert start.payload[EventPayload.QUERY_STR] == QUERY
    assert start.payload[EventPayload.TOP_K] == 2
    assert start.payload[EventPayload.MODEL_NAME] == trained.manifest.name
    assert len(start.payload[EventPayload.NODES]) == len(TEXTS)
    assert end.payload[EventPayload.NODES] == chosen


@BOTH
def test_an_error_ends_the_callback_and_not_the_ranking(call: Call, trained: Reranker, observed: Any) -> None:
    events, _ = observed
    debug = LlamaDebugHandler(print_trace_on_end=False)
    ranker = ModernRankRerank(trained, callback_manager=CallbackManager([debug]))

    with pytest.raises(InputError):
        call(ranker, [NodeWithScore(node=TextNode(text="\ud800"))])

    assert [type(event) for event in events] == [ReRankStartEvent]
    assert len(debug.get_event_pairs(CBEventType.RERANKING)[0]) == 2
