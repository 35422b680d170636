"""Logits of real models that others published: a check that requires no second runtime.

They apply to the real weights at one revision only. The tolerances follow from the float type of each source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from modernrank.artifact.manifest import Source
from modernrank.export.checkpoint.hub import DEFAULT_MODEL, DEFAULT_REVISION


@dataclass(frozen=True)
class Published:
    """Published logits of some pairs.

    pairs:     (query, document) tuples.
    logits:    one for each pair.
    tolerance: maximum difference of ours from them.
    source:    who published them, and in which precision.
    """

    pairs: tuple[tuple[str, str], ...]
    logits: tuple[float, ...]
    tolerance: float
    source: str


_GTE_PAIRS = (
    ("what is the capital of China?", "Beijing"),
    ("how to implement quick sort in python?", "Introduction of quick sort"),
    ("how to implement quick sort in python?", "The weather is nice today"),
)
_GTE = (
    Published(_GTE_PAIRS, (2.1387, 2.4609, -1.6729), 0.01, "the model card, torch float16"),
    Published(
        _GTE_PAIRS,
        (2.138258218765259, 2.4609625339508057, -1.6775450706481934),
        0.001,
        "the model card, transformers.js on ONNX float32",
    ),
    Published(
        (("What is Deep Learning?", "Deep Learning is not..."),),
        (2.13616,),
        0.001,
        "text-embeddings-inference, candle float32: tests/snapshots/"
        "test_modernbert__modernbert_classification_single.snap at 0d124dc",
    ),
)

_FRANCE = "What is the capital of France?"
_APPLE = "Where was Apple founded?"
_FOUNDED = "Apple Inc. was founded in Cupertino, California in 1976 by Steve Jobs, Steve Wozniak, and Ronald Wayne."
_RED_PLANET = "Which planet is known as the Red Planet?"
_PLANETS = (
    (_RED_PLANET, "Venus is often called Earth's twin because of its similar size and proximity."),
    (_RED_PLANET, "Mars, known for its reddish appearance, is often referred to as the Red Planet."),
    (_RED_PLANET, "Jupiter, the largest planet in our solar system, has a prominent red spot."),
    (_RED_PLANET, "Saturn, famous for its rings, is sometimes mistaken for the Red Planet."),
)
_BLOG = "huggingface.co/blog/ettin-reranker"
_ETTIN_17M = (
    Published(
        (
            (_FRANCE, "Paris is the capital and most populous city of France."),
            (_FRANCE, "Berlin is the capital of Germany."),
            (_FRANCE, "Sourdough needs a starter, flour, water and salt."),
            ("int8 quantization", "Quantizing weights to int8 cuts memory roughly 4x versus float32."),
            ("日本語の検索", "これは日本語で書かれた文書です。検索の対象になります。"),
            ("", "an empty query still has to score"),
            ("a query with no matching document at all", ""),
        ),
        (
            10.976978302001953,
            3.5179531574249268,
            -2.258329391479492,
            10.131158828735352,
            9.919572830200195,
            3.868805408477783,
            5.79956579208374,
        ),
        0.001,
        "masacento/aikit, torch float32: testdata/ettin_reranker_golden.json at 8ebdbf20",
    ),
    Published(
        (("What is Deep Learning?", "Deep Learning is not..."),),
        (5.553596,),
        0.02,
        "text-embeddings-inference, candle float32 with another GELU: pull request 867",
    ),
)
_ETTIN_32M = (
    Published(
        (
            (_APPLE, _FOUNDED),
            (
                _APPLE,
                "The Fuji apple is an apple cultivar developed in the late 1930s and brought to market in 1962.",
            ),
        ),
        (11.393298, 2.968891),
        0.02,
        _BLOG,
    ),
    Published(_PLANETS, (6.21, 10.82, 8.55, 9.86), 0.02, _BLOG),
)
_ETTIN_68M = (
    Published(
        (
            (_APPLE, _FOUNDED),
            (_APPLE, "Steve Jobs introduced the iPhone in 2007 at Macworld."),
            (_APPLE, "The Fuji apple is an apple cultivar developed in the late 1930s."),
            (_APPLE, "Macintosh computers were sold by Apple from 1984 onward."),
        ),
        (11.63, 4.71, 1.96, 1.49),
        0.02,
        _BLOG,
    ),
)
_ETTIN_400M = (Published(_PLANETS, (3.6875, 11.6875, 4.75, 9.375), 0.1, "the model card, torch bfloat16"),)

# By hub id and revision.
PUBLISHED: Mapping[tuple[str, str], tuple[Published, ...]] = {
    (DEFAULT_MODEL, DEFAULT_REVISION): _GTE,
    ("cross-encoder/ettin-reranker-17m-v1", "9e4aa35321a6dd1a43ca313f500c4b4f7cfb5cc6"): _ETTIN_17M,
    ("cross-encoder/ettin-reranker-32m-v1", "b33e5ceb5110773ea9cf5e00c9bedc83a8c2afdd"): _ETTIN_32M,
    ("cross-encoder/ettin-reranker-68m-v1", "d166fa88ddde3c42bc3ee92f7df476d941c8204a"): _ETTIN_68M,
    ("cross-encoder/ettin-reranker-400m-v1", "5dca36282a5d85f368d2544002513a29159b4c9e"): _ETTIN_400M,
}


def published_for(source: Source) -> tuple[Published, ...]:
    """The published logits that an artifact of ``source`` must reproduce; empty for another model or revision."""
    return PUBLISHED.get((source.model_id or "", source.revision or ""), ())
