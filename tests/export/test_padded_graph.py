"""The padded graph: what other runtimes load, and the scores of packed graphs, wherever the padding is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from modernrank import Reranker
from modernrank.artifact.folder import Artifact
from modernrank.artifact.manifest import Manifest
from modernrank.backends.onnxruntime.cpu import CpuSettings, OnnxRuntimeCpuBackend
from modernrank.backends.registry import PROVIDERS
from modernrank.batching.batch import PlannedBatch, assemble
from support.checkpoints import NAMES, golden

LABELS = {"tiny": 1, "tiny-cls": 3}
PAD = 7  # any token: the mask hides it
SIDES = ("right", "left", "both")


def path_of(artifacts: Path, name: str) -> Path:
    return artifacts / f"{name}-padded" / "model.fp32.onnx"


def session(artifacts: Path, name: str = "tiny") -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path_of(artifacts, name), options, providers=["CPUExecutionProvider"])


def padded(rows: Sequence[Sequence[int]], side: str = "right", extra: int = 0) -> dict[str, np.ndarray]:
    """The inputs of rows of token ids, with padding on one side or on both, ``extra`` tokens wider than the longest."""
    width = max(map(len, rows)) + extra
    ids, mask = np.full((len(rows), width), PAD), np.zeros((len(rows), width), np.int64)
    for row, tokens in enumerate(rows):
        first = {"right": 0, "left": width - len(tokens), "both": (width - len(tokens)) // 2}[side]
        ids[row, first : first + len(tokens)] = tokens
        mask[row, first : first + len(tokens)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def random_rows(*lengths: int) -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [rng.integers(10, 500, length).tolist() for length in lengths]


@pytest.fixture(scope="module")
def tiny(artifacts: Path) -> Any:
    return session(artifacts)


@pytest.mark.parametrize("name", NAMES)
def test_old_and_other_runtimes_can_load_it(artifacts: Path, name: str) -> None:
    onnx.checker.check_model(path_of(artifacts, name), full_check=True)
    model = onnx.load(path_of(artifacts, name), load_external_data=False)
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": 17}
    assert model.ir_version == 8
    kinds = {node.op_type for node in model.graph.node}
    assert not kinds & {"If", "Loop", "Scan", "Attention", "RotaryEmbedding", "Gelu"}
    assert not any(a.type == onnx.AttributeProto.GRAPH for node in model.graph.node for a in node.attribute)
    assert {node.domain for node in model.graph.node} == {""}


@pytest.mark.parametrize("name", NAMES)
def test_inputs_and_output_are_those_of_other_exporters(artifacts: Path, name: str) -> None:
    loaded = session(artifacts, name)
    inputs = {entry.name: (entry.type, entry.shape) for entry in loaded.get_inputs()}
    assert inputs == dict.fromkeys(("input_ids", "attention_mask"), ("tensor(int64)", ["batch", "tokens"]))
    (logits,) = loaded.get_outputs()
    assert (logits.name, logits.type, logits.shape) == ("logits", "tensor(float)", ["batch", LABELS[name]])


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", NAMES)
def test_it_gives_the_golden_logits_wherever_the_padding_is(artifacts: Path, name: str, side: str) -> None:
    data = golden(name)
    (logits,) = session(artifacts, name).run(None, padded(data["input_ids"], side, extra=9))
    assert logits == pytest.approx(np.array(data["logits"]), abs=1e-4)


@pytest.mark.parametrize("longest", [3, 63, 64, 65, 66, 127, 128, 129, 130, 191, 192, 193, 255, 257, 400])
def test_it_agrees_with_the_packed_graph_at_every_boundary(artifacts: Path, tiny: Any, longest: int) -> None:
    rows = random_rows(longest, 1, longest // 2 + 1, longest, 2, max(1, longest - 1))
    artifact = Artifact.open(artifacts / "tiny-standard")
    backend = OnnxRuntimeCpuBackend(
        artifact.folder, artifact.manifest.graphs[0], 1, CpuSettings(threads=1), PROVIDERS["cpu"]
    )
    ids = [np.array(row) for row in rows]
    planned = PlannedBatch(tuple((row,) for row in range(len(rows))), longest)
    expected = backend.run(assemble(planned, ids, pad_token_id=0))[:, 0]
    for side in SIDES:
        (logits,) = tiny.run(None, padded(rows, side, extra=1))
        assert logits == pytest.approx(expected, abs=1e-4)


def test_rows_of_padding_give_zeros_and_disturb_nothing(tiny: Any) -> None:
    inputs = padded(random_rows(70, 5, 200))
    (expected,) = tiny.run(None, inputs)
    empty = {name: np.insert(values, (0, 1, 3), 0, axis=0) for name, values in inputs.items()}
    (logits,) = tiny.run(None, empty)
    assert logits[[1, 3, 4]] == pytest.approx(expected, abs=1e-5)
    assert (logits[[0, 2, 5]] == 0).all()


@pytest.mark.parametrize(("batch", "tokens"), [(1, 1), (1, 70), (3, 5)])
def test_a_batch_of_padding_alone_gives_zeros(tiny: Any, batch: int, tokens: int) -> None:
    nothing = np.zeros((batch, tokens), np.int64)
    (logits,) = tiny.run(None, {"input_ids": nothing + PAD, "attention_mask": nothing})
    assert np.array_equal(logits, np.zeros((batch, 1)))


def test_a_batch_of_no_rows_gives_no_logits(tiny: Any) -> None:
    nothing = np.zeros((0, 5), np.int64)
    assert tiny.run(None, {"input_ids": nothing, "attention_mask": nothing})[0].shape == (0, 1)


def test_a_longer_row_than_the_model_accepts_is_an_error(tiny: Any) -> None:
    """As long as it is not padding that makes it longer."""
    inputs = padded(random_rows(8193))
    with pytest.raises(Exception, match="8192"):
        tiny.run(None, inputs)
    inputs["attention_mask"][0, 20:] = 0
    assert np.isfinite(tiny.run(None, inputs)[0]).all()


def test_linear_layers_compute_no_padding(artifacts: Path, tmp_path: Path) -> None:
    model = onnx.load(path_of(artifacts, "tiny"))
    product = onnx.helper.make_tensor_value_info("/layers.0/mlp/up/MatMul", onnx.TensorProto.FLOAT, None)
    model.graph.output.append(product)
    onnx.save(model, tmp_path / "model.onnx")
    loaded = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for extra in (0, 5000):
        _, up = loaded.run(None, padded(random_rows(9, 3, 12), extra=extra))
        assert up.shape[:2] == (1, 9 + 3 + 12)


def test_what_shares_a_batch_changes_a_score_by_rounding_only(tiny: Any) -> None:
    rows = random_rows(3, 50, 64, 130, 131, 260)
    alone = np.concatenate([tiny.run(None, padded([row]))[0] for row in rows])
    (together,) = tiny.run(None, padded(rows))
    (reversed_,) = tiny.run(None, padded(rows[::-1], extra=100))
    assert together == pytest.approx(alone, abs=1e-5)
    assert reversed_[::-1] == pytest.approx(alone, abs=1e-5)


def test_padding_between_tokens_leaves_their_distances(tiny: Any) -> None:
    """As in ``transformers``, a token's position is its column."""
    (row,) = random_rows(40)
    (near,) = tiny.run(None, padded([row]))
    inputs = padded([row + [PAD] * 60])
    inputs["attention_mask"][0, 20:80] = 0
    inputs["input_ids"][0, 80:] = row[20:]
    (far,) = tiny.run(None, inputs)
    assert np.isfinite(far).all()
    assert abs(far - near).max() > 1e-3


