"""What a command is: a name, its options, and the function that runs it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """One command of ``modernrank``.

    name:        a verb, as the user types it.
    help:        one sentence.
    add_options: adds its options to a parser.
    run:         runs it with the parsed options; returns the exit code.
    extra:       the extra of the package that installs its requirements, such as ``"cpu,export"``.
    """

    name: str
    help: str
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    extra: str = "cpu"


def note(message: str) -> None:
    """Report progress on standard error, so that standard output holds results alone."""
    if sys.stderr is not None:  # closed, as under some service managers
        print(message, file=sys.stderr)


def fail(message: str) -> int:
    """Print an error as one line on standard error; returns the exit code 1."""
    note(f"modernrank: {' '.join(message.split())}")
    return 1
