"""The int8 kernels of the processor that runs these tests: `make avx2-check` and `make arm-check` emulate others."""

import numpy as np
import onnx
import onnxruntime
import pytest

from modernrank.backends.onnxruntime.loading import use_int8_kernel
from modernrank.export.precision.int8.weights import quantise_weight

# Sizes that are no multiples of any kernel's steps, and one of a real layer.
SHAPES = [(1, 1, 1), (3, 7, 5), (17, 130, 33), (96, 768, 96)]


def product(x: np.ndarray, weight: np.ndarray, kernel: str = "u8s8") -> np.ndarray:
    """uint8 ``[tokens, inputs]`` by int8 ``[inputs, outputs]`` in ONNX Runtime, int32."""
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMulInteger", ["x", "weight"], ["y"])],
        "product",
        [info("x", onnx.TensorProto.UINT8, x.shape)],
        [info("y", onnx.TensorProto.INT32, [len(x), weight.shape[1]])],
        [onnx.numpy_helper.from_array(weight, "weight")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    use_int8_kernel(options, kernel)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def exact(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return x.astype(np.int32) @ weight.astype(np.int32)


def activations(weight: np.ndarray, tokens: int, rng: np.random.Generator) -> np.ndarray:
    """Random ones, and those that sum each output highest and lowest."""
    worst = np.where(weight.T > 0, 255, 0)
    return np.concatenate([rng.integers(0, 256, (tokens, len(weight))), worst, 255 - worst]).astype(np.uint8)


@pytest.mark.parametrize(("tokens", "inputs", "outputs"), SHAPES)
def test_both_kernels_are_exact_on_weights_that_cannot_saturate(tokens: int, inputs: int, outputs: int) -> None:
    rng = np.random.default_rng(0)
    integers = quantise_weight(rng.standard_t(3, size=(outputs, inputs)).astype(np.float32)).integers
    weight = np.ascontiguousarray(integers.T)
    x = activations(weight, tokens, rng)
    assert (product(x, weight) == exact(x, weight)).all()
    assert (product(x, weight, "u8u8") == exact(x, weight)).all()


@pytest.mark.avx2
def test_this_processor_saturates_on_other_weights() -> None:
    """Otherwise the test above shows nothing here."""
    rng = np.random.default_rng(0)
    weight = rng.integers(-127, 128, (768, 96)).astype(np.int8)
    x = activations(weight, 96, rng)
    assert (product(x, weight) != exact(x, weight)).any()
    assert (product(x, weight, "u8u8") == exact(x, weight)).all()