def test_the_content_of_padding_changes_no_bit(tiny: Any) -> None:
    inputs = padded(random_rows(9, 80))
    (expected,) = tiny.run(None, inputs)
    inputs["input_ids"] = np.where(inputs["attention_mask"], inputs["input_ids"], 400)
    assert np.array_equal(tiny.run(None, inputs)[0], expected)


def test_an_input_that_nothing_reads_may_be_added(artifacts: Path, tiny: Any, tmp_path: Path) -> None:
    """For runtimes that feed ``token_type_ids`` to every model; in one file, with its weights."""
    model = onnx.load(path_of(artifacts, "tiny"))
    unused = onnx.helper.make_tensor_value_info("token_type_ids", onnx.TensorProto.INT64, ["batch", "tokens"])
    model.graph.input.append(unused)
    onnx.save(model, tmp_path / "model.onnx")
    inputs = padded(random_rows(9, 80))
    loaded = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    assert [entry.name for entry in loaded.get_inputs()] == ["input_ids", "attention_mask", "token_type_ids"]
    (logits,) = loaded.run(None, {**inputs, "token_type_ids": np.ones_like(inputs["input_ids"])})
    assert logits == pytest.approx(tiny.run(None, inputs)[0], abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_reranker_runs_it(artifacts: Path, name: str) -> None:
    data = golden(name)
    folder = artifacts / f"{name}-padded"
    (graph,) = Manifest.read(folder).graphs
    assert (graph.dialect, graph.layout, graph.opset) == ("padded", "padded", 17)
    with Reranker.load(folder) as reranker:
        assert reranker.info.graph == "padded"
        scores = reranker.score([tuple(pair) for pair in data["pairs"]])
    assert scores.reshape(len(scores), -1) == pytest.approx(np.array(data["logits"]), abs=1e-4)
