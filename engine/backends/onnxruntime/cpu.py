"""The ONNX Runtime backend."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from modernrank.artifact.manifest import Graph
from modernrank.backends.base import SessionInfo
from modernrank.backends.profiles import SLOTS, default_profiles, limits_of
from modernrank.backends.registry import Provider
from modernrank.batching.packing import Batch, FloatArray, PackingLimits
from modernrank.errors import ArtifactError, ModernRankError, ProviderError
from modernrank.options import GpuSettings

from .int8_kernel import EXACT_EVERYWHERE, int8_kernel
from .io_binding import BoundRuns
from .provider_options import CACHE, cuda_options, shaped, tensorrt_options

# Measured in int8: up to a fifth faster than one pair a run below 64 tokens a pair, no difference above.
TOKENS_PER_RUN = 256
# From here on the memory of a run goes back when it ends, which costs too much for a short one.
LARGE_RUN_TOKENS = 512
INDEX_TYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}


class OnnxRuntimeSession:
    """Runs one graph of an artifact in ONNX Runtime. ``run`` is safe to call from several threads.

    Args:
        folder: the artifact's folder.
        graph: which of its graphs.
        provider: what to run it on.
        threads: threads of a run that is alone.
        streams: runs side by side, each on its share of the threads; 1 for one run at a time. Above 1 the weights are
            held twice: ONNX Runtime binds a loaded graph to its number of threads.
        labels: how many the model has, by the manifest.
        kernel: of int8 products, as in ``processor``; by default the fastest that is exact here.
        device: number of the GPU.
        longest: most tokens in a pair, by the manifest; for the shapes that GPUs run.
        gpu: CUDA graphs and the limit of memory, for ``"cuda"``.

    Raises:
        ProviderError: ONNX Runtime put the graph on another execution provider than ``provider``.
        ArtifactError: ONNX Runtime cannot load the graph, or it has another number of labels.
    """

    def __init__(
        self,
        folder: Path,
        graph: Graph,
        provider: Provider,
        threads: int,
        labels: int,
        streams: int = 1,
        kernel: str | None = None,
        device: int = 0,
        longest: int = 8192,
        gpu: GpuSettings | None = None,
    ) -> None:
        try:
            import onnxruntime as ort  # here, so that `import modernrank` needs no ONNX Runtime
        except ImportError as error:  # its shared libraries may fail to load
            raise ProviderError(f"ONNX Runtime cannot be imported ({error}). To get it: {provider.install}") from error

        if provider.on_gpu and hasattr(ort, "preload_dlls"):
            ort.preload_dlls()  # finds CUDA and cuDNN where pip has put them
        kernel = (kernel or int8_kernel()) if graph.precision == "int8" else ""
        self._run_errors = _runtime_errors(ort)
        # On a GPU few shapes occur, so that buffers, kernels and CUDA graphs serve again.
        self._profiles = default_profiles(longest) if provider.on_gpu else []
        file, gpu = folder / graph.file, gpu or GpuSettings()
        counts = sorted({threads, threads // streams}, reverse=True) if not provider.on_gpu else [threads]
        chosen = self._provider_options(provider, device, file, gpu)
        self._alone, self._side_by_side = self._open(ort, file, provider, chosen, counts, kernel)
        found = self._alone.get_outputs()[0].shape[-1]
        if isinstance(found, int) and found != labels:
            raise ArtifactError(
                f"{folder / graph.file} gives {found} labels, the manifest names {labels}; export again"
            )
        self._feeds = packed_feeds if graph.layout == "packed" else _padded_feeds
        self._types = {i.name: INDEX_TYPES[i.type] for i in self._alone.get_inputs()}
        graphs = bool(gpu.cuda_graphs)
        self._bound = BoundRuns(ort, self._alone, labels, "cuda", device, graphs) if provider.on_gpu else None
        self._large_run_options = None if provider.on_gpu else _shrink_after_run(ort)
        self.limits = self._limits(streams)
        self.info = SessionInfo(
            provider=provider.name,
            runtime=f"onnxruntime {ort.__version__}",
            execution_provider=provider.execution_provider,
            precision=graph.precision,
            graph=graph.dialect,
            threads=threads,
            streams=streams,
            kernel=kernel,
        )

    def _open(
        self, ort: Any, file: Path, provider: Provider, chosen: dict[str, Any], threads: list[int], kernel: str
    ) -> tuple[Any, Any]:
        """The graph loaded for the most and for the fewest of ``threads``, at the same time; once where they agree."""

        def load(count: int) -> Any:
            options = _session_options(ort, count, kernel)
            return ort.InferenceSession(str(file), options, providers=[(provider.execution_provider, chosen)])

        try:
            with ThreadPoolExecutor(len(threads)) as pool:
                sessions = list(pool.map(load, threads))
        except self._run_errors as error:
            raise ArtifactError(f"ONNX Runtime {ort.__version__} cannot load {file}: {error}") from error
        running = sessions[0].get_providers()[0]
        if running != provider.execution_provider:
            raise ProviderError(
                f"provider {provider.name!r} was asked for, but ONNX Runtime {ort.__version__} would run on {running}, "
                f"without {provider.execution_provider}. To get it: {provider.install}"
            )
        return sessions[0], sessions[-1]

    def _provider_options(self, provider: Provider, device: int, file: Path, gpu: GpuSettings) -> dict[str, Any]:
        if provider.name == "cuda":
            return cuda_options(device, bool(gpu.cuda_graphs), gpu.memory_limit)
        if provider.name == "ort-tensorrt":
            (file.parent / CACHE).mkdir(exist_ok=True)
            return tensorrt_options(device, file, self._profiles)
        return {}

    def _limits(self, streams: int) -> PackingLimits:
        if self._profiles:
            return limits_of(self._profiles, SLOTS, streams)
        # Rows of one length, one pair each: nothing is padded, and a score is the same in every company.
        return PackingLimits(TOKENS_PER_RUN, pairs_per_row=1, minimum_fill=1.0, streams=streams)

    def run(self, batch: Batch, side_by_side: bool = False) -> FloatArray:
        """See ``Session.run``."""
        session = self._side_by_side if side_by_side else self._alone
        if session is None:
            raise ModernRankError("this session is closed; load the artifact again")
        run = shaped(batch, self._profiles) if self._profiles else batch
        rows, tokens = batch.input_ids.shape
        large = batch.input_ids.size > LARGE_RUN_TOKENS
        feeds = {name: ids.astype(self._types[name], copy=False) for name, ids in self._feeds(run).items()}
        try:
            if self._bound:
                logits = self._bound.run(feeds)
            else:
                (logits,) = session.run(None, feeds, self._large_run_options if large else None)
        except self._run_errors as error:
            raise ModernRankError(f"ONNX Runtime failed on a batch of {rows} x {tokens} tokens: {error}") from error
        every = np.asarray(logits, np.float32).reshape(len(run.input_ids), run.slots, -1)
        return every[:rows, : batch.slots]

    def close(self) -> None:
        """See ``Session.close``."""
        self._alone = self._side_by_side = self._bound = None


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
    use_int8_kernel(options, kernel)
    options.log_severity_level = 3  # errors; what matters is raised
    return options


def use_int8_kernel(options: Any, kernel: str) -> None:
    """Have a session's int8 products run by ``kernel``, one of ``processor``'s."""
    if kernel == EXACT_EVERYWHERE:
        options.add_session_config_entry("session.x64quantprecision", "1")


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
