"""modernrank: score (query, document) pairs with ModernBERT rerankers, fast, with the scores of ``transformers``."""

from ._version import __version__
from .errors import ArtifactError, InputError, ModernRankError, ProfileError, ProviderError, TruncationWarning
from .reranker import RankedDocument, Reranker
from .session import SessionInfo
from .stages import Stages
from .truncation import Truncation

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
