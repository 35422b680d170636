"""Published logits of ``Alibaba-NLP/gte-reranker-modernbert-base``: a check that requires no second runtime.

They apply to the real weights at this revision only. The tolerances follow from the float type of each source.
"""

from __future__ import annotations

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


_CARD_PAIRS = (
    ("what is the capital of China?", "Beijing"),
    ("how to implement quick sort in python?", "Introduction of quick sort"),
    ("how to implement quick sort in python?", "The weather is nice today"),
)

PUBLISHED = (
    Published(_CARD_PAIRS, (2.1387, 2.4609, -1.6729), 0.01, "the model card, torch float16"),
    Published(
        _CARD_PAIRS,
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


def published_for(source: Source) -> tuple[Published, ...]:
    """The published logits that an artifact of ``source`` must reproduce; empty for another model or revision."""
    return PUBLISHED if (source.model_id, source.revision) == (DEFAULT_MODEL, DEFAULT_REVISION) else ()
