"""The arguments of ``CrossEncoder``'s constructor: each is used, has no effect by design, or is refused by name."""

from __future__ import annotations

import inspect
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modernrank.artifact.folder import is_artifact
from modernrank.artifact.manifest import Manifest
from modernrank.errors import InputError, ProviderError
from modernrank.options import SideChoice, TextLimits, positive
from modernrank.reranker import Reranker

# Those of `Reranker.load` that `model_kwargs` may have; `max_length` and the cache have arguments of their own.
LOAD_OPTIONS = frozenset(inspect.signature(Reranker.load).parameters) - {"path", "max_length", "cache"}
# Ways to load or to lay out tensors of torch: they change no score.
NO_EFFECT_ON_MODEL = {"attn_implementation", "low_cpu_mem_usage", "use_safetensors", "trust_remote_code"}
NO_EFFECT_ON_TOKENIZER = {"use_fast", "padding_side", "trust_remote_code"}
FLOAT32 = {"None", "auto", "float32", "torch.float32"}
EXECUTION_PROVIDERS = {"CPUExecutionProvider": "cpu", "CUDAExecutionProvider": "cuda"}
ORGANISATION = "cross-encoder"  # of names without one, as in sentence-transformers


@dataclass(frozen=True)
class Settings:
    """The dictionaries of the constructor, read.

    load:            options for ``Reranker.load``.
    max_length:      maximum number of tokens in a pair; None for the model's.
    truncation_side: which end of a text is cut; None for the model's.
    labels:          number of labels that the caller expects; None for any.
    """

    load: dict[str, Any] = field(default_factory=dict)
    max_length: int | None = None
    truncation_side: SideChoice | None = None
    labels: int | None = None

    @staticmethod
    def read(
        model_kwargs: Mapping[str, Any] | None = None,
        processor_kwargs: Mapping[str, Any] | None = None,
        config_kwargs: Mapping[str, Any] | None = None,
        *,
        max_length: int | None = None,
        num_labels: int | None = None,
    ) -> Settings:
        """Check every entry; one that is given as None is not given.

        Raises:
            InputError: an entry would change scores in a way that modernrank does not do.
        """
        processor = _given(processor_kwargs)
        config = _given(config_kwargs)
        length = processor.pop("model_max_length", None)
        labels = config.pop("num_labels", None)
        settings = Settings(
            load=_load_options(_given(model_kwargs)),
            max_length=length if max_length is None else max_length,
            truncation_side=processor.pop("truncation_side", None),
            labels=labels if num_labels is None else num_labels,
        )
        refuse_all("processor_kwargs", processor, NO_EFFECT_ON_TOKENIZER, {"model_max_length", "truncation_side"})
        refuse_all("config_kwargs", config, set(), {"num_labels"})
        return settings

    @property
    def limits(self) -> TextLimits:
        """What these settings say about texts."""
        return TextLimits(self.max_length, truncation_side=self.truncation_side)

    def check_labels(self, reranker: Reranker) -> None:
        """Refuse a model with another number of labels than the caller expects."""
        found = len(reranker.labels)
        if self.labels is not None and self.labels != found:
            raise InputError(
                f"num_labels is {self.labels}, but {reranker.manifest.name} has {found}; leave it out: modernrank "
                "trains no new head",
                argument="num_labels",
                value=self.labels,
            )


@dataclass(frozen=True)
class Hub:
    """How a checkpoint or an artifact is found: the arguments of the same names."""

    revision: str | None = None
    cache_folder: str | None = None
    local_files_only: bool = False
    token: bool | str | None = None

    def open(self, name: str | Path | None, device: object, load: dict[str, Any]) -> Reranker:
        """Load the artifact, or the checkpoint, that ``name`` is.

        Raises:
            InputError, ArtifactError, ProviderError: as ``Reranker.load`` and ``Reranker.from_checkpoint``.
        """
        if name is None:
            raise InputError("CrossEncoder requires a folder or a hub id", argument="model_name_or_path")
        is_exported = is_artifact(name)
        options = {**device_options(device, is_exported), **load, "cache": self.cache_folder}
        try:
            if is_exported:
                return Reranker.load(name, **options)
            return Reranker.from_checkpoint(self._checkpoint(str(name)), revision=self.revision, **options)
        except InputError as error:
            if error.details.get("argument") == "devices" and error.details.get("provider") == "cpu":
                raise ProviderError(
                    f"device {device!r}: {name} can only run on the processor here; choose device='cpu', or export "
                    "a graph for GPUs on a machine that has one"
                ) from error
            raise

    def _checkpoint(self, name: str) -> str:
        if Path(name).is_dir():
            return name
        if self.local_files_only and not os.environ.get("HF_HUB_OFFLINE"):
            raise refused("local_files_only", True, "set HF_HUB_OFFLINE=1 in the environment, or give a folder")
        if self.token:
            raise refused("token", "...", "set HF_TOKEN in the environment")
        return name if "/" in name else f"{ORGANISATION}/{name}"


