"""How much memory a process holds."""

from __future__ import annotations

from pathlib import Path

from .processes import run_python

CODE = """
import sys
from pathlib import Path
from modernrank import Reranker
folder, rounds, *lengths = sys.argv[1:]
with Reranker.load(folder) as reranker:
    for _ in range(int(rounds)):
        for words in lengths:
            reranker.score([("query", "x " * int(words))], on_truncate=lambda cut: None)
        print(int(Path("/proc/self/statm").read_text().split()[1]) * 4096)
"""

# The largest resident size of this process alone: `ru_maxrss` would begin with that of its parent.
PEAK = """
from pathlib import Path
status = Path("/proc/self/status").read_text()
print(int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024)
"""


def peak_bytes(code: str, *arguments: object, timeout: float = 600) -> int:
    """Largest resident size of a process of its own that runs ``code``, with pages of mapped files. Linux only."""
    done = run_python(code + PEAK, *arguments, timeout=timeout)
    if done.returncode:
        raise AssertionError(done.stderr)
    return int(done.stdout.split()[-1])


def resident_bytes() -> int:
    """Resident bytes of this process. Linux only."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def resident_after_rounds(artifact: Path, words: tuple[int, ...], rounds: int) -> list[int]:
    """Resident bytes of a process of its own after each round of scoring pairs of so many ``words``."""
    done = run_python(CODE, artifact, rounds, *words, timeout=600)
    done.check_returncode()
    return [int(line) for line in done.stdout.split()]
