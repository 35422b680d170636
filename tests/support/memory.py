"""How much memory a process holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def resident_after_rounds(artifact: Path, words: tuple[int, ...], rounds: int) -> list[int]:
    """Resident bytes of a process of its own after each round of scoring pairs of so many ``words``."""
    code = f"""
from pathlib import Path
from modernrank import Reranker
with Reranker.load({str(artifact)!r}) as reranker:
    for _ in range({rounds}):
        for words in {words}:
            reranker.score([("query", "x " * words)], on_truncate=lambda cut: None)
        print(int(Path("/proc/self/statm").read_text().split()[1]) * 4096)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [int(line) for line in done.stdout.split()]
