"""modernrank: score (query, document) pairs with ModernBERT rerankers, fast, with the scores of ``transformers``."""

if __name__ != "modernrank":  # imported as `engine` from the root of a checkout, it would copy every class
    raise ImportError("import modernrank, not engine; install it first with `make setup` or `pip install -e .`")

import logging as _logging

from ._version import __version__
from .artifact.manifest import Manifest
from .async_reranker import AsyncReranker
from .backends.base import BackendInfo
from .batching.packing import Plan
from .calls.event_loop import CallReport
from .calls.requests import DocumentPart, RankedDocument
from .calls.single_texts import LabelScore
from .errors import (
    ArtifactError,
    BackendError,
    ClosedError,
    DeadlineError,
    InputError,
    ModernRankError,
    OverloadedError,
    ProfileError,
    ProviderError,
    TruncationWarning,
)
from .options import (
    ActivationChoice,
    CpuOptions,
    GpuOptions,
    LoadOptions,
    LongDocuments,
    PrecisionChoice,
    ProviderChoice,
    TextLimits,
    TruncationChoice,
)
from .queue.metrics import Metrics
from .reranker import Reranker
from .scorer import Scorer
from .text.checks import Pair
from .text.encoder import EncodedPair, PairEncoder
from .text.truncation import Truncation
from .timing import StageTimes

_logging.getLogger("modernrank").addHandler(_logging.NullHandler())  # silent until the application configures logging

__all__ = [
    "ActivationChoice",
    "ArtifactError",
    "AsyncReranker",
    "BackendError",
    "BackendInfo",
    "CallReport",
    "ClosedError",
    "CpuOptions",
    "DeadlineError",
    "DocumentPart",
    "EncodedPair",
    "GpuOptions",
    "InputError",
    "LabelScore",
    "LoadOptions",
    "LongDocuments",
    "Manifest",
    "Metrics",
    "ModernRankError",
    "OverloadedError",
    "Pair",
    "PairEncoder",
    "Plan",
    "PrecisionChoice",
    "ProfileError",
    "ProviderChoice",
    "ProviderError",
    "RankedDocument",
    "Reranker",
    "Scorer",
    "StageTimes",
    "TextLimits",
    "Truncation",
    "TruncationChoice",
    "TruncationWarning",
    "__version__",
]
