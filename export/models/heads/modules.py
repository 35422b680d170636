"""The modules of sentence-transformers that a head is made of. A new one is one class and one line of MODULES.

Modules hand features to each other by name: ``Transformer`` gives ``token_embeddings``, ``Pooling`` makes
``sentence_embedding`` of them, and the last ``Dense`` writes ``scores``. Formulas, names of fields and of tensors, and
defaults are those of sentence-transformers 6.2.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from modernrank.errors import ArtifactError
from modernrank.export.checkpoint.fields import Fields
from modernrank.export.checkpoint.modules import Module
from modernrank.export.checkpoint.weights import Weights
from modernrank.export.graph.activations import activation
from modernrank.export.graph.builder import GraphBuilder, Value
from modernrank.export.models.architecture import Axes, Stream
from modernrank.export.models.layers import layer_norm, linear, linear_shapes, norm_shapes

from .pooling import POOLINGS, pool

TOKENS = "token_embeddings"
POOLED = "sentence_embedding"
SCORES = "scores"

# Activations of Dense: torch's classes, with their defaults, by our names of them.
ACTIVATIONS = {
    "torch.nn.modules.activation.GELU": "gelu",
    "torch.nn.modules.activation.LeakyReLU": "leaky_relu",
    "torch.nn.modules.activation.ReLU": "relu",
    "torch.nn.modules.activation.SiLU": "silu",
    "torch.nn.modules.activation.Sigmoid": "sigmoid",
    "torch.nn.modules.activation.Tanh": "tanh",
    "torch.nn.modules.linear.Identity": "linear",
}
# How Pooling spelled its modes before version 5.4, each as a flag, in the order in which the vectors are joined.
OLDER_POOLINGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
LAYER_NORM_EPS = 1e-5  # torch's default, which the module never changes
NORMALISE_EPS = 1e-12  # of torch.nn.functional.normalize


@dataclass(frozen=True)
class Feature:
    """What is known of a feature.

    width: of its vectors.
    parts: into how many equal parts its channels fall that each are the encoder's, in their order; 0 for channels of
           another kind.
    """

    width: int
    parts: int = 0

    def axis(self, hidden: Stream) -> tuple[Stream | None, ...]:
        """The axis of a tensor that reads or scales these channels."""
        return (hidden,) * self.parts or (None,)


@dataclass(frozen=True)
class HeadModule(ABC):
    """One module.

    prefix: of its tensors' names.
    reads, writes: names of features.
    """

    prefix: str
    reads: str
    writes: str

    @classmethod
    @abstractmethod
    def read(cls, module: Module) -> Self:
        """Read the module's ``config.json``.

        Raises:
            ArtifactError: a field has an effect that is not implemented, or a value that is not allowed.
        """

    @abstractmethod
    def output(self, given: Feature) -> Feature:
        """What it writes if it reads ``given``.

        Raises:
            ValueError: it does not take such features; the text says why.
        """

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Name and shape of every tensor."""
        return {}

    @abstractmethod
    def write(self, g: GraphBuilder, weights: Weights, x: Value) -> Value:
        """Write its nodes, for ``x`` ``[.., width]``."""

    def axes(self, tensor: str, given: Feature, hidden: Stream) -> Axes:
        """Which axes of a tensor hold the encoder's channels, if the module reads ``given``."""
        return ()


@dataclass(frozen=True)
class Pooling(HeadModule):
    """From the tokens of a pair to one vector.

    includes_prompt: whether a prompt's tokens are among them.
    """

    width: int
    modes: tuple[str, ...]
    includes_prompt: bool

    @classmethod
    def read(cls, module: Module) -> Self:
        fields = Fields(module.config_file)
        older = [name for field, name in OLDER_POOLINGS.items() if fields.flag(field)]
        modes = fields.take("pooling_mode", older or "mean")
        modes = [modes] if isinstance(modes, str) else modes
        if not isinstance(modes, list) or not modes or not all(mode in POOLINGS for mode in modes):
            fields.refuse("pooling_mode", modes, f"is not implemented; implemented are {', '.join(POOLINGS)}")
        older_width = fields.take("word_embedding_dimension")
        width = fields.count("embedding_dimension", older_width)
        includes_prompt = fields.flag("include_prompt", True)
        fields.warn_of_the_rest()
        return cls(f"{module.path}.", TOKENS, POOLED, width, tuple(modes), includes_prompt)

    def output(self, given: Feature) -> Feature:
        if given.width != self.width:
            raise ValueError(f"embedding_dimension is {self.width}, and {self.reads} has {given.width}")
        return Feature(len(self.modes) * given.width, len(self.modes) * given.parts)

    def write(self, g: GraphBuilder, weights: Weights, x: Value) -> Value:
        return self.pool(g, x)[0]

    def pool(self, g: GraphBuilder, x: Value) -> tuple[Value, Value]:
        """The vectors ``[rows, slots, width]``, and which slots have tokens, bool ``[rows, slots, 1]``."""
        return pool(g, x, self.modes)


