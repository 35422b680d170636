"""How long measurements report their progress: they call a function with a line of text."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[str], None]


def ignore(message: str) -> None:
    """Report nothing."""
