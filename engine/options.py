"""What a caller may choose: the names of every choice, and how a model is loaded.

``LoadOptions`` is built once, by ``Reranker.load``, the command line or a server, and passed whole from there on.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from .errors import InputError

# The fastest first: the order in which "auto" looks for a precision whose quality passed. The last one is exact.
PrecisionName = Literal["int8", "fp16", "fp32"]
PRECISIONS: tuple[PrecisionName, ...] = get_args(PrecisionName)
EXACT: PrecisionName = PRECISIONS[-1]
# Those that multiply no integers.
FLOAT_PRECISIONS: tuple[PrecisionName, ...] = ("fp16", "fp32")
PrecisionChoice = Literal["auto", PrecisionName]

# The best first: the order in which "auto" looks for a provider.
ProviderName = Literal["tensorrt", "tensorrt-rtx", "ort-tensorrt", "cuda", "cpu"]
ProviderChoice = Literal["auto", ProviderName]

# CUDA's names for the streams that every program shares, by their addresses.
SHARED_STREAMS = {0: "the legacy default stream", 1: "the legacy default stream", 2: "each thread's default stream"}

# More than any machine has cores; a larger number is a mistake.
MAX_THREADS = 4096

TruncationChoice = Literal["longest_first", "document", "error"]
ActivationChoice = Literal["logit", "sigmoid", "softmax", "model"]
SideChoice = Literal["right", "left"]
LongDocuments = Literal["truncate", "chunk"]


def check_choice(argument: str, value: object, choices: object) -> None:
    """Refuse a value that is not one of the names in ``choices``, a ``Literal``.

    Raises:
        InputError: it names the argument, the value and the choices.
    """
    names = names_of(choices)
    if not isinstance(value, str) or value not in names:
        raise InputError(
            f"{argument} {value!r} is unknown; choose one of {', '.join(names)}",
            argument=argument,
            value=value,
            choices=names,
        )


def names_of(choices: object) -> tuple[str, ...]:
    """The names in a ``Literal``, nested ones included.

    >>> names_of(PrecisionChoice)
    ('auto', 'int8', 'fp16', 'fp32')
    """
    return get_args(choices)


def positive(argument: str, value: Any) -> int:
    """``value`` as an ``int``, if it is a whole number of at least 1; numpy's integers are whole numbers too.

    Raises:
        InputError: it is not.
    """
    try:
        number = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise InputError(
            f"{argument} is {value!r}; it must be a whole number of at least 1", argument=argument, value=value
        )
    return number


def checked_length(max_length: Any, limit: int, owner: str, source: str) -> int:
    """A maximum number of tokens within ``limit``; None stands for the limit itself.

    Args:
        max_length: what was asked for.
        limit: in tokens.
        owner: names whose limit it is.
        source: names what sets the limit.

    Raises:
        InputError: it is not a whole number of at least 1, or it exceeds the limit.
    """
    length = limit if max_length is None else positive("max_length", max_length)
    if length > limit:
        raise InputError(
            f"max_length {length} exceeds the {limit} tokens that {owner} accepts ({source}); lower it",
            argument="max_length",
            value=length,
            limit=limit,
            source=source,
        )
    return length


@dataclass(frozen=True)
class TextLimits:
    """What a call does with its texts before they are scored; None leaves it to the model.

    max_length:          maximum number of tokens in a pair, special tokens included.
    truncation:          what happens to a longer pair.
    truncation_side:     which end of a text is cut: ``"right"``, the end, or ``"left"``, the beginning.
    max_query_tokens:    maximum number of the query's tokens; more are cut before the pair is made.
    max_document_tokens: the same for the document.
    max_call_tokens:     maximum number of tokens of all pairs of a call; a larger call is refused.
    prompt:              text to put before each query, and part of it in all limits; ``""`` for none. By default the
                         model's own default prompt; ``Reranker.manifest.tokenizer.prompts`` has all that it knows.

    >>> TextLimits(max_length=512) | TextLimits(max_document_tokens=100)
    TextLimits(max_length=512, max_document_tokens=100)
    """

    max_length: int | None = None
    truncation: TruncationChoice | None = None
    truncation_side: SideChoice | None = None
    max_query_tokens: int | None = None
    max_document_tokens: int | None = None
    max_call_tokens: int | None = None
    prompt: str | None = None

    def __post_init__(self) -> None:
        for name in ("max_length", "max_query_tokens", "max_document_tokens", "max_call_tokens"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, positive(name, getattr(self, name)))
        if self.truncation is not None:
            check_choice("truncation", self.truncation, TruncationChoice)
        if self.truncation_side is not None:
            check_choice("truncation_side", self.truncation_side, SideChoice)
        if self.prompt is not None and not isinstance(self.prompt, str):
            raise InputError(f"prompt is {self.prompt!r}; it must be a string", argument="prompt", value=self.prompt)

    def given(self) -> dict[str, Any]:
        """Those that are not None, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def __or__(self, others: TextLimits) -> TextLimits:
        """These limits, and those of ``others`` where it has any."""
        return replace(self, **others.given())

    def __repr__(self) -> str:
        return f"TextLimits({', '.join(f'{name}={value!r}' for name, value in self.given().items())})"


