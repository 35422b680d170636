"""int8 weights that no processor can saturate, and what makes up for their limits."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modernrank import Reranker
from modernrank.artifact.folder import Artifact
from modernrank.export import export_checkpoint
from modernrank.export.checkpoint.weights import Checkpoint
from modernrank.export.graph.options import GraphOptions
from modernrank.export.models.architecture import LinearLayer
from modernrank.export.models.registry import read_architecture
from modernrank.export.precision.int8.channel_order import ChannelOrders, ReorderedWeights
from modernrank.export.precision.int8.choose import choose
from modernrank.export.precision.int8.error_feedback import feedback_factor, round_with_feedback
from modernrank.export.precision.int8.weights import quantise_weight
from modernrank.export.precision.observe import Observation
from support.checkpoints import checkpoint, golden

LARGEST_16_BITS = 2**15 - 1


def neighbour_sums(integers: np.ndarray) -> tuple[int, int]:
    """The lowest and the highest sum of two neighbours' weights of one sign, of ``[outputs, inputs]``."""
    if integers.shape[1] % 2:
        integers = np.pad(integers, ((0, 0), (0, 1)))
    pairs = integers.astype(int).reshape(len(integers), -1, 2)
    return int(np.minimum(pairs, 0).sum(axis=2).min()), int(np.maximum(pairs, 0).sum(axis=2).max())


def saturating_product(x: np.ndarray, integers: np.ndarray) -> np.ndarray:
    """uint8 ``[tokens, inputs]`` by int8 ``[outputs, inputs]``, as AVX2 adds: neighbouring products in 16 bits."""
    products = x[:, None, :].astype(int) * integers.astype(int)
    sums = products.reshape(*products.shape[:2], -1, 2).sum(axis=3)
    return np.clip(sums, -LARGEST_16_BITS - 1, LARGEST_16_BITS).sum(axis=2)


def int8_weights(artifact: Path) -> dict[str, np.ndarray]:
    """The int8 weights ``[outputs, inputs]`` of every product of an artifact."""
    graph = onnx.load(artifact / "model.int8.onnx").graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    products = [node.input[1] for node in graph.node if node.op_type == "MatMulIntegerToFloat"]
    return {name: onnx.numpy_helper.to_array(tensors[name]).T for name in products}


@pytest.fixture(scope="module", params=["tiny", "tiny-cls"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("int8") / request.param
    export_checkpoint(checkpoint(request.param), out, precision="int8")
    return out


def test_no_exported_weights_can_saturate(exported: Path) -> None:
    """For all activations: 255 times the sums of neighbours fit into 16 bits."""
    weights = int8_weights(exported)
    assert len(weights) > 20
    for name, integers in weights.items():
        lowest, highest = neighbour_sums(integers)
        assert 255 * highest <= LARGEST_16_BITS, name
        assert 255 * lowest >= -LARGEST_16_BITS - 1, name
    assert not Artifact.open(exported).manifest.graphs[0].saturates


def test_16_bit_sums_give_the_exact_product(exported: Path) -> None:
    rng = np.random.default_rng(0)
    for integers in int8_weights(exported).values():
        inputs = integers.shape[1]
        worst = np.where(integers > 0, 255, 0).astype(np.uint8)  # and its opposite: what each output sums highest
        x = np.concatenate([worst, 255 - worst, rng.integers(0, 256, (16, inputs)).astype(np.uint8)])
        assert (saturating_product(x, integers) == x.astype(int) @ integers.T.astype(int)).all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 70), st.integers(1, 21), st.sampled_from([1e-6, 1.0, 1e6]))
