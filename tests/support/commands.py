"""Run the command line: in a process of its own as a user does, or in this one, which is a second faster."""

from __future__ import annotations

import subprocess
import sys
from typing import Any


def run(*arguments: object, stdin: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
    """``modernrank ARGUMENTS`` in a process of its own."""
    command = [sys.executable, "-m", "modernrank", *map(str, arguments)]
    done: subprocess.CompletedProcess[str] = subprocess.run(
        command, input=stdin, capture_output=True, text=True, encoding="utf-8", **options
    )
    return done
