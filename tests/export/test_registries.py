"""The registries: complete, consistent with the runtime's, and no name is taken for another."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from modernrank import ArtifactError, Reranker
from modernrank.backends.registry import PROVIDERS
from modernrank.cli import artifacts
from modernrank.export import export_checkpoint
from modernrank.export.checkpoint.description import Description
from modernrank.export.checkpoint.fields import Fields
from modernrank.export.checkpoint.weights import Weights
from modernrank.export.graph.activations import ACTIVATIONS, activation
from modernrank.export.graph.builder import GraphBuilder, Value
from modernrank.export.graph.dialects import DIALECTS
from modernrank.export.models import registry as families
from modernrank.export.models.architecture import Axes, Stream
from modernrank.export.models.heads.head import Head
from modernrank.export.models.heads.pooling import POOLINGS, pool
from modernrank.export.models.layers import linear, linear_shapes
from modernrank.export.models.modernbert.config import ModernBertConfig
from modernrank.export.models.modernbert.model import ModernBert
from modernrank.export.models.registry import FAMILIES, read_architecture
from modernrank.export.optimum_graph import REFERENCE
from modernrank.export.precision import registry
from modernrank.options import EXACT, PRECISIONS
from support.checkpoints import NAMES, checkpoint, golden
from support.modular import Chain, edit_json, pooling, scores, write_modular

PAIRS = [tuple(pair) for pair in golden("tiny")["pairs"]]


def test_the_precisions_are_those_that_users_may_choose() -> None:
    assert set(registry.PRECISIONS) == set(PRECISIONS)
    assert all(name == precision.name for name, precision in registry.PRECISIONS.items())
    assert [name for name, precision in registry.PRECISIONS.items() if precision.is_exact] == [EXACT]


def test_every_precision_is_written_in_dialects_that_exist() -> None:
    for precision in registry.PRECISIONS.values():
        assert precision.dialects
        assert set(precision.dialects) <= {*DIALECTS, REFERENCE}


def test_every_dialect_is_written_by_some_precision() -> None:
    assert {name for precision in registry.PRECISIONS.values() for name in precision.dialects} == set(registry.GRAPHS)


@pytest.mark.parametrize("dialect", registry.GRAPHS)
def test_every_dialect_is_run_by_some_provider(dialect: str) -> None:
    assert [provider.name for provider in PROVIDERS.values() if dialect in provider.dialects]


def test_every_dialect_of_a_provider_can_be_exported() -> None:
    assert {name for provider in PROVIDERS.values() for name in provider.dialects} == set(registry.GRAPHS)


def test_the_command_line_offers_every_dialect() -> None:
    """Its list is written by hand, so that ``--help`` does not import the exporter."""
    assert set(artifacts.DIALECTS) == set(registry.GRAPHS)


def test_families_have_different_names() -> None:
    names = [family.name for family in FAMILIES]
    assert "ModernBertForSequenceClassification" in names
    assert len(set(names)) == len(names)


@dataclass(frozen=True)
class LinearHead(Head):
    """The head of the family below: the first token and a linear layer."""

    width: int
    labels: tuple[str, ...] = ("relevance",)
    pooling: str = "cls"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return linear_shapes("score", len(self.labels), self.width)

    def write(self, g: GraphBuilder, weights: Weights, hidden: Value) -> tuple[Value, Value]:
        pooled, is_used = pool(g, hidden, [self.pooling])
        return linear(g, pooled, "score", weights, "score"), is_used

    def axes(self, tensor: str, hidden: Stream) -> Axes:
        return ((None,), (hidden,)) if tensor == "score.weight" else ()


class ModernBertWithLinearHead(ModernBert):
    """A third family, of which this is all."""

    name = "ModernBertWithLinearHead"

    @classmethod
    def describes(cls, description: Description) -> bool:
        return cls.name in description.architectures

    @classmethod
    def read(cls, description: Description) -> Self:
        config = ModernBertConfig.read(Fields(description.config_file))
        return cls(config, LinearHead(config.hidden_size))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_third_family_is_one_class_and_its_head(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its scores are those of the same head as a module of sentence-transformers."""
    modular = write_modular(tmp_path / "modular", Chain([pooling("cls"), scores(32)]))
    export_checkpoint(modular, tmp_path / "expected")
    own = tmp_path / "own"
    shutil.copytree(modular, own, ignore=lambda _, names: [name for name in names if "_" in name and name[0].isdigit()])
    (own / "modules.json").unlink()
    edit_json(own / "config.json", architectures=["ModernBertWithLinearHead"])
    head = load_file(modular / "2_Dense" / "model.safetensors")
    tensors = {f"model.{name}": values for name, values in load_file(own / "model.safetensors").items()}
    tensors |= {name.replace("linear", "score"): values for name, values in head.items()}
    save_file(tensors, own / "model.safetensors")
    monkeypatch.setattr(families, "FAMILIES", (*FAMILIES, ModernBertWithLinearHead))
    graph = "tensorrt" if precision == "fp16" else "ort-cpu"
    export_checkpoint(own, tmp_path / "artifact", precision=precision, graph=graph)
    if precision == "fp16":
        return  # no provider here runs it; that it can be calibrated and written is the point
    with (
        Reranker.load(tmp_path / "artifact", precision=precision) as ours,
        Reranker.load(tmp_path / "expected") as theirs,
    ):
        found, expected = ours.score(PAIRS), theirs.score(PAIRS)
    if precision == EXACT:
        assert found == pytest.approx(expected, abs=1e-5)
    assert np.corrcoef(found, expected)[0, 1] > 0.98


@pytest.mark.parametrize("name", NAMES)
def test_a_family_knows_its_layers_and_what_absorbs_their_smoothing(name: str) -> None:
    architecture = read_architecture(checkpoint(name))
    shapes = architecture.expected_tensors().shapes
    layers = architecture.linear_layers()
    assert len(layers) == 4 * architecture.facts.layers
    assert all(f"{layer.name}.weight" in shapes for layer in layers)
    readers = {architecture.absorbed_by(tensor.rpartition(".")[0])[0] for tensor in shapes} - {""}
    assert readers == {layer.name for layer in layers if layer.can_be_smoothed}


def test_a_family_knows_its_table_of_embeddings() -> None:
    architecture = read_architecture(checkpoint("tiny"))
    expected = architecture.expected_tensors()
    assert expected.shapes[expected.embeddings] == (architecture.facts.vocabulary, architecture.facts.hidden_size)


@pytest.fixture
def builder(tmp_path: Path) -> GraphBuilder:
    return GraphBuilder(tmp_path / "data")


@pytest.mark.parametrize("pooling", ["min", "first", ""])
def test_an_unknown_pooling_is_refused_and_not_computed_as_the_mean(builder: GraphBuilder, pooling: str) -> None:
    with builder as g, pytest.raises(ArtifactError) as refused:
        pool(g, Value("hidden"), [pooling])
    assert refused.value.details["value"] == pooling
    assert refused.value.details["choices"] == tuple(POOLINGS)


def test_an_unknown_activation_is_refused_and_not_computed_as_relu(builder: GraphBuilder) -> None:
    with builder as g, pytest.raises(ArtifactError) as refused:
        activation(g, Value("x"), "mish")
    assert refused.value.details["choices"] == tuple(ACTIVATIONS)
