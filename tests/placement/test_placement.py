"""What ONNX Runtime's real CUDA provider makes of the ``ort-cuda`` graphs, on stub CUDA libraries and without a GPU.

The provider decides where nodes run, which kernels it launches, what it copies and allocates, and whether it takes CUDA
graphs. The stubs count that. Kernels compute nothing: no number that they would compute is asserted.

The stub of cuDNN refuses every request. On a GPU with cuDNN, attention in float16 may therefore run in another kernel
than here: on an H200 it is cuDNN's ``cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16``.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

import pytest

from modernrank.backends.onnxruntime.loading import MINIMUM_VERSION
from placement.versions import FLOOR, VERSIONS, Measured, Run
from support.full_size import LAYERS

pytestmark = pytest.mark.placement

MEGABYTE = 10**6
# Arithmetic on shapes is the only work of the processor. Its results are no data of the GPU, which would cost a copy.
SHAPE_ARITHMETIC = {"short": {"Squeeze": 1}, "long": {"Concat": 1, "Div": 1, "Squeeze": 1}}
# Copies of one run: the token ids, positions and segments in one piece, which is numpy's and so pageable, and the
# logits. The first run of a shape also copies its slots.
COPIES = {"copies_to_device": 0, "copies_to_device_pageable": 1, "copies_to_host": 1, "copies_on_device": 0}
COPIES_OF_THE_FIRST_RUN = COPIES | {"copies_to_device_pageable": 2}
# The graph, and so the session, of each shape. With a memory limit there is one session, which has the long graph.
GRAPH_OF = {"1x64": "short", "64x512": "short", "1x576": "long", "4x8192": "long"}

# Of one run of each shape: kernels that ONNX Runtime launches, and calls of cuBLAS. Both versions give the same.
# In float32 a small attention is products and a softmax (see ATTENTION), which need more of both.
WORK: dict[tuple[str, str], dict[str, tuple[int, int]]] = {
    ("tiny", "fp16"): {"1x64": (63, 45), "64x512": (63, 45), "1x576": (76, 45), "4x8192": (76, 45)},
    ("tiny", "fp32"): {"1x64": (85, 57), "64x512": (61, 45), "1x576": (90, 53), "4x8192": (90, 53)},
    ("full-size", "fp16"): {"1x64": (174, 157), "64x512": (174, 157), "1x576": (207, 157), "4x8192": (207, 157)},
    ("full-size", "fp32"): {"1x64": (260, 201), "64x512": (172, 157), "1x576": (261, 185), "4x8192": (261, 185)},
}
# Device memory in megabytes that ONNX Runtime allocates: weights, which each of the two sessions holds, and the maximum
# in the runs of each shape, weights included. CUDA's own context and the workspaces of cuBLAS come on top.
MEMORY: dict[tuple[str, str], dict[str, float]] = {
    ("tiny", "fp16"): {"weights": 2.42, "64x512": 112.5, "4x8192": 840},
    ("tiny", "fp32"): {"weights": 4.79, "64x512": 201, "4x8192": 1622},
    ("full-size", "fp16"): {"weights": 618, "64x512": 1407, "4x8192": 2235},
    ("full-size", "fp32"): {"weights": 1230, "64x512": 2364, "4x8192": 6694},
}
# The same with a memory limit.
MEMORY_WITH_LIMIT: dict[tuple[str, str], dict[str, float]] = {
    ("tiny", "fp16"): {"weights": 1.21, "64x512": 88.2, "4x8192": 838},
    ("tiny", "fp32"): {"weights": 2.40, "64x512": 637, "4x8192": 1620},
    ("full-size", "fp16"): {"weights": 309, "64x512": 1222, "4x8192": 1926},
    ("full-size", "fp32"): {"weights": 615, "64x512": 3714, "4x8192": 6079},
}
MEMORY_TOLERANCE = 0.02
# ONNX Runtime's Python package keeps a memory arena for the process, from which the buffers of the inputs come.
KEPT_BY_THE_PROCESS = 3 * 2**20
# Kernels of global and sliding layers by shape. In float32 ONNX Runtime takes the fused kernel from 256 tokens on; a
# block of a sliding layer has 64 queries and 192 keys.
FUSED, PRODUCTS = "EFFICIENT_ATTENTION", "MATH"
ATTENTION = {
    "fp16": dict.fromkeys(("1x64", "64x512", "1x576", "4x8192", "64x512 limited"), (FUSED, FUSED)),
    "fp32": {
        "1x64": (PRODUCTS, PRODUCTS),
        "64x512": (FUSED, FUSED),
        "1x576": (FUSED, PRODUCTS),
        "4x8192": (FUSED, PRODUCTS),
        "64x512 limited": (FUSED, PRODUCTS),
    },
}
# Kernels by their mangled names: the fused norm with its parameters, and the rotation. From ONNX Runtime 1.30 on the
# norm takes "float epsilon, int, int" and adds up in float32 (microsoft/onnxruntime pull request 28682). The type of
# its values, which it took for epsilon before, is a template's and so written as T_ or S<number>_.
NORM = re.compile(r"_ZN11onnxruntime7contrib4cuda24SkipLayerNormKernelSmallI(6__half|f)L\w+EEEv(?:P?K?[ST]\d?_)+fii")
ROTATION = re.compile(r"_ZN11onnxruntime4cuda19RotaryEmbeddingBSNHI(6__half|f)E\w+")
CPP_TYPES = {"fp16": "6__half", "fp32": "f"}
LAYERS_OF, GLOBAL_EVERY = {"tiny": 6, "full-size": LAYERS}, 3
# Additions to the stream, two in a layer, that no norm follows at once: in float16 a cast stands before the last norm.
UNFUSED_NORMS = {"fp16": 1, "fp32": 0}

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


@pytest.mark.parametrize("graph", SHAPE_ARITHMETIC)
def test_only_shape_arithmetic_runs_on_the_processor(facts: dict[str, Any], graph: str) -> None:
    nodes = facts["nodes"][graph]
    assert nodes.keys() == {"CPUExecutionProvider", "CUDAExecutionProvider"}
    assert nodes["CPUExecutionProvider"] == SHAPE_ARITHMETIC[graph]


@pytest.mark.parametrize("graph", SHAPE_ARITHMETIC)
def test_nothing_is_copied_between_nodes(facts: dict[str, Any], graph: str) -> None:
    operators = {operator for placed in facts["nodes"][graph].values() for operator in placed}
    assert not [operator for operator in operators if operator.startswith("Memcpy")]


@pytest.mark.parametrize("shape", ["1x64", "1x576"])
def test_a_shape_is_captured_once_and_then_replayed_for_every_thread(
    case: Case, cuda_graphs: dict[str, Any], shape: str
) -> None:
    assert cuda_graphs["provider"] == "CUDAExecutionProvider"
    launches, products = WORK[case[1], case[2]][shape]
    first, *others = (run["counts"] for run in cuda_graphs["runs"][shape])
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


@pytest.mark.usefixtures("cuda_graphs")
@pytest.mark.parametrize("order", ["many", "at_once"])
def test_many_captures_are_not_disturbed(facts: dict[str, Any], order: str) -> None:
    """Not by the capturing session, which must allocate nothing then, nor by one that runs at the same time."""
    counts = facts[order]["counts"]
    assert facts[order]["messages"] == []
    assert (counts["captures"], counts["outside_capture"], counts["forbidden"]) == (16, 0, 0)


def test_a_capture_holds_no_copies_and_nothing_escapes_it(facts: dict[str, Any], cuda_graphs: dict[str, Any]) -> None:
    for run in [*itertools.chain(*cuda_graphs["runs"].values()), *facts["several_cuda_graphs"]]:
        counts = run["counts"]
        assert not any(counts[f"captured_{name}"] for name in COPIES)
        assert (counts["forbidden"], counts["outside_capture"]) == (0, 0)


def test_nothing_is_forbidden_or_without_a_stub(facts: dict[str, Any], cuda_graphs: dict[str, Any]) -> None:
    steps = [cuda_graphs["load"], *itertools.chain(*cuda_graphs["runs"].values()), *facts["several_cuda_graphs"]]
    for measured in [*facts["shapes"].values(), *facts["with_limit"].values()]:
        steps += [measured["load"], *measured["runs"]]
    assert [message for step in steps for message in step["messages"]] == []


def test_launches_and_copies_of_a_run(case: Case, facts: dict[str, Any]) -> None:
    for shape, measured in facts["shapes"].items():
        check_runs(measured, shape, WORK[case[1], case[2]][shape])


def test_with_a_memory_limit_short_rows_run_as_long_ones(case: Case, facts: dict[str, Any]) -> None:
    for shape, measured in facts["with_limit"].items():
        check_runs(measured, shape, WORK[case[1], case[2]]["4x8192"])


def check_runs(measured: dict[str, Any], shape: str, work: tuple[int, int]) -> None:
    """Every run launches and multiplies ``work``, and copies what the tables say."""
    assert measured["planned"] == [[int(size) for size in shape.split("x")]]
    for number, run in enumerate(measured["runs"]):
        counts = run["counts"]
        assert (counts["launches"], counts["products"]) == work, shape
        assert {name: counts[name] for name in COPIES} == (COPIES if number else COPIES_OF_THE_FIRST_RUN)


def test_memory_of_a_run(case: Case, facts: dict[str, Any]) -> None:
    for part, expected in (("shapes", MEMORY), ("with_limit", MEMORY_WITH_LIMIT)):
        for shape, measured in facts[part].items():
            before, pinned = measured["bytes_before"], expected[case[1], case[2]]
            maximum = max(run["counts"]["peak_bytes"] for run in measured["runs"]) - before
            assert weights(measured) / MEGABYTE == pytest.approx(pinned["weights"], rel=MEMORY_TOLERANCE), part
            assert maximum / MEGABYTE == pytest.approx(pinned[shape], rel=MEMORY_TOLERANCE), (part, shape)
            assert measured["runs"][-1]["counts"]["allocations"] == 0, (part, shape)
            assert measured["bytes_after"] <= KEPT_BY_THE_PROCESS, (part, shape)


def test_two_sessions_hold_the_weights_twice_and_a_memory_limit_keeps_one(facts: dict[str, Any]) -> None:
    for shape, measured in facts["shapes"].items():
        once = weights(facts["with_limit"][shape])
        assert weights(measured) == pytest.approx(2 * once, rel=MEMORY_TOLERANCE), shape


def weights(measured: dict[str, Any]) -> int:
    """Bytes of device memory after a model was loaded."""
    loaded: int = measured["load"]["counts"]["bytes"] - measured["bytes_before"]
    return loaded


def test_fused_norms_add_up_in_float32(case: Case, facts: dict[str, Any]) -> None:
    _, model, precision = case
    for graph, kernels in kernels_of_runs(facts):
        norms = {name: launches for name, launches in kernels.items() if "SkipLayerNorm" in name}
        assert {type_of_values(NORM, name) for name in norms} == {CPP_TYPES[precision]}
        assert sum(norms.values()) == 2 * LAYERS_OF[model] - UNFUSED_NORMS[precision]
        assert sum(norms.values()) == facts["nodes"][graph]["CUDAExecutionProvider"]["SkipLayerNormalization"]


def test_queries_and_keys_of_each_layer_are_rotated_by_one_kernel_each(case: Case, facts: dict[str, Any]) -> None:
    _, model, precision = case
    for _, kernels in kernels_of_runs(facts):
        rotations = {name: launches for name, launches in kernels.items() if "Rotary" in name}
        assert {type_of_values(ROTATION, name) for name in rotations} == {CPP_TYPES[precision]}
        assert sum(rotations.values()) == 2 * LAYERS_OF[model]


def type_of_values(kernel: re.Pattern[str], name: str) -> str | None:
    """The C++ type of the values that a kernel reads, if ``name`` is one of its names."""
    match = kernel.fullmatch(name)
    return match[1] if match else None


def kernels_of_runs(facts: dict[str, Any]) -> list[tuple[str, dict[str, int]]]:
    """For each run: its graph, and how often it launched each kernel."""
    runs = [(GRAPH_OF[shape], run) for shape, measured in facts["shapes"].items() for run in measured["runs"]]
    runs += [("long", run) for measured in facts["with_limit"].values() for run in measured["runs"]]
    return [(graph, run["kernels"]) for graph, run in runs]


def test_a_batch_beyond_the_memory_limit_is_an_error_and_no_end(facts: dict[str, Any]) -> None:
    assert facts["beyond_the_limit"] == {"error": {"rows": 64, "tokens": 512}, "small": [1, 1]}


def test_attention_runs_in_the_kernels_of_the_table(case: Case, measured: Callable[..., Measured]) -> None:
    _, model, precision = case
    attention = measured(*case).attention
    for shape, (in_global, in_sliding) in ATTENTION[precision].items():
        assert attention[shape] == {
            f"/layers.{layer}/attn/MultiHeadAttention": {in_sliding if layer % GLOBAL_EVERY else in_global}
            for layer in range(LAYERS_OF[model])
        }, shape


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
