"""Tensors of the Open Inference Protocol: in JSON, or in binary after it, as Triton's clients send them.

Inference-Header-Content-Length: 153
{"inputs": [{"name": "documents", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": 14}}]}
00 00 00 03 'one' 00 00 00 03 'two' ..        a text is its number of bytes, in 4 bytes of little endian, and they
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from modernrank.errors import InputError

MAX_DIMENSIONS = 8
MAX_TEXTS = 100_000  # more than a request may have in any case


class Tensor(msgspec.Struct):
    """An input: its texts are in ``data``, or behind the JSON."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any] | None = None
    parameters: dict[str, Any] | None = None


class RequestedOutput(msgspec.Struct):
    """An output that the client asks for."""

    name: str
    parameters: dict[str, Any] | None = None


class InferRequest(msgspec.Struct):
    """A request. ``parameters`` may have ``raw_scores`` and ``binary_data_output``."""

    inputs: list[Tensor]
    id: str | None = None
    outputs: list[RequestedOutput] | None = None
    parameters: dict[str, Any] | None = None


class OutputTensor(msgspec.Struct, omit_defaults=True):
    """The scores: in ``data``, or behind the JSON."""

    name: str
    datatype: str
    shape: list[int]
    data: list[float] | None = None
    parameters: dict[str, int] | None = None


class InferResponse(msgspec.Struct, omit_defaults=True):
    """An answer."""

    model_name: str
    model_version: str
    outputs: list[OutputTensor]
    id: str | None = None


@dataclass(frozen=True)
class Texts:
    """A tensor of texts."""

    shape: list[int]
    values: list[str]


def texts_of(request: InferRequest, behind: bytes) -> dict[str, Texts]:
    """The inputs by name.

    Raises:
        InputError: one is not a tensor of texts, or its data does not fit its shape.
    """
    found: dict[str, Texts] = {}
    for tensor in request.inputs:
        name = tensor.name[:100]
        if tensor.datatype != "BYTES":
            raise InputError(f"input {name!r} has datatype {tensor.datatype[:20]!r}; send texts as BYTES")
        size = (tensor.parameters or {}).get("binary_data_size")
        if tensor.data is None and isinstance(size, int) and not isinstance(size, bool) and 0 <= size <= len(behind):
            values: list[Any] = list(_binary_texts(behind[:size], name))
            behind = behind[size:]
        else:
            values = _flat(tensor.data or [])
        fits = len(tensor.shape) <= MAX_DIMENSIONS and math.prod(tensor.shape) == len(values)
        if not fits or min(tensor.shape, default=0) < 0 or not all(isinstance(value, str) for value in values):
            raise InputError(
                f"input {name!r} has the shape {tensor.shape[:MAX_DIMENSIONS]} and {len(values)} values; send as many "
                "texts as the shape says"
            )
        found[tensor.name] = Texts(tensor.shape, values)
    return found


def wants_binary(request: InferRequest) -> bool:
    """Whether the scores are to stand behind the JSON."""
    for output in request.outputs or []:
        if output.name == "scores" and "binary_data" in (output.parameters or {}):
            return (output.parameters or {})["binary_data"] is True
    return (request.parameters or {}).get("binary_data_output") is True


def scores_tensor(scores: list[float], shape: list[int], binary: bool) -> tuple[OutputTensor, bytes]:
    """The output, and what stands behind the JSON."""
    if not binary:
        return OutputTensor("scores", "FP32", shape, scores), b""
    data = np.array(scores, "<f4").tobytes()
    return OutputTensor("scores", "FP32", shape, parameters={"binary_data_size": len(data)}), data


def _flat(values: list[Any]) -> list[Any]:
    """The values of nested lists, which clients may send for several dimensions."""
    for _ in range(MAX_DIMENSIONS):
        if not any(isinstance(value, list) for value in values):
            break
        values = [inner for value in values for inner in (value if isinstance(value, list) else [value])]
    return values


def _binary_texts(data: bytes, name: str) -> Iterator[str]:
    at = count = 0
    while at < len(data):
        count += 1
        if count > MAX_TEXTS:
            raise InputError(f"input {name!r} has more than {MAX_TEXTS:,} texts; send fewer", argument="max_documents")
        size = int.from_bytes(data[at : at + 4], "little")
        text = data[at + 4 : at + 4 + size]
        if at + 4 > len(data) or len(text) != size:
            raise InputError(f"the binary data of input {name!r} ends within a text")
        try:
            yield text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"a text of input {name!r} is not UTF-8") from error
        at += 4 + size
