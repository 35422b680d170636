"""The public names, and the shape of the calls that users write."""

from __future__ import annotations

import inspect
import typing
from pathlib import Path

import pytest

import modernrank
from modernrank import Reranker, Scorer


@pytest.mark.parametrize("name", modernrank.__all__)
def test_every_public_name_exists(name: str) -> None:
    assert hasattr(modernrank, name)


def test_the_list_of_names_is_sorted_and_has_no_double() -> None:
    assert modernrank.__all__ == sorted(set(modernrank.__all__))


@pytest.mark.parametrize(
    ("function", "positional"),
    [
        (Reranker.load, ["path"]),
        (Reranker.from_checkpoint, ["checkpoint"]),
        (Reranker.score, ["self", "pairs"]),
        (Reranker.count_tokens, ["self", "pairs"]),
        (Reranker.score_iter, ["self", "pairs"]),
        (Reranker.rank, ["self", "query", "documents", "top_k"]),
    ],
)
def test_options_are_given_by_keyword(function: object, positional: list[str]) -> None:
    parameters = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
    assert [p.name for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD] == positional


@pytest.mark.parametrize("function", [Reranker.load, Reranker.from_checkpoint, Scorer.load])
def test_loading_is_typed_as_the_class_it_is_called_on(function: object) -> None:
    assert typing.get_type_hints(function)["return"] is typing.Self


def test_loading_a_subclass_gives_the_subclass(artifacts: Path) -> None:
    class Search(Reranker):
        """A service's own."""

    class Ids(Scorer):
        """A service's own."""

    with Search.load(artifacts / "tiny", threads=1) as search:
        assert type(search) is Search
    with Ids.load(artifacts / "tiny") as ids:
        assert type(ids) is Ids


def test_an_unknown_option_is_an_error(artifacts: Path) -> None:
    with pytest.raises(TypeError, match="streams"):
        Reranker.load(artifacts / "tiny", streams=2)  # type: ignore[call-arg]
