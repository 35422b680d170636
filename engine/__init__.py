"""modernrank: score (query, document) pairs with ModernBERT rerankers, fast, with the scores of ``transformers``."""

from ._version import __version__
from .backends.base import SessionInfo
from .errors import ArtifactError, InputError, ModernRankError, ProfileError, ProviderError, TruncationWarning
from .reranker import RankedDocument, Reranker
from .text.truncation import Truncation
from .timing import Stages

__all__ = [
    "ArtifactError",
    "InputError",
    "ModernRankError",
    "ProfileError",
    "ProviderError",
    "RankedDocument",
    "Reranker",
    "SessionInfo",
    "Stages",
    "Truncation",
    "TruncationWarning",
    "__version__",
]
