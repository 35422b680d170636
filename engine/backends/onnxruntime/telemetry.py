"""ONNX Runtime's telemetry, which modernrank turns off."""

from __future__ import annotations

import os

VARIABLE = "ORT_DISABLE_TELEMETRY"


def disable_telemetry() -> None:
    """Turn telemetry off, unless the variable is set already; call it before ``import onnxruntime``.

    Some builds otherwise write an id of the device into the user's home and contact their maker's servers. Afterwards
    is too late: the import itself does both.
    """
    os.environ.setdefault(VARIABLE, "1")
