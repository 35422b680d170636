"""modernrank: score (query, document) pairs with ModernBERT rerankers, fast, with the scores of ``transformers``."""

from ._version import __version__
from .errors import ArtifactError, InputError, ModernRankError, ProviderError, TruncationWarning
from .reranker import RankedDocument, Reranker, Truncation
from .session import SessionInfo

__all__ = [
    "ArtifactError",
    "InputError",
    "ModernRankError",
    "ProviderError",
    "RankedDocument",
    "Reranker",
    "SessionInfo",
    "Truncation",
    "TruncationWarning",
    "__version__",
]
