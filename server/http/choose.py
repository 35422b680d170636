"""Which wire a body speaks, where several share a path."""

from __future__ import annotations

from typing import Any

from ..wires import cohere, jina, nim, tei, vllm_score, voyage, weaviate
from ..wires.base import Wire

RERANK = (jina.JINA, tei.RERANK, voyage.VOYAGE, weaviate.WEAVIATE)
INVOCATIONS = (tei.RERANK, tei.PREDICT, jina.JINA, voyage.VOYAGE, weaviate.WEAVIATE, vllm_score.SCORE, nim.NIM)
COHERE = (cohere.COHERE, tei.RERANK, voyage.VOYAGE)


def of_rerank(body: Any) -> Wire:
    """A body of ``/rerank`` and ``/v1/rerank``."""
    names = body if isinstance(body, dict) else {}
    if "texts" in names:
        return tei.RERANK
    if ("top_k" in names or "truncation" in names) and "top_n" not in names:
        return voyage.VOYAGE
    if "property" in names and "model" not in names:
        return weaviate.WEAVIATE
    return jina.JINA


def of_second_rerank(body: Any) -> Wire:
    """A body of ``/v2/rerank``."""
    chosen = of_rerank(body)
    return chosen if chosen in COHERE else cohere.COHERE


def of_invocation(body: Any) -> Wire:
    """A body of ``/invocations``, which SageMaker has for everything."""
    names = body if isinstance(body, dict) else {}
    if "inputs" in names:
        return tei.PREDICT
    if "passages" in names:
        return nim.NIM
    if any(name in names for name in ("text_1", "text_2", "queries", "data_1")):
        return vllm_score.SCORE
    return of_rerank(body) if "documents" in names else tei.RERANK
