"""Which kernel of ONNX Runtime multiplies int8 exactly on this processor.

On a processor without a dot-product instruction (AVX2, AVX-512 without VNNI), the fastest product of uint8 activations
and int8 weights adds pairs of products in 16 bits and saturates, which gives wrong scores without any error. The
weights that ``export`` writes cannot saturate it (``export/precision/int8/weights.py``). Those of earlier versions can:
on such processors they run the uint8 x uint8 kernel, which is slower and exact.
"""

from __future__ import annotations

import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
DOT_PRODUCT = {"avx512_vnni", "avx_vnni", "amx_int8"}
FAST = "u8s8"
EXACT_EVERYWHERE = "u8u8"


def int8_kernel(saturates: bool, cpuinfo: Path = CPUINFO, machine: str | None = None) -> str:
    """``"u8s8"`` where it is exact, else ``"u8u8"``, also where that is unknown.

    Args:
        saturates: whether the weights can saturate (``OnnxGraph.saturates``).
        cpuinfo: where Linux names the processor's features.
        machine: its architecture; by default this machine's.

    >>> int8_kernel(saturates=False)
    'u8s8'
    """
    if not saturates or (machine or platform.machine()).lower() not in ("x86_64", "amd64"):
        return FAST  # ARM's kernels add in 32 bits
    if not cpuinfo.is_file():
        return EXACT_EVERYWHERE
    flags = next((line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), "")
    return FAST if DOT_PRODUCT & set(flags.split()) else EXACT_EVERYWHERE
