"""The contract of every backend: a batch goes in, logits come out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from modernrank.arrays import FloatArray
from modernrank.batching.batch import Batch
from modernrank.batching.policy import BatchPolicy


@dataclass(frozen=True)
class BackendInfo:
    """What runs, as the backend itself reports it.

    provider:  modernrank's name of the provider: ``"cpu"``.
    runtime:   the library and its version: ``"onnxruntime 1.32.0"``.
    execution_provider: ONNX Runtime's name of the provider: ``"CPUExecutionProvider"``; "" for a TensorRT engine.
    precision: of the artifact's graph: ``"fp32"``.
    graph:     the graph's dialect: ``"ort-cpu"``, ``"tensorrt"``, ..
    threads:   number of threads of a batch that runs alone, on a processor.
    workers:   number of batches that run side by side, on a processor each on its share of the threads.
    kernel:    of int8 products: ``"u8s8"``, or the slower ``"u8u8"`` where an earlier export would saturate; else "".
    devices:   number and name of each GPU.
    """

    provider: str
    runtime: str
    execution_provider: str
    precision: str
    graph: str
    threads: int
    workers: int = 1
    kernel: str = ""
    devices: tuple[str, ...] = ()


class Backend(Protocol):
    """A loaded model. Several threads may call ``run`` at once.

    ``survives_fork``: whether a process that was forked after the load can run it, which CUDA does not allow.
    """

    survives_fork: bool = False

    @property
    def info(self) -> BackendInfo:
        """What is running."""
        ...

    @property
    def policy(self) -> BatchPolicy:
        """Which batches this backend accepts, and which it prefers."""
        ...

    def run(self, batch: Batch, side_by_side: bool = False) -> FloatArray:
        """Logits, float32 ``[rows, slots, labels]``. A slot without a pair holds zeros.

        Args:
            batch: what to score.
            side_by_side: use one worker's share of the threads, since other batches are running; else all of them.

        Raises:
            BackendError: the runtime failed.
            ClosedError: ``close`` was called.
        """
        ...

    def close(self) -> None:
        """Free the model and its memory."""
        ...
