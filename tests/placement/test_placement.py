"""What ONNX Runtime's real CUDA provider makes of the ``ort-cuda`` graphs, on stub CUDA libraries and without a GPU.

The provider decides where nodes run, which kernels it launches, what it copies and allocates, and whether it takes CUDA
graphs. The stubs count that. Kernels compute nothing: no number that they would compute is asserted.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from modernrank.backends.onnxruntime.loading import MINIMUM_VERSION
from placement.versions import FLOOR, VERSIONS, Measured, Run
from support.full_size import LAYERS

pytestmark = pytest.mark.placement

MEGABYTE = 10**6
# Arithmetic on shapes is the only work of the processor. Its results are no data of the GPU, which would cost a copy.
SHAPE_ARITHMETIC = {"Concat": 1, "Div": 1, "Squeeze": 1}
# Copies of one run: four inputs, which are numpy's and so pageable, and the logits.
COPIES = {"copies_to_device": 0, "copies_to_device_pageable": 4, "copies_to_host": 1, "copies_on_device": 0}
SMALL = "1x64"

# Of one run: kernels that ONNX Runtime launches, and calls of cuBLAS. Both versions give the same.
# In float32 a small attention is products and a softmax (see ATTENTION), which need more of both.
WORK: dict[tuple[str, str], dict[str, tuple[int, int]]] = {
    ("tiny", "fp16"): {SMALL: (87, 45), "64x512": (87, 45), "4x8192": (87, 45)},
    ("tiny", "fp32"): {SMALL: (110, 57), "64x512": (102, 53), "4x8192": (102, 53)},
    ("full-size", "fp16"): {SMALL: (250, 157), "64x512": (250, 157), "4x8192": (250, 157)},
    ("full-size", "fp32"): {SMALL: (337, 201), "64x512": (305, 185), "4x8192": (305, 185)},
}
# Device memory in megabytes that ONNX Runtime allocates: weights, and the maximum in a run of each shape, weights
# included. CUDA's own context and the workspaces of cuBLAS come on top.
MEMORY: dict[tuple[str, str], dict[str, float]] = {
    ("tiny", "fp16"): {"weights": 0.43, "64x512": 81, "4x8192": 839},
    ("tiny", "fp32"): {"weights": 0.83, "64x512": 391, "4x8192": 1389},
    ("full-size", "fp16"): {"weights": 303, "64x512": 1164, "4x8192": 1669},
    ("full-size", "fp32"): {"weights": 603, "64x512": 3599, "4x8192": 4658},
}
MEMORY_TOLERANCE = 0.02
# ONNX Runtime's Python package keeps a memory arena for the process, from which the buffers of the inputs come.
KEPT_BY_THE_PROCESS = 2**20
# Kernels of a layer over all shapes that ran. In float32 ONNX Runtime takes the fused kernel from 256 tokens on; a
# block of a sliding layer has 64 queries and 192 keys.
FUSED, PRODUCTS = "EFFICIENT_ATTENTION", "MATH"
ATTENTION = {
    ("fp16", "global"): {FUSED},
    ("fp16", "sliding"): {FUSED},
    ("fp32", "global"): {FUSED, PRODUCTS},
    ("fp32", "sliding"): {PRODUCTS},
}
TINY_LAYERS, GLOBAL_EVERY = 6, 3

Case = tuple[str, str, str]
CASES = list(itertools.product(VERSIONS, ("tiny", "full-size"), ("fp16", "fp32")))


@pytest.fixture(params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest) -> Case:
    """Version of ONNX Runtime, model and precision."""
    chosen: Case = request.param
    return chosen


@pytest.fixture
def facts(case: Case, measured: Callable[..., Measured]) -> dict[str, Any]:
    return measured(*case).facts


@pytest.fixture
def cuda_graphs(facts: dict[str, Any]) -> dict[str, Any]:
    """What happened with CUDA graphs, if they were accepted."""
    assert "refused" not in facts["cuda_graphs"], facts["cuda_graphs"]["refused"]
    accepted: dict[str, Any] = facts["cuda_graphs"]
    return accepted


def test_the_floor_is_the_minimum_version() -> None:
    assert tuple(map(int, FLOOR.split(".")[:2])) == MINIMUM_VERSION


def test_the_version_is_the_one_that_was_asked_for(case: Case, facts: dict[str, Any]) -> None:
    assert facts["onnxruntime"] == case[0]


def test_only_shape_arithmetic_runs_on_the_processor(facts: dict[str, Any]) -> None:
    assert facts["nodes"].keys() == {"CPUExecutionProvider", "CUDAExecutionProvider"}
    assert facts["nodes"]["CPUExecutionProvider"] == SHAPE_ARITHMETIC


def test_nothing_is_copied_between_nodes(facts: dict[str, Any]) -> None:
    operators = {operator for placed in facts["nodes"].values() for operator in placed}
    assert not [operator for operator in operators if operator.startswith("Memcpy")]


def test_a_shape_is_captured_once_and_then_replayed_for_every_thread(case: Case, cuda_graphs: dict[str, Any]) -> None:
    assert cuda_graphs["provider"] == "CUDAExecutionProvider"
    launches, products = WORK[case[1], case[2]][SMALL]
    first, *others = (run["counts"] for run in cuda_graphs["runs"])
    assert (first["captures"], first["captured_launches"], first["captured_products"]) == (1, launches, products)
    for counts in others:
        assert (counts["captures"], counts["replays"]) == (0, 1)
        assert (counts["replayed_launches"], counts["replayed_products"]) == (launches, products)
        assert (counts["launches"], counts["products"], counts["allocations"]) == (0, 0, 0)
        assert {name: counts[name] for name in COPIES} == COPIES


def test_several_shapes_are_captured_and_replayed_in_turn(facts: dict[str, Any], cuda_graphs: dict[str, Any]) -> None:
    runs = [run["counts"] for run in facts["several_cuda_graphs"]]
    assert [(counts["captures"], counts["replays"]) for counts in runs] == [(1, 1)] * 3 + [(0, 1)] * 3
    assert [counts["replayed_launches"] for counts in runs[3:]] == [counts["captured_launches"] for counts in runs[:3]]
    assert not any(counts["launches"] for counts in runs[3:])


def test_a_capture_holds_no_copies_and_nothing_escapes_it(facts: dict[str, Any], cuda_graphs: dict[str, Any]) -> None:
    for run in cuda_graphs["runs"] + facts["several_cuda_graphs"]:
        counts = run["counts"]
        assert not any(counts[f"captured_{name}"] for name in COPIES)
        assert (counts["forbidden"], counts["outside_capture"]) == (0, 0)


def test_nothing_is_forbidden_or_without_a_stub(facts: dict[str, Any], cuda_graphs: dict[str, Any]) -> None:
    parts = [cuda_graphs, *facts["shapes"].values()]
    steps = [step for part in parts for step in (part["load"], *part["runs"])] + facts["several_cuda_graphs"]
    assert [message for step in steps for message in step["messages"]] == []


def test_launches_and_copies_of_a_run(case: Case, facts: dict[str, Any]) -> None:
    for shape, measured in facts["shapes"].items():
        assert measured["planned"] == [[int(size) for size in shape.split("x")]]
        for run in measured["runs"]:
            counts = run["counts"]
            assert (counts["launches"], counts["products"]) == WORK[case[1], case[2]][shape], shape
            assert {name: counts[name] for name in COPIES} == COPIES


def test_memory_of_a_run(case: Case, facts: dict[str, Any]) -> None:
    expected = MEMORY[case[1], case[2]]
    for shape, measured in facts["shapes"].items():
        first, second = (run["counts"] for run in measured["runs"])
        weights = measured["load"]["counts"]["bytes"] - measured["bytes_before"]
        maximum = first["peak_bytes"] - measured["bytes_before"]
        assert weights / MEGABYTE == pytest.approx(expected["weights"], rel=MEMORY_TOLERANCE)
        assert maximum / MEGABYTE == pytest.approx(expected[shape], rel=MEMORY_TOLERANCE), shape
        assert second["allocations"] == 0
        assert measured["bytes_after"] <= KEPT_BY_THE_PROCESS, shape


def test_a_batch_beyond_the_memory_limit_is_an_error_and_no_end(facts: dict[str, Any]) -> None:
    assert facts["limited"] == {"error": {"rows": 64, "tokens": 512}, "small": [1, 1]}


def test_attention_runs_in_the_kernels_of_the_table(case: Case, measured: Callable[..., Measured]) -> None:
    _, model, precision = case
    attention = measured(*case).attention
    layers = LAYERS if model == "full-size" else TINY_LAYERS
    expected = {
        f"/layers.{layer}/attn/MultiHeadAttention": ATTENTION[
            precision, "sliding" if layer % GLOBAL_EVERY else "global"
        ]
        for layer in range(layers)
    }
    assert attention == expected


VALUE_OF_THE_PROCESSOR_AS_DATA = """
import numpy as np, onnx, onnxruntime as ort
from onnx import TensorProto, helper

nodes = [
    helper.make_node("Shape", ["x"], ["shape"]),
    helper.make_node("Sub", ["shape", "one"], ["last"]),
    helper.make_node("Min", ["x", "last"], ["y"]),
]
one = helper.make_tensor("one", TensorProto.INT64, [1], [1])
x, y = (helper.make_tensor_value_info(name, TensorProto.INT64, ["n"]) for name in "xy")
graph = helper.make_graph(nodes, "graph", [x], [y], [one])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
try:
    ort.InferenceSession(
        model.SerializeToString(), providers=[("CUDAExecutionProvider", {"enable_cuda_graph": 1})]
    )
except ort.capi.onnxruntime_pybind11_state.Fail as error:
    print("refused", error)
"""


@pytest.mark.parametrize("version", VERSIONS)
def test_a_value_of_the_processor_that_is_data_is_refused_for_cuda_graphs(version: str, run_on_stubs: Run) -> None:
    """That the graphs of modernrank are accepted says something only if such a graph is not."""
    done = run_on_stubs(version, "-c", VALUE_OF_THE_PROCESSOR_AS_DATA)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("refused")
