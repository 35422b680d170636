"""The graphs: valid ONNX, standard in the standard dialect, named like the model, without wasted operators."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from modernrank.artifact.folder import Artifact
from modernrank.backends.onnxruntime.cpu import CpuSettings, OnnxRuntimeCpuBackend
from modernrank.backends.registry import PROVIDERS
from modernrank.batching.batch import Batch
from modernrank.export.graph.builder import OPSET
from support.checkpoints import NAMES

DIALECTS = {"ort-cpu": "", "standard": "-standard"}


def load(artifacts: Path, name: str) -> onnx.ModelProto:
    return onnx.load(artifacts / name / "model.fp32.onnx", load_external_data=False)


def nodes_of(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from nodes_of(attribute.g)


@pytest.mark.parametrize("name", [f"{name}-standard" for name in NAMES])
def test_the_standard_dialect_passes_checker_and_shape_inference(artifacts: Path, name: str) -> None:
    path = artifacts / name / "model.fp32.onnx"
    onnx.checker.check_model(path, full_check=True)
    model = onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True, data_prop=True)
    (logits,) = model.graph.output
    labels = {"tiny-standard": 1, "tiny-cls-standard": 3}[name]
    assert [d.dim_param or d.dim_value for d in logits.type.tensor_type.shape.dim] == ["rows", "slots", labels]
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": OPSET}
    assert not any(node.domain or node.op_type in ("If", "Loop", "Scan") for node in nodes_of(model.graph))


@pytest.mark.parametrize("name", NAMES)
def test_the_ort_dialect_uses_contrib_operators_only_for_fused_attention(artifacts: Path, name: str) -> None:
    model = load(artifacts, name)
    assert {node.op_type for node in nodes_of(model.graph) if node.domain} == {"MultiHeadAttention"}
    assert {entry.domain for entry in model.opset_import} == {"", "com.microsoft"}


@pytest.mark.parametrize("suffix", DIALECTS.values(), ids=DIALECTS)
def test_inputs_and_output_are_those_of_the_contract(artifacts: Path, suffix: str) -> None:
    graph = load(artifacts, f"tiny{suffix}").graph
    shapes = {i.name: [d.dim_param for d in i.type.tensor_type.shape.dim] for i in graph.input}
    per_token = {name: ["rows", "tokens"] for name in ("input_ids", "position_ids", "segment_ids")}
    assert shapes == {**per_token, "slots": ["slots"]}
    assert {i.type.tensor_type.elem_type for i in graph.input} == {onnx.TensorProto.INT64}
    assert [o.name for o in graph.output] == ["logits"]


def test_nodes_are_named_like_the_model(artifacts: Path) -> None:
    names = [node.name for node in nodes_of(load(artifacts, "tiny").graph)]
    assert len(set(names)) == len(names)
    expected = {
        "/embeddings/Gather",
        "/layers.0/attn/q_proj/MatMul",
        "/layers.3/attn/If",
        "/layers.5/mlp/Wo/MatMul",
        "/head/dense/MatMul",
        "/classifier/Add",
    }
    assert expected <= set(names)
    assert "/layers.0/attn_norm/LayerNormalization" not in names  # the embeddings' norm stands for it


def test_operators_are_as_many_as_the_model_needs(artifacts: Path) -> None:
    """Waste that no timing would show: 6 layers, 2 of them global."""
    counts = Counter(node.op_type for node in nodes_of(load(artifacts, "tiny").graph))
    wanted = {
        "MatMul": 6 * 7 + 3,  # q, k, v, Wo, up, gate, Wo; pooling, dense, classifier
        "LayerNormalization": 5 + 6 + 1 + 1,  # that of the embeddings is in their table
        "RotaryEmbedding": 12,
        "MultiHeadAttention": 2,
        "Attention": 2 + 2 * 4,  # masked global; band and blocks of each sliding layer
        "Gelu": 7,
        "If": 2 + 6,  # two masks, six layers
        "Transpose": 0,
        "Split": 0,
    }
    assert {kind: counts[kind] for kind in wanted} == wanted


def test_constants_in_the_data_file_are_aligned_to_pages(artifacts: Path) -> None:
    tensors = load(artifacts, "tiny").graph.initializer
    offsets = [int(e.value) for t in tensors for e in t.external_data if e.key == "offset"]
    assert len(offsets) > 40
    assert all(offset % 4096 == 0 for offset in offsets)


@pytest.mark.parametrize("suffix", DIALECTS.values(), ids=DIALECTS)
def test_empty_slots_and_padding_give_zeros_and_no_nan(artifacts: Path, suffix: str) -> None:
    """A row of padding alone, a slot without tokens, and lengths that are multiples of 32."""
    artifact = Artifact.open(artifacts / f"tiny{suffix}")
    backend = OnnxRuntimeCpuBackend(
        artifact.folder, artifact.manifest.graphs[0], 1, CpuSettings(threads=1), PROVIDERS["cpu"]
    )
    for tokens in (32, 64, 96, 128, 192, 224, 256):
        segments = np.zeros((3, tokens), np.int64)
        segments[0, :] = 1
        segments[1, : tokens // 2] = 1
        positions = np.where(segments > 0, np.arange(tokens), 0)
        logits = backend.run(Batch(np.full((3, tokens), 7), positions, segments, slots=2))
        assert logits.shape == (3, 2, 1)
        assert np.isfinite(logits).all()
        assert (logits[:, 1] == 0).all()
        assert (logits[2] == 0).all()
        assert (logits[:2, 0] != 0).all()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads peak memory from /proc")
def test_a_long_pair_holds_no_tokens_by_tokens_matrix(artifacts: Path) -> None:
    """8,192 x 8,192 float32 scores would take 268 MB for each of the 4 heads."""
    import subprocess
    import sys

    code = f"""
from modernrank import Reranker
import resource
with Reranker.load({str(artifacts / "tiny")!r}) as reranker:
    reranker.score([("a", "b")])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    reranker.score([("a", "x " * 9000)], on_truncate=lambda cut: None)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    grown = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert grown < 150_000  # kB
