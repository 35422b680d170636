"""The virtual environments of the peers: one command makes them, each is made once."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from modernrank.errors import ModernRankError

from .peer_process import GPU_PEERS, PEERS

# Of all environments, so that peers differ in their runtimes alone. Give `--torch` for another build, say a CPU
# wheel's address: plain torch from PyPI brings gigabytes of CUDA on Linux.
TORCH = "torch==2.13.0"


class PeerError(ModernRankError):
    """A peer cannot be installed, loaded or run; the table shows it with this text."""


@dataclass(frozen=True)
class Environment:
    """What pip installs, and what it must take away again because it does not fit the CPU build of torch."""

    packages: tuple[str, ...]
    remove: tuple[str, ...] = ()


ENVIRONMENTS = {
    "torch": Environment(("transformers>=5", "sentence-transformers", "onnx", "onnxscript", "onnxruntime")),
    "optimum": Environment(
        ("optimum-onnx==0.1.0", "optimum==2.1.*", "transformers<4.58", "sentence-transformers", "onnxruntime", "onnx")
    ),
    "openvino": Environment(
        ("openvino", "nncf", "optimum-intel", "sentence-transformers", "onnx", "onnxscript"), remove=("torchvision",)
    ),
}


def environment_of(peer: str) -> str:
    """The name of the environment that a peer runs in."""
    known = {**PEERS, **GPU_PEERS}
    if peer not in known:
        raise PeerError(f"there is no peer {peer!r}; choose from: {'; '.join(known)}")
    if "OpenVINO" in peer:
        return "openvino"
    return "optimum" if peer.startswith("sentence-transformers ONNX") else "torch"


def ensure(root: Path, name: str, torch: str, report: Callable[[str], None]) -> Path:
    """The python of environment ``name`` under ``root``; made if it is not there as it is described here.

    Raises:
        PeerError: pip could not install it; what pip said last.
    """
    environment = ENVIRONMENTS[name]
    described = json.dumps({**asdict(environment), "torch": torch})
    folder = root / f"{name}-{hashlib.sha256(described.encode()).hexdigest()[:8]}"
    python = folder / "bin" / "python"
    if (folder / "ready").is_file():
        return python
    report(f"making the environment {folder}")
    root.mkdir(parents=True, exist_ok=True)
    (root / "constraints.txt").write_text(f"{torch}\n" if "==" in torch else "")
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    steps = [
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [*pip, "install", *torch.split()],
        [*pip, "install", "--constraint", str(root / "constraints.txt"), *environment.packages],
        *([[*pip, "uninstall", "--yes", *environment.remove]] if environment.remove else []),
    ]
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True)
        if done.returncode:
            raise PeerError(f"the environment {name} cannot be made: {last_line(done.stderr)}")
    (folder / "ready").touch()
    return python


def last_line(text: str) -> str:
    """The last line that says something: where pip, and Python's tracebacks, put what went wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
