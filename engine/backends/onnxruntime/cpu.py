"""ONNX Runtime on processors: one session for batches that run alone, one for those that run side by side."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modernrank.arrays import FloatArray
from modernrank.artifact.folder import Artifact
from modernrank.artifact.manifest import OnnxGraph
from modernrank.backends.base import Backend, BackendInfo
from modernrank.backends.provider import Provider
from modernrank.batching.batch import Batch
from modernrank.batching.policy import BatchPolicy, PackingPolicy, SchedulePolicy, TokenBudget
from modernrank.errors import ClosedError, InputError, counted
from modernrank.host import available_threads
from modernrank.options import FLOAT_PRECISIONS, CpuOptions, LoadOptions

from .int8_kernel import EXACT_EVERYWHERE, int8_kernel
from .loading import (
    Inputs,
    batch_error,
    check_labels,
    import_onnxruntime,
    load_session,
    runtime_errors,
    session_options,
)

logger = logging.getLogger(__name__)

# Measured in int8: up to a fifth faster than one pair a batch below 64 tokens a pair, no difference above.
TOKENS_PER_BATCH = 256
# From this number of tokens on, the memory of a batch is returned when it ends. That costs too much for a short one.
LARGE_BATCH_TOKENS = 512


@dataclass(frozen=True)
class CpuSettings:
    """The number of ``threads`` of a batch that runs alone, and of ``workers`` that run batches side by side."""

    threads: int
    workers: int = 1

    @staticmethod
    def of(options: CpuOptions) -> CpuSettings:
        """The settings of ``options``, with this machine's threads where ``options`` leave the choice.

        Raises:
            InputError: more workers than threads.
        """
        threads = options.threads or available_threads()
        workers = options.workers or threads
        if workers > threads:
            raise InputError(
                f"workers is {workers}, but they would share only {counted(threads, 'thread')}; lower it",
                argument="workers",
                value=workers,
                limit=threads,
            )
        return CpuSettings(threads, workers)


def open_cpu(artifact: Artifact, provider: Provider, options: LoadOptions) -> Backend:
    """Open the artifact's graph for processors."""
    settings = CpuSettings.of(options.cpu)
    graph = artifact.graph_to_run(options.precision, provider.dialects)
    labels = len(artifact.manifest.model.labels)
    with artifact.checking(artifact.files_of(graph), options.verify_files):
        return OnnxRuntimeCpuBackend(artifact.folder, graph, labels, settings, provider)


class OnnxRuntimeCpuBackend(Backend):
    """Runs one graph of an artifact on the processor. Several threads may call ``run`` at once.

    With several workers the weights are held twice: ONNX Runtime binds a loaded graph to its number of threads.

    Args:
        folder: the artifact's folder.
        graph: which of its graphs.
        labels: the number of the model's labels, from the manifest.
        settings: threads and workers.
        provider: what runs it, without options of its own.

    Raises:
        ProviderError: ONNX Runtime is missing or too old.
        ArtifactError: ONNX Runtime cannot load the graph, or it has another number of labels.
    """

    survives_fork = True

    def __init__(
        self,
        folder: Path,
        graph: OnnxGraph,
        labels: int,
        settings: CpuSettings,
        provider: Provider,
    ) -> None:
        ort = import_onnxruntime(provider)
        kernel = "" if graph.precision in FLOAT_PRECISIONS else int8_kernel(graph.saturates)
        if kernel == EXACT_EVERYWHERE:
            logger.warning(
                "%s was exported by an earlier version, whose int8 weights can saturate on this processor: a slower "
                "kernel runs, with the right scores; export it again for the fastest one",
                folder,
            )

        def load(threads: int) -> Any:
            return load_session(ort, folder, graph, provider, {}, session_options(ort, threads, kernel))

        # Both now: later the folder may hold another artifact, or none.
        counts = sorted({settings.threads, settings.threads // settings.workers}, reverse=True)
        with ThreadPoolExecutor(len(counts)) as pool:  # both at the same time, or one if the counts agree
            sessions = list(pool.map(load, counts))
        self._sessions: tuple[Any, Any] | None = (sessions[0], sessions[-1])
        check_labels(sessions[0], labels, folder / graph.file)
        self._inputs = Inputs(sessions[0], graph.layout)
        self._errors = runtime_errors(ort)
        self._large_batch_options = _shrink_after_run(ort)
        # Rows of one length, one pair each: nothing is padded, and a score does not depend on other pairs.
        packing = PackingPolicy(TokenBudget(TOKENS_PER_BATCH), pairs_per_row=1, minimum_fill=1.0)
        self._policy = BatchPolicy(packing, SchedulePolicy(settings.workers))
        self._info = BackendInfo(
            provider=provider.name,
            runtime=f"onnxruntime {ort.__version__}",
            execution_provider=provider.execution_provider,
            precision=graph.precision,
            graph=graph.dialect,
            threads=settings.threads,
            workers=settings.workers,
            kernel=kernel,
        )

    @property
    def info(self) -> BackendInfo:
        return self._info

    @property
    def policy(self) -> BatchPolicy:
        return self._policy

    def run(self, batch: Batch, side_by_side: bool = False) -> FloatArray:
        sessions = self._sessions
        if sessions is None:
            raise ClosedError("the model is closed; load the artifact again")
        rows, tokens = batch.input_ids.shape
        options = self._large_batch_options if rows * tokens > LARGE_BATCH_TOKENS else None
        try:
            (logits,) = sessions[side_by_side].run(None, self._inputs.of(batch), options)
        except self._errors as error:
            raise batch_error(batch, error) from error
        return np.asarray(logits, np.float32).reshape(rows, batch.slots, -1)

    def close(self) -> None:
        self._sessions = None


def _shrink_after_run(ort: Any) -> Any:
    """Options of a batch of long rows: the memory that only such a batch needs is returned when it ends."""
    options = ort.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options
