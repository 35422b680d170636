"""Options of ONNX Runtime's execution providers for NVIDIA GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modernrank.artifact.manifest import Profile
from modernrank.backends.profiles import SLOTS
from modernrank.batching.batch import INPUTS_PER_TOKEN


def cuda_options(
    device: int, cuda_graphs: bool = False, memory_limit: int | None = None, allow_tf32: bool = False
) -> dict[str, Any]:
    """Options that allocate what is requested, without doubling it, and multiply in the graph's precision.

    Args:
        device: number of the GPU.
        cuda_graphs: whether runs may be captured.
        memory_limit: maximum number of bytes.
        allow_tf32: whether float32 products may round their factors to 10 bits.

    >>> cuda_options(1, memory_limit=2 * 10**9)["gpu_mem_limit"]
    2000000000
    """
    options: dict[str, Any] = {"arena_extend_strategy": "kSameAsRequested", "use_tf32": int(allow_tf32)}
    if device:  # ONNX Runtime prints a warning at each load if the option is there, and 0 is its default
        options["device_id"] = device
    if cuda_graphs:
        options["enable_cuda_graph"] = 1
    if memory_limit is not None:
        options["gpu_mem_limit"] = memory_limit
    return options


def tensorrt_options(device: int, cache: Path, profiles: Sequence[Profile]) -> dict[str, Any]:
    """Profiles as explicit shapes, so that no batch makes TensorRT build the engine again; engines stay in ``cache``.

    An input is listed once for each profile.

    >>> from modernrank.backends.profiles import default_profiles
    >>> tensorrt_options(0, Path("cache"), default_profiles(512))["trt_profile_max_shapes"]
    'input_ids:64x512,position_ids:64x512,segment_ids:64x512,slots:32'
    """
    shapes = {}
    for i, bound in enumerate(("min", "opt", "max")):
        listed = [
            shape
            for profile in profiles
            for shape in (*(f"{n}:{profile.rows[i]}x{profile.tokens[i]}" for n in INPUTS_PER_TOKEN), f"slots:{SLOTS}")
        ]
        shapes[f"trt_profile_{bound}_shapes"] = ",".join(listed)
    return {
        "device_id": device,
        **shapes,
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(cache),
        "trt_timing_cache_enable": True,
        "trt_timing_cache_path": str(cache),
    }
