"""Which compute capabilities each runtime supports, before anything is loaded. docs/gpu.md has the sources."""

from __future__ import annotations

# TensorRT-RTX 1.7: its enumeration ComputeCapability, and every one above 12.0. It has 7.5 too, but cannot build these
# graphs for it: their pooling and head are float32, and "FP32 GEMM is not supported" there.
RTX = ("8.0", "8.6", "8.9")
RTX_BLACKWELL = (12, 0)
TURING, VOLTA = (7, 5), (7, 0)
TENSORRT_WITHOUT_VOLTA = (10, 5)  # its first version
HARDWARE_COMPATIBLE = (8, 0)  # lowest, of TensorRT's level AMPERE_PLUS


def numbers(version: str) -> tuple[int, ...]:
    """The numbers of a version or a compute capability.

    >>> numbers("10.15.1.29")
    (10, 15, 1, 29)
    """
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def why_unsupported(provider: str, capability: str, version: str = "") -> str:
    """Why a provider runs on no GPU of a compute capability; "" if it may, or if the capability is not known.

    Args:
        provider: its name.
        capability: of the GPU, ``"9.0"``; "" if it is not known.
        version: of the provider's library, where it matters and is known.

    >>> why_unsupported("tensorrt", "9.0"), why_unsupported("tensorrt-rtx", "8.9")
    ('', '')
    """
    if not capability:
        return ""
    if provider == "tensorrt-rtx":
        if capability in RTX or numbers(capability) >= RTX_BLACKWELL:
            return ""
        others = "'tensorrt' or 'cuda'" if numbers(capability) >= TURING else "'cpu'"
        return (
            f"TensorRT-RTX runs these graphs on GPUs of compute capability {', '.join(RTX)} and 12.0 or higher, but "
            f"this GPU has {capability}; use provider {others}"
        )
    old = provider == "tensorrt" and () < numbers(version) < TENSORRT_WITHOUT_VOLTA
    lowest = VOLTA if old else TURING
    if numbers(capability) >= lowest:
        return ""
    runtime = "TensorRT" if provider == "tensorrt" else "ONNX Runtime for CUDA 13"
    return (
        f"{runtime} supports GPUs of compute capability {lowest[0]}.{lowest[1]} or higher, but this GPU has "
        f"{capability}; use provider 'cpu'"
    )
