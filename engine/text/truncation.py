"""What is told of pairs that were cut to the longest that the model takes."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from modernrank.errors import TruncationWarning


@dataclass(frozen=True)
class Truncation:
    """A pair that was cut: its index in the input and the tokens that its query and its document lost."""

    index: int
    query_tokens_cut: int
    document_tokens_cut: int


class TruncationSummary:
    """Collects cut pairs, to tell of them in one warning."""

    def __init__(self, max_length: int) -> None:
        self._max_length = max_length
        self._pairs = self._tokens = 0
        self._first: Truncation | None = None

    def __call__(self, truncation: Truncation) -> None:
        """Note one cut pair."""
        self._first = self._first or truncation
        self._pairs += 1
        self._tokens += truncation.query_tokens_cut + truncation.document_tokens_cut

    def warn(self) -> None:
        """Tell of all that were noted; nothing where none was."""
        if self._first is not None:
            warnings.warn(
                f"{self._pairs} pairs were cut to max_length={self._max_length} and lost {self._tokens} tokens "
                f"(the first is pair {self._first.index}); pass on_truncate to learn of each",
                TruncationWarning,
                stacklevel=3,
            )
