"""The rate of this machine's matrix products, which bounds that of the linear layers."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from modernrank.backends.onnxruntime.telemetry import disable_telemetry
from modernrank.benchmarks.defaults import PEAK_SECONDS
from modernrank.host import available_threads

ROUNDS = 10
# The product of the linear layers at 512 tokens: [512, 768] x [768, 1152].
SHAPE = (512, 768, 1152)
GPU_SIZE = 8192

ProductKind = Literal["int8", "fp32"]


def cpu_peaks(seconds: float = PEAK_SECONDS) -> dict[str, float]:
    """``cpu_peak`` of each kind, each measured for ``seconds``; it is ``environment["peak"]`` of a result."""
    kinds: tuple[ProductKind, ...] = ("int8", "fp32")
    return {kind: round(cpu_peak(kind, seconds), 1) for kind in kinds}


def cpu_peak(kind: ProductKind, seconds: float = PEAK_SECONDS) -> float:
    """The rate of matrix products in ONNX Runtime, one product on each thread.

    Args:
        kind: ``"fp32"``, or ``"int8"`` for uint8 x int8 to int32.
        seconds: duration of the measurement.

    Returns:
        Billions of operations per second, where an addition is one; the best of ROUNDS, because noise only slows.
    """
    rows, depth, columns = SHAPE
    session, feed = _product(kind)
    threads = available_threads()
    rate = 0.0
    with ThreadPoolExecutor(threads) as pool:

        def work(until: float) -> int:
            products = 0
            while time.perf_counter() < until:
                session.run(None, feed)
                products += 1
            return products

        for _ in range(ROUNDS):
            start = time.perf_counter()
            products = sum(pool.map(work, [start + seconds / ROUNDS] * threads))
            rate = max(rate, products * 2 * rows * depth * columns / (time.perf_counter() - start) / 1e9)
    return rate


def _product(kind: ProductKind) -> tuple[Any, dict[str, Any]]:
    """A session of one thread with one matrix product, and its input."""
    import numpy as np
    import onnx

    disable_telemetry()
    import onnxruntime as ort

    rows, depth, columns = SHAPE
    random = np.random.default_rng(0)
    if kind == "int8":
        weight = random.integers(-127, 128, (depth, columns)).astype(np.int8)
        x = random.integers(0, 256, (rows, depth)).astype(np.uint8)
        node, types = "MatMulInteger", (onnx.TensorProto.UINT8, onnx.TensorProto.INT32)
    else:
        weight = random.standard_normal((depth, columns)).astype(np.float32)
        x = random.standard_normal((rows, depth)).astype(np.float32)
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
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]), {"x": x}


def gpu_peak(device: str, seconds: float = 2 * PEAK_SECONDS) -> dict[str, float]:
    """The rate of a GPU's float16 products in torch, as ``cpu_peaks`` gives it: the best of rounds of ten products.

    Args:
        device: torch's name, such as ``"cuda"``.
        seconds: duration of the measurement.
    """
    import torch

    a, b = (torch.randn(GPU_SIZE, GPU_SIZE, device=device, dtype=torch.float16) for _ in range(2))
    rate, until = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(10):
            a @ b
        torch.cuda.synchronize()
        rate = max(rate, 10 * 2 * GPU_SIZE**3 / (time.perf_counter() - start) / 1e9)
    return {"fp16": round(rate, 1)}
