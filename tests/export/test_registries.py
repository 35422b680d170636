"""The registries: complete, consistent with the runtime's, and no name is taken for another."""

from __future__ import annotations

from pathlib import Path

import pytest

from modernrank import ArtifactError
from modernrank.backends.registry import PROVIDERS
from modernrank.cli import artifacts
from modernrank.export.graph.activations import ACTIVATIONS, activation
from modernrank.export.graph.builder import GraphBuilder, Value
from modernrank.export.graph.dialects import DIALECTS
from modernrank.export.models.heads.pooling import POOLINGS, pool
from modernrank.export.models.registry import FAMILIES, read_architecture
from modernrank.export.optimum_graph import REFERENCE
from modernrank.export.precision import registry
from modernrank.options import EXACT, PRECISIONS
from support.checkpoints import NAMES, checkpoint


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