@dataclass(frozen=True)
class CpuOptions:
    """How a processor is shared.

    threads: number of threads in all; None for the cores that affinity and cgroup quota grant.
    workers: number of batches that run side by side, each on its share of the threads; None for one on each thread. On
             GPUs it is the number of lanes of each GPU.
    """

    threads: int | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        for name in ("threads", "workers"):
            if getattr(self, name) is None:
                continue
            number = positive(name, getattr(self, name))
            if number > MAX_THREADS:
                raise InputError(
                    f"{name} is {number}; the maximum is {MAX_THREADS}", argument=name, value=number, limit=MAX_THREADS
                )
            object.__setattr__(self, name, number)


@dataclass(frozen=True)
class GpuOptions:
    """How GPUs are used; None leaves the choice to the provider.

    devices:      numbers of the GPUs that share the work.
    cuda_stream:  address of the caller's own CUDA stream, one that the caller made.
    cuda_graphs:  whether small shapes that recur are replayed as CUDA graphs.
    memory_limit: number of bytes that ONNX Runtime's CUDA provider may take.
    sleep_while_waiting: whether a thread that waits for the GPU sleeps; otherwise it spins, and takes a core.
    allow_tf32:   whether float32 products may round their factors to 10 bits (TF32), which is faster.
    """

    devices: Sequence[int] | None = None
    cuda_stream: int | None = None
    cuda_graphs: bool | None = None
    memory_limit: int | None = None
    allow_tf32: bool | None = None
    sleep_while_waiting: bool | None = None

    def __post_init__(self) -> None:
        if self.devices is not None:
            object.__setattr__(self, "devices", _device_numbers(self.devices))
        if self.cuda_stream is not None:
            object.__setattr__(self, "cuda_stream", _own_stream(self.cuda_stream))
        if self.memory_limit is not None:
            object.__setattr__(self, "memory_limit", positive("gpu_memory_limit", self.memory_limit))


@dataclass(frozen=True)
class LoadOptions:
    """How an artifact is loaded.

    provider, precision: what runs, or ``"auto"``.
    verify_files: whether every file is compared with its SHA-256 first.
    cache:        folder for what a runtime compiles; None for ``modernrank.host.cache_folder()``.
    max_waiting_tokens: maximum number of tokens that wait for a worker; None for no limit.
    """

    provider: ProviderChoice = "auto"
    precision: PrecisionChoice = "auto"
    cpu: CpuOptions = field(default_factory=CpuOptions)
    gpu: GpuOptions = field(default_factory=GpuOptions)
    verify_files: bool = True
    cache: Path | None = None
    max_waiting_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.max_waiting_tokens is not None:
            limit = positive("max_waiting_tokens", self.max_waiting_tokens)
            object.__setattr__(self, "max_waiting_tokens", limit)
        check_choice("provider", self.provider, ProviderChoice)
        check_choice("precision", self.precision, PrecisionChoice)
        shared = self.cpu.workers not in (None, 1) or len(self.gpu.devices or ()) > 1
        if self.gpu.cuda_stream is not None and shared:
            raise InputError("cuda_stream requires one device and workers=1", argument="cuda_stream")

    def given(self) -> dict[str, Any]:
        """The options for GPUs that were set, by the names that ``Reranker.load`` gives them."""
        values = {
            "devices": self.gpu.devices,
            "cuda_stream": self.gpu.cuda_stream,
            "cuda_graphs": self.gpu.cuda_graphs,
            "gpu_memory_limit": self.gpu.memory_limit,
            "allow_tf32": self.gpu.allow_tf32,
            "sleep_while_waiting": self.gpu.sleep_while_waiting,
        }
        return {name: value for name, value in values.items() if value is not None}


def _device_numbers(devices: Any) -> tuple[int, ...]:
    try:
        numbers = tuple(operator.index(number) for number in devices if not isinstance(number, bool))
        complete = len(numbers) == len(devices)
    except TypeError:
        numbers, complete = (), False
    if not complete or not numbers or len(set(numbers)) != len(numbers) or min(numbers) < 0:
        raise InputError(
            f"devices is {devices!r}; give different numbers of GPUs, such as [0, 1]", argument="devices", value=devices
        )
    return numbers


def _own_stream(stream: Any) -> int:
    """The address of a stream that one caller made.

    Work in a shared stream waits for that of others, and CUDA captures no graph in the legacy one.
    """
    try:
        address = -1 if isinstance(stream, bool) else operator.index(stream)
    except TypeError:
        address = -1
    if address < 0 or address in SHARED_STREAMS:
        shared = f", {SHARED_STREAMS[address]}" if address in SHARED_STREAMS else ""
        raise InputError(
            f"cuda_stream is {stream!r}{shared}; give the address of a stream that you made, such as "
            "torch.cuda.Stream().cuda_stream",
            argument="cuda_stream",
            value=stream,
        )
    return address
