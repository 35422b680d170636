"""The contract that every backend fills: a batch goes in, logits come out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from modernrank.batching.packing import Batch, FloatArray, PackingLimits


@dataclass(frozen=True)
class SessionInfo:
    """What runs, as the backend itself reports it, not as it was asked for.

    provider:  modernrank's name for it: ``"cpu"``.
    runtime:   the library and its version: ``"onnxruntime 1.32.0"``.
    execution_provider: the runtime's own name: ``"CPUExecutionProvider"``; "" for a TensorRT engine.
    precision: of the artifact's graph: ``"fp32"``.
    graph:     the graph's dialect: ``"ort-cpu"``, ``"tensorrt"``, ..
    threads:   threads that a run uses when it is alone, on a processor.
    streams:   runs that go side by side, on a processor each on its share of the threads.
    devices:   of GPUs, number and name of each.
    kernel:    of int8 products: ``"u8s8"``, or ``"u8u8"`` (slower) where the processor would saturate; else ``""``.
    """

    provider: str
    runtime: str
    execution_provider: str
    precision: str
    graph: str
    threads: int
    streams: int = 1
    kernel: str = ""
    devices: tuple[str, ...] = ()


class Session(Protocol):
    """A loaded graph. ``run`` may be called from several threads at once."""

    @property
    def info(self) -> SessionInfo:
        """What is running."""
        ...

    @property
    def limits(self) -> PackingLimits:
        """The batches that this session runs fastest and can take at all."""
        ...

    def run(self, batch: Batch, side_by_side: bool = False) -> FloatArray:
        """Logits, float32 ``[rows, slots, labels]``. A slot without a pair holds zeros.

        ``side_by_side``: take one stream's share of the threads, as other runs are at work; else all of them.
        """
        ...

    def close(self) -> None:
        """Free the graph and its memory. ``run`` must not be called after."""
        ...
