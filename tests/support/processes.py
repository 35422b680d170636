"""Python code in a process of its own."""

from __future__ import annotations

import subprocess
import sys


def run_python(code: str, *arguments: object, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run ``code`` with ``arguments`` in ``sys.argv[1:]``; more than ``timeout`` seconds are an error."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=timeout, check=False
    )
