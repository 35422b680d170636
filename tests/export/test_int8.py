"""int8: close to the exact scores, the same on every processor, clear when refused."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file, save_file

from modernrank import InputError, Reranker
from modernrank.artifact.folder import Artifact, pair_encoder
from modernrank.artifact.manifest import Tokenizer
from modernrank.export import export_checkpoint
from modernrank.export.checkpoint.weights import Checkpoint
from modernrank.export.graph.options import GraphOptions, Observed
from modernrank.export.models.registry import read_architecture
from modernrank.export.precision.calibration import MIN_PAIRS
from modernrank.export.precision.int8.smooth import SmoothedWeights
from modernrank.export.precision.job import GraphSource
from modernrank.export.precision.observe import LONGEST, encode
from support.checkpoints import checkpoint, golden

PAIRS = [tuple(pair) for pair in golden("tiny")["pairs"]]
EXACT = np.array(golden("tiny")["logits"], np.float32)[:, 0]


@pytest.fixture(scope="module")
def int8(artifacts: Path) -> Path:
    return artifacts / "tiny-int8"


# The tiny models are 32 wide and of large random weights: errors do not average out in them as they do in a real one,
# and each layer magnifies those before it. What counts there is that each layer's own error is small and that scores
# follow the exact ones. The bound for models of full size is 5 % (`modernrank verify`; see benchmarks/results).
LAYER_ERROR = 0.03
CORRELATION = 0.9


def correlation(scores: np.ndarray, exact: np.ndarray) -> float:
    return float(np.corrcoef(scores.ravel(), exact.ravel())[0, 1])


def test_scores_follow_the_exact_ones(int8: Path) -> None:
    with Reranker.load(int8, precision="int8") as reranker:
        assert reranker.info.precision == "int8"
        assert correlation(reranker.score(PAIRS), EXACT) > 0.99


def test_biases_cls_pooling_and_several_labels_are_quantised_too(tmp_path: Path) -> None:
    export_checkpoint(checkpoint("tiny-cls"), tmp_path / "out", precision="int8")
    exact = np.array(golden("tiny-cls")["logits"], np.float32)
    with Reranker.load(tmp_path / "out", precision="int8") as reranker:
        assert correlation(reranker.score(PAIRS), exact) > CORRELATION


def test_linear_layers_are_int8_with_one_quantised_input_for_each(int8: Path) -> None:
    graph = onnx.load(int8 / "model.int8.onnx", load_external_data=False).graph
    kinds = [node.op_type for node in graph.node]
    assert kinds.count("MatMulIntegerToFloat") == 6 * 7
    assert kinds.count("QuantizeLinear") == 6 * 4
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    assert types["layers.0.attn.q_proj.weight"] == onnx.TensorProto.INT8
    assert types["embeddings.normalised_table"] == onnx.TensorProto.FLOAT16


def test_the_manifest_says_how_it_was_made(int8: Path) -> None:
    made = Artifact.open(int8).manifest.quantisation["int8"]
    assert made["calibration"]["source"] == "shipped"
    assert made["calibration"]["pairs"] == 78
    assert len(made["layer_errors"]) == 24
    assert all(0 < error < LAYER_ERROR for error in made["layer_errors"].values())


def test_outlier_channels_stay_exact(broken_checkpoint: Path, tmp_path: Path) -> None:
    """Residual channels of 300 times the others, as trained encoders have them: named, and kept in float32."""
    tensors = load_file(broken_checkpoint / "model.safetensors")
    for layer in (1, 2, 3):
        for name in ("attn.Wo", "mlp.Wo"):
            tensors[f"model.layers.{layer}.{name}.weight"][[5, 17]] *= 300
    save_file(tensors, broken_checkpoint / "model.safetensors")
    export_checkpoint(broken_checkpoint, tmp_path / "fp32")
    export_checkpoint(broken_checkpoint, tmp_path / "int8", precision="int8")
    made = Artifact.open(tmp_path / "int8").manifest.quantisation["int8"]
    assert made["float_outputs"]["model.layers.2.mlp.Wo"] == [5, 17]
    assert max(made["layer_errors"].values()) < 2 * LAYER_ERROR
    assert any(set(channels) & {5, 17} for channels in made["float_inputs"].values())
    int8 = Reranker.load(tmp_path / "int8", precision="int8")
    with Reranker.load(tmp_path / "fp32") as exact, int8 as quantised:
        assert correlation(quantised.score(PAIRS), exact.score(PAIRS)) > 0.8


def test_a_layer_of_zeros_is_no_trouble(broken_checkpoint: Path, tmp_path: Path) -> None:
    tensors = load_file(broken_checkpoint / "model.safetensors")
    for name in ("attn.Wo", "mlp.Wi"):
        tensors[f"model.layers.2.{name}.weight"][:] = 0
    save_file(tensors, broken_checkpoint / "model.safetensors")
    export_checkpoint(broken_checkpoint, tmp_path / "out", precision="int8")
    errors = Artifact.open(tmp_path / "out").manifest.quantisation["int8"]["layer_errors"]
    assert errors["model.layers.2.mlp.Wi"] == 0
    with Reranker.load(tmp_path / "out", precision="int8") as reranker:
        assert np.isfinite(reranker.score(PAIRS)).all()


@pytest.mark.parametrize("name", ["tiny", "tiny-cls"])
def test_smoothing_changes_no_product(name: str) -> None:
    """Whatever absorbs the division by s, times the weights that take s, is what it was."""
    architecture = read_architecture(checkpoint(name))
    rng = np.random.default_rng(0)
    sizes = {"attn.Wqkv": 32, "attn.Wo": 32, "mlp.Wi": 32, "mlp.Wo": 48}
    scales = {f"model.layers.2.{k}": rng.uniform(0.5, 2, n).astype(np.float32) for k, n in sizes.items()}
    with Checkpoint(checkpoint(name), architecture.expected_tensors()) as exact:
        smooth = SmoothedWeights(exact, scales, architecture.absorbed_by)
        for absorber, parts in (("attn_norm", 1), ("attn.Wqkv", 3), ("mlp_norm", 1), ("mlp.Wi", 2)):
            layer = f"model.layers.2.{absorber}"
            reader, recorded_parts = architecture.absorbed_by(layer)
            assert recorded_parts == parts
            for kind in ("weight", "bias") if f"{layer}.bias" in exact.names else ("weight",):
                before, after = exact.tensor(f"{layer}.{kind}"), smooth.tensor(f"{layer}.{kind}")
                if kind == "weight" and layer in scales:
                    after = after / scales[layer]
                last = len(before) // parts
                column = scales[reader][:, None] if before.ndim == 2 else scales[reader]
                assert after[-last:] * column == pytest.approx(before[-last:], rel=1e-5)
                assert after[:-last] == pytest.approx(before[:-last], rel=1e-5)


@pytest.mark.parametrize(
    ("lines", "pairs"), [([], 0), ([{"query": "a", "document": "b"}] * 50, 1)], ids=["none", "one pair, many times"]
)
def test_too_few_calibration_pairs_are_refused(tmp_path: Path, lines: list[dict[str, str]], pairs: int) -> None:
    with pytest.raises(InputError) as refused:
        export_with_calibration(tmp_path, lines)
    assert refused.value.details["pairs"] == pairs
    assert refused.value.details["minimum"] == MIN_PAIRS
    assert not (tmp_path / "out").exists()


def test_one_pair_is_not_called_pairs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\b1 different pair\b"):
        export_with_calibration(tmp_path, [{"query": "a", "document": "b"}])


def test_a_calibration_line_without_a_document_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="document"):
        export_with_calibration(tmp_path, [{"query": "a"}])
    assert not (tmp_path / "out").exists()


def export_with_calibration(folder: Path, lines: list[dict[str, str]]) -> None:
    file = folder / "pairs.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    export_checkpoint(checkpoint("tiny"), folder / "out", precision="int8", calibration=file)


def test_arguments_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        export_checkpoint(checkpoint("tiny"), tmp_path / "out", precision="int8", graph="standard")
    assert refused.value.details["choices"] == ("ort-cpu",)
    with pytest.raises(InputError) as refused:
        export_checkpoint(checkpoint("tiny"), tmp_path / "out", evaluation=tmp_path)
    assert refused.value.details["argument"] == "evaluation"


def test_the_users_own_pairs_calibrate(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps({"query": f"q {i}", "document": "d " * i}) + "\n" for i in range(20)))
    export_checkpoint(checkpoint("tiny"), tmp_path / "out", precision="int8", calibration=file)
    made = Artifact.open(tmp_path / "out").manifest.quantisation["int8"]["calibration"]
    assert (made["source"], made["pairs"]) == ("mine.jsonl", 20)


def source_of(name: str, truncation_side: str = "right") -> tuple[GraphSource, Checkpoint]:
    architecture = read_architecture(checkpoint(name))
    weights = Checkpoint(checkpoint(name), architecture.expected_tensors())
    tokenizer = Tokenizer("tokenizer.json", architecture.facts.pad_token_id, truncation_side, 8192)
    return GraphSource(checkpoint(name), architecture, weights, tokenizer), weights


@pytest.mark.parametrize(("observe", "outputs"), [(None, 1), ("linear_inputs", 1 + 24), ("maxima", 1 + 13)])
def test_an_observed_graph_holds_only_what_is_observed(tmp_path: Path, observe: Observed | None, outputs: int) -> None:
    source, weights = source_of("tiny")
    with weights:
        names = source.architecture.write_graph(
            weights, tmp_path / "graph.onnx", GraphOptions("ort-cpu", observe=observe)
        )
    graph = onnx.load(tmp_path / "graph.onnx", load_external_data=False).graph
    assert len(graph.output) == outputs
    assert list(names.values()) == [output.name for output in graph.output][1:]
    assert any(node.op_type == "ReduceMax" for node in graph.node if node.name.startswith("/maximum")) == (
        observe == "maxima"
    )


def test_the_maxima_are_of_the_familys_places(tmp_path: Path) -> None:
    source, weights = source_of("tiny")
    with weights:
        names = source.architecture.write_graph(
            weights, tmp_path / "graph.onnx", GraphOptions("ort-cpu", observe="maxima")
        )
    assert list(names) == source.architecture.places()


def test_calibration_cuts_pairs_on_the_side_of_the_artifact() -> None:
    pair = ("first", "word " * 2 * LONGEST + "last")
    encoded = {}
    for side in ("right", "left"):
        source, weights = source_of("tiny", side)
        with weights:
            (encoded[side],) = encode(source, [pair])
            (expected,) = pair_encoder(checkpoint("tiny"), source.tokenizer, LONGEST).encode([pair])
        assert encoded[side].tolist() == expected.ids.tolist()
    assert encoded["left"].tolist() != encoded["right"].tolist()


def test_calibration_pairs_are_never_longer_than_the_model_takes(broken_checkpoint: Path, tmp_path: Path) -> None:
    """A position beyond the tables of RoPE cannot be computed."""
    config = json.loads((broken_checkpoint / "config.json").read_text())
    (broken_checkpoint / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 100}))
    manifest = export_checkpoint(broken_checkpoint, tmp_path / "out", precision="int8")
    assert manifest.max_length == 100
    assert manifest.quantisation["int8"]["calibration"]["pairs"] == 78
