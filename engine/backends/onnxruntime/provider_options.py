"""ONNX Runtime's execution providers for NVIDIA GPUs: their options, and batches in shapes that they take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modernrank.artifact.manifest import Profile
from modernrank.backends.profiles import SLOTS, fit, rounded
from modernrank.batching.packing import INPUTS_PER_TOKEN, Batch

# Where ONNX Runtime's TensorRT provider keeps its engines and timings, beside the graph.
CACHE = "ort-tensorrt"


def cuda_options(device: int, graphs: bool = False, memory_limit: int | None = None) -> dict[str, Any]:
    """Memory as it is asked for, not doubled each time; products in the precision of the graph, not in TF32.

    >>> cuda_options(1, memory_limit=2 * 10**9)["gpu_mem_limit"]
    2000000000
    """
    options = {"device_id": device, "arena_extend_strategy": "kSameAsRequested", "use_tf32": 0}
    if graphs:
        options["enable_cuda_graph"] = 1
    if memory_limit is not None:
        options["gpu_mem_limit"] = memory_limit
    return options


def tensorrt_options(device: int, file: Path, profiles: Sequence[Profile]) -> dict[str, Any]:
    """Profiles as explicit shapes, so that no batch has the engine built again; the engine stays beside the graph.

    An input is listed once for each profile.

    >>> from modernrank.backends.profiles import default_profiles
    >>> tensorrt_options(0, Path("a/model.onnx"), default_profiles(512))["trt_profile_max_shapes"]
    'input_ids:64x512,position_ids:64x512,segment_ids:64x512,slots:32'
    """
    shapes = {}
    for i, which in enumerate(("min", "opt", "max")):
        each = [
            shape
            for profile in profiles
            for shape in (*(f"{n}:{profile.rows[i]}x{profile.tokens[i]}" for n in INPUTS_PER_TOKEN), f"slots:{SLOTS}")
        ]
        shapes[f"trt_profile_{which}_shapes"] = ",".join(each)
    cache = str(file.parent / CACHE)
    return {
        "device_id": device,
        **shapes,
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": cache,
        "trt_timing_cache_enable": True,
        "trt_timing_cache_path": cache,
    }


def shaped(batch: Batch, profiles: Sequence[Profile]) -> Batch:
    """The batch with padding up to a shape that a profile takes, and all slots that an engine has.

    Raises:
        ProfileError: no profile takes it.
    """
    rows, tokens = batch.input_ids.shape
    more_rows, more_tokens = rounded(profiles[fit(profiles, rows, tokens)], rows, tokens)
    added = ((0, more_rows - rows), (0, more_tokens - tokens))
    ids = {name: np.pad(getattr(batch, name), added) for name in INPUTS_PER_TOKEN}
    return Batch(**ids, slots=SLOTS)
