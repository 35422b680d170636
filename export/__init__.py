"""From a checkpoint to an artifact: ``export_checkpoint``, ``verify_artifact``, ``build_engine``.

``export_checkpoint`` requires ``modernrank[export]``, ``verify_artifact`` also ``modernrank[verify]``, and
``build_engine`` ``modernrank[tensorrt]`` or ``modernrank[tensorrt-rtx]``. Each is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checkpoint.hub import DEFAULT_MODEL
    from .export import export_checkpoint
    from .tensorrt.build import build_engine
    from .verification.verify import record_parity, verify_artifact

__all__ = ["DEFAULT_MODEL", "build_engine", "export_checkpoint", "record_parity", "verify_artifact"]

_HOMES = {
    "DEFAULT_MODEL": "checkpoint.hub",
    "build_engine": "tensorrt.build",
    "export_checkpoint": "export",
    "record_parity": "verification.verify",
    "verify_artifact": "verification.verify",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
