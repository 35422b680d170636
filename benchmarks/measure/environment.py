"""What a figure depends on besides the code: machine, versions and memory."""

from __future__ import annotations

import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from modernrank import __version__
from modernrank.host import available_threads

CPUINFO = Path("/proc/cpuinfo")
CLEAR_REFS = Path("/proc/self/clear_refs")
PACKAGES = ("onnxruntime", "onnxruntime-gpu", "openvino", "tokenizers", "numpy", "torch", "transformers")
FLAGS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")


def describe(seed: int) -> dict[str, Any]:
    """Machine, versions, commit and command of this process; ``seed`` is recorded with them."""
    installed = {entry.metadata["Name"]: entry.version for entry in metadata.distributions()}
    return {
        "command": " ".join(["modernrank", *sys.argv[1:]]),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "seed": seed,
        "machine": {
            "processor": processor(),
            "flags": [flag for flag in FLAGS if flag in _cpuinfo("flags").split()],
            "threads": available_threads(),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "versions": {
            "modernrank": __version__,
            "python": platform.python_version(),
            **{name: installed[name] for name in PACKAGES if name in installed},
        },
    }


def processor() -> str:
    """The processor's name with its family and model, because the name that a cloud reports does not identify it."""
    name = _cpuinfo("model name")
    if not name:
        return platform.processor()
    return f"{name} (family {_cpuinfo('cpu family')}, model {_cpuinfo('model')})"


def _cpuinfo(field: str) -> str:
    if CPUINFO.is_file():
        for line in CPUINFO.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == field:
                return value.strip()
    return ""


def _commit() -> str | None:
    """The commit of the checkout around this file, with ``+`` if it has changes; None in an installed wheel."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+", "--abbrev=10"]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None


def reset_peak_memory() -> bool:
    """Restart the count of ``peer_process.peak_memory``; False if the system does not allow it (only Linux does)."""
    try:
        CLEAR_REFS.write_text("5")
    except OSError:
        return False
    return True
