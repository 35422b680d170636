"""The padded graph in OpenVINO, with the shapes that its inputs have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest

pytestmark = pytest.mark.runtimes


@pytest.fixture(scope="module")
def compiled(artifact: Path) -> Any:
    core = openvino.Core()
    model = core.read_model(artifact / "model.fp32.onnx")
    assert {entry.any_name for entry in model.inputs} == {"input_ids", "attention_mask"}
    assert all(entry.partial_shape.is_dynamic for entry in model.inputs)
    # bfloat16 is its default on processors that have it.
    return core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


@pytest.mark.parametrize("side", ["left", "right"])
def test_it_gives_the_logits_of_transformers(compiled: Any, golden: Any, side: str) -> None:
    assert golden.agree(compiled(golden.inputs(side))["logits"])


def test_shapes_may_change_from_run_to_run(compiled: Any, golden: Any) -> None:
    logits = [
        compiled({"input_ids": [ids], "attention_mask": np.ones((1, len(ids)), np.int64)})["logits"]
        for ids in golden.input_ids
    ]
    assert golden.agree(logits)


def test_a_row_of_padding_gives_zero(compiled: Any, golden: Any) -> None:
    inputs = {name: np.insert(values, 1, 0, axis=0) for name, values in golden.inputs("right").items()}
    logits = compiled(inputs)["logits"]
    assert logits[1] == 0
    assert golden.agree(np.delete(logits, 1, axis=0))