def test_any_weights_keep_to_the_limits(seed: int, outputs: int, inputs: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    weight = (size * rng.standard_t(2, size=(outputs, inputs))).astype(np.float32)
    weight[:, rng.random(inputs) < 0.2] = 0
    moments = np.cov(rng.normal(size=(inputs, 30))).reshape(inputs, inputs).astype(np.float32)
    quantised = quantise_weight(weight, np.diag(moments))
    fed_back = round_with_feedback(weight, quantised.scales, feedback_factor(moments))
    for integers in (quantised.integers, fed_back):
        assert integers.dtype == np.int8
        assert integers.shape == weight.shape
        lowest, highest = neighbour_sums(integers)
        assert lowest >= -128
        assert highest <= 128
        assert integers.min() >= -127
    assert np.isfinite(quantised.scales).all()
    assert (quantised.scales > 0).all()


def test_weights_that_share_no_limit_are_rounded_to_the_nearest() -> None:
    weight = np.random.default_rng(0).normal(size=(40, 64)).astype(np.float32)
    weight[:, 1::2] = 0
    quantised = quantise_weight(weight)
    error = np.abs(quantised.as_float() - weight).max(axis=1)
    assert (error <= quantised.scales * 0.5001 + np.abs(weight).max(axis=1) * 0.26).all()
    assert np.sqrt(np.mean((quantised.as_float() - weight) ** 2)) < 0.01


def test_feedback_lowers_the_error_of_correlated_inputs() -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(2000, 8)) @ rng.normal(size=(8, 64)) + 0.3 * rng.normal(size=(2000, 64))).astype(np.float32)
    weight = rng.normal(size=(32, 64)).astype(np.float32)
    moments = x.T @ x / len(x)
    quantised = quantise_weight(weight, np.diag(moments))
    integers = round_with_feedback(weight, quantised.scales, feedback_factor(moments))

    def error(weights: np.ndarray) -> float:
        return float(np.mean(((weights - weight) @ x.T) ** 2))

    assert error(integers * quantised.scales[:, None]) < 0.5 * error(quantised.as_float())


def observed(rows: np.ndarray) -> Observation:
    observation = Observation.of_nothing(rows.shape[1])
    observation.add(rows.astype(np.float32), np.random.default_rng(0))
    return observation


@pytest.mark.parametrize(("spread", "each_token"), [(0.0, False), (1.5, True)])
def test_tokens_have_scales_of_their_own_where_they_differ(spread: float, each_token: bool) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(256, 64)) * np.exp(spread * rng.normal(size=(256, 1)))
    weight = rng.normal(size=(32, 64)).astype(np.float32)
    choice = choose(LinearLayer("mlp.Wo", input_is_product=True), weight, observed(rows))
    assert (choice.input.scale is None) == each_token
    assert choose(LinearLayer("attn.Wo"), weight, observed(rows)).input.scale is not None


def test_scores_with_a_scale_for_each_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They follow the exact ones, and do not depend on what shares a batch."""
    monkeypatch.setattr("modernrank.export.precision.int8.choose.TOKEN_SCALES_PAY", float("inf"))
    export_checkpoint(checkpoint("tiny-cls"), tmp_path / "out", precision="int8")
    made = Artifact.open(tmp_path / "out").manifest.quantisation["int8"]
    assert [name.rpartition(".mlp.")[2] for name in made["token_scales"]] == ["Wo"] * 6
    pairs = [tuple(pair) for pair in golden("tiny-cls")["pairs"]]
    exact = np.array(golden("tiny-cls")["logits"], np.float32)
    with Reranker.load(tmp_path / "out", precision="int8") as reranker:
        scores = reranker.score(pairs)
        assert np.corrcoef(scores.ravel(), exact.ravel())[0, 1] > 0.9
        alone = np.concatenate([reranker.score([pair]) for pair in pairs])
    assert (scores == alone).all()


@pytest.mark.parametrize("name", ["tiny", "tiny-cls"])
def test_any_order_of_channels_gives_the_same_scores(name: str, tmp_path: Path) -> None:
    """A tensor whose axis is missing from a stream would mix channels up."""
    architecture = read_architecture(checkpoint(name))
    export_checkpoint(checkpoint(name), tmp_path / "out")
    streams = {
        stream
        for layer in architecture.linear_layers()
        for parts in architecture.axes(f"{layer.name}.weight")
        for stream in parts
        if stream is not None
    }
    rng, orders = np.random.default_rng(0), {}
    for stream in streams:
        blocks = np.split(np.arange(stream.width), stream.blocks)
        orders[stream.name] = np.concatenate([rng.permutation(block) for block in blocks])
    with Checkpoint(checkpoint(name), architecture.expected_tensors()) as weights:
        reordered = ReorderedWeights(weights, ChannelOrders(architecture, orders))
        architecture.write_graph(reordered, tmp_path / "out" / "model.fp32.onnx", GraphOptions("ort-cpu"))
    pairs = [tuple(pair) for pair in golden(name)["pairs"]]
    with Reranker.load(tmp_path / "out", verify_files=False) as reranker:
        assert reranker.score(pairs).ravel() == pytest.approx(np.ravel(golden(name)["logits"]), abs=1e-4)


def test_artifacts_of_earlier_versions_can_saturate(exported: Path, tmp_path: Path) -> None:
    """They have no such field; which kernel they run is in tests/engine/backends/test_loading.py."""
    manifest = json.loads((exported / "manifest.json").read_text())
    del manifest["graphs"][0]["saturates"]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert Artifact.open(tmp_path).manifest.graphs[0].saturates
