"""The virtual environments of the peers. Each is made when a peer first requires it, and then kept."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from modernrank.errors import ModernRankError
from modernrank.export.report import Report

from .peer_process import GPU_PEERS, PEERS, Peer


class PeerError(ModernRankError):
    """A peer is unknown, or cannot be installed, loaded or run. The table shows the message."""


@dataclass(frozen=True)
class Environment:
    """What pip installs, and what it then removes because it does not fit the CPU build of torch."""

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


def find_peer(name: str) -> Peer:
    """The peer called ``name``.

    Raises:
        PeerError: there is none; the message lists the names.
    """
    known = {**PEERS, **GPU_PEERS}
    if name not in known:
        raise PeerError(f"there is no peer {name!r}; choose from: {'; '.join(known)}", peer=name, choices=list(known))
    return known[name]


def ensure(root: Path, name: str, torch: str, report: Report) -> Path:
    """The Python interpreter of an environment, which is made unless it exists as ENVIRONMENTS describes it.

    Args:
        root: the folder of all environments.
        name: a key of ENVIRONMENTS.
        torch: pip's arguments that install torch, such as ``"torch==2.13.0"``.
        report: called with each step that takes long.

    Raises:
        PeerError: pip could not install it; the message ends with pip's last line.
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
    """The last line that is not blank, which names the error in the output of pip and in Python's tracebacks."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it printed nothing"