@dataclass(frozen=True)
class Dense(HeadModule):
    """``activation(x @ weight.T + bias)``, and with a residual ``x``, or a projection of it, added to that."""

    inputs: int
    outputs: int
    has_bias: bool
    activation: str
    is_residual: bool

    @classmethod
    def read(cls, module: Module) -> Self:
        fields = Fields(module.config_file)
        name = fields.one_of("activation_function", "torch.nn.modules.activation.Tanh", ACTIVATIONS)
        reads = fields.text("module_input_name", POOLED)
        dense = cls(
            f"{module.path}.",
            reads,
            fields.text("module_output_name", reads),
            fields.count("in_features"),
            fields.count("out_features"),
            fields.flag("bias", True),
            ACTIVATIONS[name],
            fields.flag("use_residual"),
        )
        fields.warn_of_the_rest()
        return dense

    @property
    def is_square(self) -> bool:
        """Whether the residual is the input itself."""
        return self.is_residual and self.inputs == self.outputs

    def output(self, given: Feature) -> Feature:
        if given.width != self.inputs:
            raise ValueError(f"in_features is {self.inputs}, and {self.reads} has {given.width}")
        return Feature(self.outputs, given.parts if self.is_square else 0)

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        shapes = linear_shapes(f"{self.prefix}linear", self.outputs, self.inputs, self.has_bias)
        if self.is_residual and not self.is_square:
            shapes |= linear_shapes(f"{self.prefix}residual", self.outputs, self.inputs, has_bias=False)
        return shapes

    def write(self, g: GraphBuilder, weights: Weights, x: Value) -> Value:
        y = activation(g, linear(g, x, "linear", weights, f"{self.prefix}linear", self.has_bias), self.activation)
        if not self.is_residual:
            return y
        added = x if self.is_square else linear(g, x, "residual", weights, f"{self.prefix}residual", has_bias=False)
        return g.op("Add", y, added)

    def axes(self, tensor: str, given: Feature, hidden: Stream) -> Axes:
        columns = given.axis(hidden)
        rows = columns if self.is_square else (None,)
        return (rows,) if tensor.endswith(".bias") else (rows, columns)


@dataclass(frozen=True)
class LayerNorm(HeadModule):
    """Layer normalisation of the pooled vector."""

    width: int

    @classmethod
    def read(cls, module: Module) -> Self:
        fields = Fields(module.config_file)
        norm = cls(f"{module.path}.", POOLED, POOLED, fields.count("dimension"))
        fields.warn_of_the_rest()
        return norm

    def output(self, given: Feature) -> Feature:
        if given.width != self.width:
            raise ValueError(f"dimension is {self.width}, and {self.reads} has {given.width}")
        return given

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return norm_shapes(f"{self.prefix}norm", self.width)

    def write(self, g: GraphBuilder, weights: Weights, x: Value) -> Value:
        return layer_norm(g, x, "norm", weights, f"{self.prefix}norm", LAYER_NORM_EPS)

    def axes(self, tensor: str, given: Feature, hidden: Stream) -> Axes:
        return (given.axis(hidden),)


@dataclass(frozen=True)
class Normalize(HeadModule):
    """Division by the Euclidean length."""

    @classmethod
    def read(cls, module: Module) -> Self:
        reads, writes = POOLED, POOLED
        if module.config_file.is_file():  # older versions wrote none
            fields = Fields(module.config_file)
            reads = fields.text("module_input_name", POOLED)
            writes = fields.text("module_output_name", reads)
            fields.warn_of_the_rest()
        return cls(f"{module.path}.", reads, writes)

    def output(self, given: Feature) -> Feature:
        return given

    def write(self, g: GraphBuilder, weights: Weights, x: Value) -> Value:
        length = g.op("Sqrt", g.op("ReduceSum", g.op("Mul", x, x), g.ints(-1)))
        return g.op("Div", x, g.op("Max", length, g.scalar(NORMALISE_EPS)))


@dataclass(frozen=True)
class Dropout(HeadModule):
    """Nothing, except in training."""

    @classmethod
    def read(cls, module: Module) -> Self:
        return cls(f"{module.path}.", POOLED, POOLED)

    def output(self, given: Feature) -> Feature:
        return given

    def write(self, g: GraphBuilder, weights: Weights, x: Value) -> Value:
        return x


MODULES: Mapping[str, type[HeadModule]] = {
    kind.__name__: kind for kind in (Pooling, Dense, LayerNorm, Normalize, Dropout)
}


def read_module(module: Module, file: str) -> HeadModule:
    """The module of an entry of ``modules.json``, which is the file ``file``.

    Raises:
        ArtifactError: it is not implemented, its config is missing, or a field of that is not implemented.
    """
    if module.kind not in MODULES:
        raise ArtifactError(
            f"{file}: module {module.kind} in {module.path!r} is not implemented; implemented are {', '.join(MODULES)}",
            path=module.folder,
            field="type",
            value=module.kind,
            choices=tuple(MODULES),
        )
    return MODULES[module.kind].read(module)
