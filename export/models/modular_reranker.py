"""The family of modular rerankers: a ModernBERT encoder with a head of sentence-transformers modules, such as Ettin's.

Transformer ──▶ Pooling ──▶ Dense ──▶ LayerNorm ──▶ Dense ──▶ scores, or any other chain of such modules.

``CrossEncoder`` of sentence-transformers builds the same from ``modules.json``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Self

from modernrank.errors import ArtifactError
from modernrank.export.checkpoint.description import Description
from modernrank.export.checkpoint.fields import Fields
from modernrank.export.checkpoint.modules import Module
from modernrank.export.checkpoint.weights import ExpectedTensors, Weights
from modernrank.export.graph.builder import GraphBuilder, Value

from .architecture import Axes, Reference, Stream
from .heads.head import Head, read_labels
from .heads.modules import SCORES, TOKENS, Feature, HeadModule, Pooling, read_module
from .modernbert.config import ModernBertConfig
from .modernbert.model import ModernBert

# Fields of config.json that belong to the head of transformers, which this family does not have.
OF_ANOTHER_HEAD = ("classifier_activation", "classifier_bias", "classifier_pooling")


@dataclass(frozen=True)
class ModularHead(Head):
    """A chain of modules from ``token_embeddings`` to ``scores``.

    width: of the encoder's hidden states.
    """

    width: int
    modules: tuple[HeadModule, ...]
    names: tuple[str, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        return self.names

    @property
    def pooling(self) -> str:
        return "+".join(mode for module in self.modules if isinstance(module, Pooling) for mode in module.modes)

    @cached_property
    def inputs(self) -> tuple[Feature, ...]:
        """What each module reads."""
        features, given = {TOKENS: Feature(self.width, 1)}, []
        for module in self.modules:
            given.append(features[module.reads])
            features[module.writes] = module.output(given[-1])
        return tuple(given)

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {name: shape for module in self.modules for name, shape in module.shapes().items()}

    def write(self, g: GraphBuilder, weights: Weights, hidden: Value) -> tuple[Value, Value]:
        values = {TOKENS: hidden}
        is_used = hidden
        for module in self.modules:
            with g.scope(module.prefix.rstrip(".")):
                x = values[module.reads]
                if isinstance(module, Pooling):
                    values[module.writes], is_used = module.pool(g, x)
                else:
                    values[module.writes] = module.write(g, weights, x)
        return values[SCORES], is_used

    def axes(self, tensor: str, hidden: Stream) -> Axes:
        for module, given in zip(self.modules, self.inputs, strict=True):
            if tensor in module.shapes():
                return module.axes(tensor, given, hidden)
        return ()


@dataclass(frozen=True)
class ModularReranker(ModernBert):
    """``ModernBertModel`` with modules of sentence-transformers for its head."""

    name: ClassVar[str] = "ModernBertModel with a head of sentence-transformers modules"
    reference: ClassVar[Reference] = "sentence-transformers"

    @classmethod
    def describes(cls, description: Description) -> bool:
        return description.transformer is not None and description.transformer.task == "feature-extraction"

    @classmethod
    def read(cls, description: Description) -> Self:
        fields = Fields(description.config_file)
        config = ModernBertConfig.read(fields)
        fields.ignore(OF_ANOTHER_HEAD)
        modules = [read_module(module, str(description.modules_file)) for module in description.modules[1:]]
        labels = _check_chain(description, modules, config.hidden_size)
        names = read_labels(fields) if labels > 1 else ("LABEL_0",)
        fields.ignore(["id2label", "label2id", "num_labels"])
        if len(names) != labels:
            fields.refuse("id2label", names, f"must name the {labels} outputs of the module that writes {SCORES!r}")
        fields.warn_of_the_rest()
        return cls(config, ModularHead(config.hidden_size, tuple(modules), names))

    def expected_tensors(self) -> ExpectedTensors:
        assert isinstance(self.head, ModularHead)
        folders = {module.prefix: module.prefix.rstrip(".") for module in self.head.modules if module.shapes()}
        return replace(super().expected_tensors(), folders={"model.": "", **folders})


def _check_chain(description: Description, modules: Sequence[HeadModule], width: int) -> int:
    """Check that each module finds what it reads, and that the chain ends in scores.

    Args:
        description: of the checkpoint, for errors and for its prompts.
        modules: in the order in which they run.
        width: of the hidden states.

    Returns:
        The number of scores of a pair.

    Raises:
        ArtifactError: it is not such a chain; it names the module.
    """
    features = {TOKENS: Feature(width, 1)}
    pooled: set[str] = set()
    for entry, module in zip(description.modules[1:], modules, strict=True):
        shown = f"module {entry.kind} in {entry.path!r}"
        if module.reads not in features:
            _refuse(description, f"{shown} reads {module.reads!r}, which no module before it writes; reorder them")
        if module.writes in features and (module.writes == SCORES or isinstance(module, Pooling)):
            _refuse(description, f"{shown} writes {module.writes!r} a second time; only one head can be exported")
        try:
            features[module.writes] = module.output(features[module.reads])
        except ValueError as error:
            _refuse(description, f"{shown} does not fit: {error}; its config is that of another model")
        if isinstance(module, Pooling):
            _check_prompts(description, entry, module)
        is_pooled = isinstance(module, Pooling) or module.reads in pooled
        pooled = pooled | {module.writes} if is_pooled else pooled - {module.writes}
    if SCORES not in features:
        _refuse(description, f"no module writes {SCORES!r}: this is an embedding model, not a reranker")
    if SCORES not in pooled or features[SCORES].parts:
        _refuse(description, f"{SCORES!r} must come from a Dense after Pooling, and not hold its input as a residual")
    return features[SCORES].width


def _check_prompts(description: Description, entry: Module, pooling: Pooling) -> None:
    """Refuse pooling that leaves a prompt out, where there are prompts."""
    if any(description.prompts.texts.values()) and not pooling.includes_prompt:
        raise ArtifactError(
            f"{entry.config_file}: include_prompt = False is not implemented where the model has prompts; set it to "
            "true",
            path=entry.config_file,
            field="include_prompt",
            value=False,
        )


def _refuse(description: Description, why: str) -> None:
    file = description.modules_file
    raise ArtifactError(f"{file}: {why}", path=file, field="modules")