def check_unused(backend: str, **unused: object) -> None:
    """Refuse a backend that is not replaced by modernrank, and what has no place in an exported model.

    Raises:
        InputError: it names the argument.
    """
    if backend not in ("torch", "onnx"):
        raise refused("backend", backend, "modernrank runs ONNX Runtime or TensorRT; leave it out")
    for name, value in unused.items():
        if value:
            raise refused(name, value, "modernrank runs exported checkpoints; leave it out")


def device_options(device: object, is_exported: bool) -> dict[str, Any]:
    """Options of ``Reranker.load`` for a device of torch, which may be given as its name.

    Raises:
        InputError: modernrank does not run on it.

    >>> device_options("cpu", True), device_options("cuda:1", True)
    ({'provider': 'cpu'}, {'devices': [1]})
    """
    if device is None:
        return {}
    kind, number = device_of(device)
    if kind == "cpu":
        return {"provider": "cpu"}
    # An artifact has its providers; a checkpoint is exported for one.
    return {"devices": [number]} | ({} if is_exported else {"provider": "cuda"})


def device_of(device: object) -> tuple[str, int]:
    """Kind and number of a device of torch.

    >>> device_of("cuda:1"), device_of("cpu")
    (('cuda', 1), ('cpu', 0))
    """
    found = re.fullmatch(r"(cpu|cuda)(?::(\d+))?", str(device))
    if found is None:
        raise refused("device", device, "modernrank runs on 'cpu', 'cuda' and 'cuda:N'")
    return found[1], int(found[2] or 0)


def length_for(tokens: int | None, manifest: Manifest) -> int:
    """A maximum number of tokens; None, and with a warning one that exceeds the model's limit, stands for that limit.

    Frameworks pass a length of their own to every model, and texts within the limit score the same.

    Raises:
        InputError: it is not a whole number of at least 1.
    """
    limit = manifest.max_length
    if tokens is not None and positive("max_length", tokens) > limit:
        warnings.warn(
            f"max_length is {tokens}, but {manifest.name} accepts {limit} tokens ({manifest.limited_by}); longer pairs "
            "are cut there",
            UserWarning,
            stacklevel=4,
        )
        return limit
    return limit if tokens is None else positive("max_length", tokens)


def call_limits(processing_kwargs: Mapping[str, Any] | None) -> TextLimits:
    """What ``processing_kwargs`` of a call say about texts.

    Raises:
        InputError: they say anything but ``{"text": {"max_length": .., "truncation": True}}``.
    """
    kinds = _given(processing_kwargs)
    text = _given(kinds.pop("text", None))
    refuse_all("processing_kwargs", kinds, {"padding"}, {"text"})
    length = text.pop("max_length", None)
    if text.pop("truncation", True) not in (True, "longest_first"):
        raise refused("processing_kwargs", "truncation", "modernrank always cuts what exceeds max_length")
    refuse_all("processing_kwargs['text']", text, {"padding", "return_tensors"}, {"max_length", "truncation"})
    return TextLimits() if length is None else TextLimits(positive("max_length", length))


def refuse_all(argument: str, entries: Mapping[str, Any], ignored: set[str], known: set[str]) -> None:
    """Refuse the entries of a dictionary that are left, except those without effect."""
    for name in entries.keys() - ignored:
        raise refused(argument, name, f"modernrank takes {', '.join(sorted(known)) or 'none'} there; leave it out")


def refused(argument: str, value: object, advice: str) -> InputError:
    """The error for an argument of sentence-transformers that modernrank cannot honour."""
    return InputError(f"{argument} {value!r} is not supported: {advice}", argument=argument, value=value)


def _given(entries: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (entries or {}).items() if value is not None}


def _load_options(model: dict[str, Any]) -> dict[str, Any]:
    for name in ("dtype", "torch_dtype"):
        value = str(model.pop(name, None))
        if value not in FLOAT32:
            raise refused("model_kwargs", f"{name}={value}", "modernrank has model_kwargs={'precision': 'int8'} or so")
    load = {name: value for name, value in model.items() if name in LOAD_OPTIONS}
    refuse_all(
        "model_kwargs",
        {name: value for name, value in model.items() if name not in load},
        NO_EFFECT_ON_MODEL,
        {*LOAD_OPTIONS, "dtype"},
    )
    if "provider" in load:
        load["provider"] = EXECUTION_PROVIDERS.get(load["provider"], load["provider"])
    return load
