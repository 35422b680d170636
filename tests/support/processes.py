"""Python code in a process of its own."""

from __future__ import annotations

import subprocess
import sys


def run_python(
    code: str, *arguments: object, timeout: float = 60, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``code`` with ``arguments`` in ``sys.argv[1:]``; more than ``timeout`` seconds are an error."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, env=env)
