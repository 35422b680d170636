"""How an export, a build or a verification reports its steps to the caller, and how it counts things."""

from __future__ import annotations

from collections.abc import Callable

# Takes one line for each step.
Report = Callable[[str], None]


def silent(message: str) -> None:
    """Report nothing."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun, in the plural where the number is not 1.

    >>> counted(1, "pair"), counted(1200, "pair"), counted(2, "query", "queries")
    ('1 pair', '1,200 pairs', '2 queries')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
