"""How an export, a build, a verification or a measurement reports its steps: by calls with a line of text."""

from __future__ import annotations

from collections.abc import Callable

# Takes one line for each step.
Report = Callable[[str], None]


def silent(message: str) -> None:
    """Report nothing."""
