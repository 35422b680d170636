"""The GPU of this machine: its name, driver and libraries, and how fast it multiplies and copies."""

from __future__ import annotations

import subprocess
import time
from importlib import metadata
from typing import Any

from modernrank.benchmarks.measure.machine_peak import gpu_peak

QUERIED = ("name", "driver_version", "memory.total", "clocks.max.sm", "power.limit", "compute_cap")
# Beginnings of the names of packages that a figure may depend on.
PACKAGES = ("cuda-", "cuda_", "nvidia-", "onnxruntime", "tensorrt", "torch", "triton", "pycuda")
COPY_BYTES = 2**30
COPIES = 20


def describe_gpu(device: str) -> dict[str, Any]:
    """What a figure of a GPU depends on.

    Args:
        device: torch's name, such as ``"cuda"``.

    Returns:
        ``gpu``: name, compute capability, driver, memory, versions and the rate of copies in GB/s, bytes read and bytes
        written counted. ``peak``: the rate of matrix products, as ``machine_peak.gpu_peak`` gives it.
    """
    import torch

    properties = torch.cuda.get_device_properties(device)
    gpu = {
        "name": properties.name,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory": properties.total_memory,
        "cuda_of_torch": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "nvidia_smi": _nvidia_smi(),
        "versions": {
            entry.metadata["Name"]: entry.version
            for entry in metadata.distributions()
            if (entry.metadata["Name"] or "").lower().startswith(PACKAGES)
        },
        "copy_gb_per_second": round(copy_rate(device), 1),
    }
    return {"gpu": gpu, "peak": gpu_peak(device)}


def copy_rate(device: str) -> float:
    """The rate of copies in the GPU's memory, GB/s, bytes read and bytes written counted; the best of COPIES."""
    import torch

    source = torch.empty(COPY_BYTES, dtype=torch.uint8, device=device).random_()
    target = torch.empty_like(source)
    fastest = float("inf")
    for _ in range(COPIES):
        torch.cuda.synchronize()
        start = time.perf_counter()
        target.copy_(source)
        torch.cuda.synchronize()
        fastest = min(fastest, time.perf_counter() - start)
    return 2 * COPY_BYTES / fastest / 1e9


def _nvidia_smi() -> dict[str, str]:
    """What nvidia-smi reports of the first GPU; empty where it is not installed."""
    command = ["nvidia-smi", f"--query-gpu={','.join(QUERIED)}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        return {}
    first = done.stdout.splitlines()[:1]
    return dict(zip(QUERIED, map(str.strip, first[0].split(",")), strict=False)) if first else {}
