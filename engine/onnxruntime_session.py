"""The ONNX Runtime backend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .errors import ArtifactError, ModernRankError, ProviderError
from .manifest import Graph
from .packing import Batch, FloatArray, PackingLimits
from .processor import EXACT_EVERYWHERE, int8_kernel
from .providers import Provider
from .session import SessionInfo


class OnnxRuntimeSession:
    """Runs one graph of an artifact in ONNX Runtime. ``run`` is safe to call from several threads.

    Args:
        folder: the artifact's folder.
        graph: which of its graphs.
        provider: what to run it on.
        threads: threads of one run.
        labels: how many the model has, by the manifest.
        kernel: of int8 products, as in ``processor``; by default the fastest that is exact here.

    Raises:
        ProviderError: ONNX Runtime put the graph on another execution provider than ``provider``.
        ArtifactError: ONNX Runtime cannot load the graph, or it has another number of labels.
    """

    def __init__(
        self, folder: Path, graph: Graph, provider: Provider, threads: int, labels: int, kernel: str | None = None
    ) -> None:
        try:
            import onnxruntime as ort  # here, so that `import modernrank` needs no ONNX Runtime
        except ImportError as error:  # its shared libraries may fail to load
            raise ProviderError(f"ONNX Runtime cannot be imported ({error}). To get it: {provider.install}") from error

        self._session: Any = None
        kernel = (kernel or int8_kernel()) if graph.precision == "int8" else ""
        self._run_errors = _runtime_errors(ort)
        try:
            self._session = ort.InferenceSession(
                str(folder / graph.file),
                _session_options(ort, threads, kernel),
                providers=[provider.execution_provider],
            )
        except self._run_errors as error:
            raise ArtifactError(f"ONNX Runtime {ort.__version__} cannot load {folder / graph.file}: {error}") from error
        running = self._session.get_providers()[0]
        if running != provider.execution_provider:
            raise ProviderError(
                f"provider {provider.name!r} was asked for, but ONNX Runtime {ort.__version__} would run on {running}, "
                f"without {provider.execution_provider}. To get it: {provider.install}"
            )
        found = self._session.get_outputs()[0].shape[-1]
        if isinstance(found, int) and found != labels:
            raise ArtifactError(
                f"{folder / graph.file} gives {found} labels, the manifest names {labels}; export again"
            )
        self._feeds = packed_feeds if graph.layout == "packed" else _padded_feeds
        self._large_run_options = _shrink_after_run(ort)
        self.limits = PackingLimits(pairs_per_row=None if graph.layout == "packed" else 1)
        self.info = SessionInfo(
            provider=provider.name,
            runtime=f"onnxruntime {ort.__version__}",
            execution_provider=running,
            precision=graph.precision,
            graph=graph.dialect,
            threads=threads,
            kernel=kernel,
        )

    def run(self, batch: Batch) -> FloatArray:
        """See ``Session.run``."""
        session = self._session
        if session is None:
            raise ModernRankError("this session is closed; load the artifact again")
        large = batch.input_ids.size > self.limits.tokens_per_run
        try:
            (logits,) = session.run(None, self._feeds(batch), self._large_run_options if large else None)
        except self._run_errors as error:
            rows, tokens = batch.input_ids.shape
            raise ModernRankError(f"ONNX Runtime failed on a batch of {rows} x {tokens} tokens: {error}") from error
        return np.asarray(logits, np.float32).reshape(len(batch.input_ids), batch.slots, -1)

    def close(self) -> None:
        """See ``Session.close``."""
        self._session = None


def packed_feeds(batch: Batch) -> dict[str, Any]:
    """The inputs of a packed graph, by name."""
    return {
        "input_ids": batch.input_ids,
        "position_ids": batch.position_ids,
        "segment_ids": batch.segment_ids,
        "slots": np.arange(1, batch.slots + 1, dtype=np.int64),
    }


def _padded_feeds(batch: Batch) -> dict[str, Any]:
    """For a graph that knows one pair in a row and an attention mask, as other exporters write it."""
    return {"input_ids": batch.input_ids, "attention_mask": (batch.segment_ids > 0).astype(np.int64)}


def _session_options(ort: Any, threads: int, kernel: str) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Shapes change from run to run: a memory pattern for each would be planned, kept and seldom met again.
    options.enable_mem_pattern = False
    # Worker threads may spin for work within a run, where operators follow each other within microseconds,
    # and sleep as soon as it ends: an idle service burns no processor time.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if kernel == EXACT_EVERYWHERE:
        options.add_session_config_entry("session.x64quantprecision", "1")
    options.log_severity_level = 3  # errors; what matters is raised
    return options


def _shrink_after_run(ort: Any) -> Any:
    """Options of a run over long rows: the memory that only such a run needs goes back when it ends."""
    options = ort.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


def _runtime_errors(ort: Any) -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises for a graph that it cannot load or run."""
    state: Any = ort.capi.onnxruntime_pybind11_state
    names = (
        "Fail InvalidGraph InvalidProtobuf NoSuchFile NotImplemented InvalidArgument RuntimeException EPFail NoModel"
    )
    return tuple(getattr(state, name) for name in names.split())
