"""LlamaIndex's node postprocessors."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import cohere
import httpx
import pytest
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index.postprocessor.cohere_rerank import CohereRerank
from llama_index.postprocessor.jinaai_rerank import JinaRerank
from llama_index.postprocessor.nvidia_rerank import NVIDIARerank
from llama_index.postprocessor.tei_rerank import TextEmbeddingInference
from llama_index.postprocessor.xinference_rerank import XinferenceRerank

from support.client_server import Server, check_places, numbered
from support.products import DOCUMENTS, QUERY, Places

pytestmark = pytest.mark.clients


def of_tei(server: Server, top: int, key: str = "any") -> TextEmbeddingInference:
    return TextEmbeddingInference(base_url=server.url, top_n=top, auth_token=f"Bearer {key}")


def of_cohere(server: Server, top: int, key: str = "any") -> CohereRerank:
    return CohereRerank(base_url=server.url, top_n=top, api_key=key, model="m", max_retries=1)


def of_jina(server: Server, top: int, key: str = "any") -> JinaRerank:
    return JinaRerank(base_url=f"{server.url}/v1", top_n=top, api_key=key, model="m")


def of_xinference(server: Server, top: int) -> XinferenceRerank:
    return XinferenceRerank(base_url=server.url, top_n=top, model="m")


def of_nvidia(server: Server, top: int, key: str = "any") -> NVIDIARerank:
    return NVIDIARerank(base_url=f"{server.url}/v1", top_n=top, api_key=key, model="tiny")


def nodes() -> list[NodeWithScore]:
    return [NodeWithScore(node=TextNode(text=text), score=0.5) for text in DOCUMENTS]


def places(ranked: Sequence[NodeWithScore]) -> Places:
    return numbered([(node.node.get_content(), node.score or 0.0) for node in ranked])


@pytest.mark.parametrize("make", [of_tei, of_cohere, of_jina, of_xinference, of_nvidia])
@pytest.mark.parametrize("top", [2, 100])
def test_a_postprocessor_has_the_ranking(make: Any, top: int, server: Server, ranking: Places, logits: Places) -> None:
    expected = logits if make is of_nvidia else ranking
    reranker: BaseNodePostprocessor = make(server, top)
    query = QueryBundle(QUERY)

    check_places(places(reranker.postprocess_nodes(nodes(), query)), expected[:top])
    check_places(places(asyncio.run(reranker.apostprocess_nodes(nodes(), query))), expected[:top])


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (of_tei, AssertionError),  # it looks at nothing but the number of results
        (of_cohere, cohere.UnauthorizedError),
        (of_jina, RuntimeError),
        (of_nvidia, httpx.HTTPStatusError),
    ],
)
def test_a_wrong_key_is_refused(make: Any, error: type[Exception], guarded: Server) -> None:
    with pytest.raises(error):
        make(guarded, 2, "wrong").postprocess_nodes(nodes(), QueryBundle(QUERY))


def test_the_token_of_tei_may_stand_alone(guarded: Server, ranking: Places) -> None:
    reranker = TextEmbeddingInference(base_url=guarded.url, auth_token=guarded.key)

    check_places(places(reranker.postprocess_nodes(nodes(), QueryBundle(QUERY))), ranking)
