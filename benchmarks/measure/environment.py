"""All that a figure depends on besides the code: machine, versions, memory, and what the processor can do at most."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from modernrank import __version__
from modernrank.backends.onnxruntime.int8_kernel import int8_kernel
from modernrank.backends.onnxruntime.loading import use_int8_kernel
from modernrank.host import available_threads

CPUINFO = Path("/proc/cpuinfo")
STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")
PACKAGES = ("onnxruntime", "onnxruntime-gpu", "openvino", "tokenizers", "numpy", "torch", "transformers")
FLAGS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")


def describe(seed: int) -> dict[str, Any]:
    """Machine, versions, commit and command of this process."""
    there = {entry.metadata["Name"]: entry.version for entry in metadata.distributions()}
    return {
        "command": " ".join(["modernrank", *sys.argv[1:]]),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "seed": seed,
        "machine": {
            "processor": processor(),
            "flags": [flag for flag in FLAGS if flag in _cpuinfo("flags").split()],
            "threads": available_threads(),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "versions": {
            "modernrank": __version__,
            "python": platform.python_version(),
            **{name: there[name] for name in PACKAGES if name in there},
        },
    }


def processor() -> str:
    """The processor's name, family and model, as the system gives them: a cloud's names alone do not tell."""
    name = _cpuinfo("model name")
    if not name:
        return platform.processor()
    return f"{name} (family {_cpuinfo('cpu family')}, model {_cpuinfo('model')})"


def _cpuinfo(field: str) -> str:
    if CPUINFO.is_file():
        for line in CPUINFO.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == field:
                return value.strip()
    return ""


def _commit() -> str | None:
    """Of the checkout that this file lies in, with ``+`` where it was changed; None for an installed wheel."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+", "--abbrev=10"]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None


def reset_peak_memory() -> bool:
    """Start counting the peak anew, where the system can: Linux, if it lets us."""
    try:
        CLEAR_REFS.write_text("5")
    except OSError:
        return False
    return True


def peak_memory() -> int:
    """Most bytes resident since the process began, or since ``reset_peak_memory``."""
    if STATUS.is_file():
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


# The product of the linear layers at 512 tokens: [512, 768] x [768, 1152].
PEAK_SHAPE = (512, 768, 1152)


def matrix_product_peak(kind: str, seconds: float = 1.0) -> float:
    """Billions of operations a second of this machine's matrix products in ONNX Runtime, a product on each thread.

    Args:
        kind: ``"fp32"``, or ``"int8"`` for uint8 x int8 to int32, by the kernel that int8 artifacts run here.
        seconds: how long to measure; the best of rounds of a tenth of it counts, as noise only slows.
    """
    from concurrent.futures import ThreadPoolExecutor

    rows, depth, columns = PEAK_SHAPE
    session, feed = _product(kind)
    threads = available_threads()
    rate = 0.0
    with ThreadPoolExecutor(threads) as pool:

        def work(until: float) -> int:
            done = 0
            while time.perf_counter() < until:
                session.run(None, feed)
                done += 1
            return done

        for _ in range(10):
            start = time.perf_counter()
            done = sum(pool.map(work, [start + seconds / 10] * threads))
            rate = max(rate, done * 2 * rows * depth * columns / (time.perf_counter() - start) / 1e9)
    return rate


def _product(kind: str) -> tuple[Any, dict[str, Any]]:
    """A session of one thread with one matrix product, and its input."""
    import numpy as np
    import onnx
    import onnxruntime as ort

    rows, depth, columns = PEAK_SHAPE
    chance = np.random.default_rng(0)
    if kind == "int8":
        weight = chance.integers(-127, 128, (depth, columns)).astype(np.int8)
        x = chance.integers(0, 256, (rows, depth)).astype(np.uint8)
        node, types = "MatMulInteger", (onnx.TensorProto.UINT8, onnx.TensorProto.INT32)
    else:
        weight = chance.standard_normal((depth, columns)).astype(np.float32)
        x = chance.standard_normal((rows, depth)).astype(np.float32)
        node, types = "MatMul", (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(node, ["x", "weight"], ["y"])],
        "peak",
        [onnx.helper.make_tensor_value_info("x", types[0], [rows, depth])],
        [onnx.helper.make_tensor_value_info("y", types[1], [rows, columns])],
        [onnx.numpy_helper.from_array(weight, "weight")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    if kind == "int8":
        use_int8_kernel(options, int8_kernel())
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]), {"x": x}


def gpu_peak(device: str, size: int = 8192, seconds: float = 2.0) -> dict[str, float]:
    """Billions of operations a second of a GPU's float16 products in torch: the best of rounds of ten."""
    import torch

    a, b = (torch.randn(size, size, device=device, dtype=torch.float16) for _ in range(2))
    rate, until = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(10):
            a @ b
        torch.cuda.synchronize()
        rate = max(rate, 10 * 2 * size**3 / (time.perf_counter() - start) / 1e9)
    return {"fp16": round(rate, 1)}
