"""Which int8 kernel is exact on this processor.

On a processor without a dot-product instruction, the fastest product of uint8 activations and int8 weights sums pairs
of products in 16 bits and saturates, which gives wrong scores without any error. Such processors (AVX2, AVX-512 without
VNNI) run ONNX Runtime's uint8 x uint8 kernel instead: slower, and exact.
"""

from __future__ import annotations

import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
DOT_PRODUCT = {"avx512_vnni", "avx_vnni", "amx_int8"}
FAST = "u8s8"
EXACT_EVERYWHERE = "u8u8"


def int8_kernel(cpuinfo: Path = CPUINFO, machine: str | None = None) -> str:
    """``"u8s8"`` where the processor multiplies it exactly, else ``"u8u8"``, also where that is unknown.

    >>> int8_kernel() in ("u8s8", "u8u8")
    True
    """
    if (machine or platform.machine()).lower() not in ("x86_64", "amd64"):
        return FAST  # ARM's kernels sum in 32 bits
    if not cpuinfo.is_file():
        return EXACT_EVERYWHERE
    flags = next((line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), "")
    return FAST if DOT_PRODUCT & set(flags.split()) else EXACT_EVERYWHERE
