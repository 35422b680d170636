"""``Architecture``: what the exporter must know of a model family, with the config of one checkpoint."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Self

from modernrank.export.checkpoint.description import Description
from modernrank.export.checkpoint.weights import ExpectedTensors, Weights
from modernrank.export.graph.options import GraphOptions

Reference = Literal["transformers", "sentence-transformers"]


@dataclass(frozen=True)
class ModelFacts:
    """What an artifact records of a model, and what encoding and padding need. Widths and lengths are counts."""

    layers: int
    hidden_size: int
    vocabulary: int
    pooling: str
    labels: tuple[str, ...]
    max_length: int
    pad_token_id: int
    problem_type: str | None = None


@dataclass(frozen=True)
class LinearLayer:
    """A linear layer that is worth quantising, because it runs for every token.

    name:              the checkpoint's name, without ``.weight``.
    can_be_smoothed:   whether other tensors can absorb a division of its input (see ``Architecture.absorbed_by``).
    adds_to_residual:  whether it writes to the residual stream.
    input_is_product:  whether its input is a product of activations, which has long tails.
    """

    name: str
    can_be_smoothed: bool = True
    adds_to_residual: bool = False
    input_is_product: bool = False


@dataclass(frozen=True)
class Stream:
    """Channels that may be numbered in any order, if all tensors that write or read them use the same order.

    name:   of the stream.
    width:  number of channels.
    blocks: number of equal blocks that channels cannot leave: the heads of attention.
    """

    name: str
    width: int
    blocks: int = 1


# For each axis of a tensor, in equal parts: the stream whose channels the part holds, or None.
Axes = tuple[tuple[Stream | None, ...], ...]


class Architecture(ABC):
    """A model family, with the config of one checkpoint. ``registry.FAMILIES`` lists them."""

    # As an artifact records it.
    name: ClassVar[str]
    # The library that loads such checkpoints, and so says which scores are right.
    reference: ClassVar[Reference] = "transformers"

    @classmethod
    @abstractmethod
    def describes(cls, description: Description) -> bool:
        """Whether a checkpoint is of this family."""

    @classmethod
    @abstractmethod
    def read(cls, description: Description) -> Self:
        """Read the files of a checkpoint of this family.

        Raises:
            ArtifactError: a field has an effect that is not implemented, or a value that is not allowed.
        """

    @property
    @abstractmethod
    def facts(self) -> ModelFacts:
        """Sizes, labels and limits."""

    @abstractmethod
    def expected_tensors(self) -> ExpectedTensors:
        """Name and shape of every tensor of a checkpoint."""

    @abstractmethod
    def write_graph(self, weights: Weights, path: Path, options: GraphOptions) -> dict[str, str]:
        """Write the graph to ``path`` and its weights to ``path`` + ``.data``, with one tensor in memory at a time.

        Args:
            weights: the tensors that ``expected_tensors`` names.
            path: of the ``.onnx`` file.
            options: dialect, types, and what to observe.

        Returns:
            With ``options.observe``, the output's name for each linear layer or place; otherwise an empty dict.
        """

    @abstractmethod
    def places(self) -> list[str]:
        """The places whose float type ``FloatTypes`` decides."""

    @abstractmethod
    def linear_layers(self) -> list[LinearLayer]:
        """The layers that can be quantised, in the order in which they run."""

    @abstractmethod
    def absorbed_by(self, layer: str) -> tuple[str, int]:
        """The linear layer whose input the tensors of ``layer`` produce, and the rows that produce it.

        Dividing these rows by a vector divides the input of that linear layer by it.

        Args:
            layer: the name of tensors, without ``.weight`` or ``.bias``.

        Returns:
            The name of the linear layer, and the number of equal parts of the rows, of which the last one produces its
            input. ``("", 1)`` if there is no such linear layer.
        """

    @abstractmethod
    def axes(self, tensor: str) -> Axes:
        """Which streams' channels the axes of a tensor hold. No axes if it holds none."""
