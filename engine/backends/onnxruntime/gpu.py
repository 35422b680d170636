"""ONNX Runtime on NVIDIA GPUs: batches in a few shapes, on buffers that stay on the device."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from modernrank.arrays import FloatArray
from modernrank.artifact.folder import Artifact
from modernrank.artifact.manifest import OnnxGraph, Profile
from modernrank.backends.base import Backend, BackendInfo
from modernrank.backends.cuda.driver import device_name
from modernrank.backends.profiles import SLOTS, default_profiles, fit, policy_of, rounded
from modernrank.backends.provider import Provider
from modernrank.batching.batch import Batch
from modernrank.batching.policy import BatchPolicy
from modernrank.errors import ClosedError, ProviderError
from modernrank.host import available_threads, cache_folder
from modernrank.options import GpuOptions, LoadOptions

from .capture_gate import GATE
from .io_binding import IoBindingRunner, run_errors
from .loading import (
    Inputs,
    batch_error,
    check_labels,
    import_onnxruntime,
    load_session,
    session_options,
)
from .provider_options import cuda_options, tensorrt_options

WORKERS = 2  # one batch is packed while another runs
Session = tuple[OnnxGraph, dict[str, Any]]  # a graph, and options of the execution provider


def open_gpu(artifact: Artifact, provider: Provider, options: LoadOptions, device: int) -> Backend:
    """Open the artifact's graph for ``provider`` on the GPU number ``device``."""
    graph = artifact.graph_to_run(options.precision, provider.dialects)
    artifact.check_files(artifact.files_of(graph), options.verify_files)
    profiles = default_profiles(artifact.manifest.model.max_length)
    if provider.name == "cuda":
        sessions = cuda_sessions(graph, profiles, options.gpu, device)
    else:
        sessions = tensorrt_sessions(graph, profiles, _engine_cache(artifact, graph, options.cache), device)
        for _, chosen in sessions:
            _make_folder(Path(chosen["trt_engine_cache_path"]))
    return OnnxRuntimeGpuBackend(artifact, sessions, provider, profiles, options, device)


def tensorrt_sessions(graph: OnnxGraph, profiles: Sequence[Profile], cache: Path, device: int) -> list[Session]:
    """One session and cache for each profile: ONNX Runtime's context stays on the first profile of an engine."""
    return [(graph, tensorrt_options(device, cache / profile.name, [profile])) for profile in profiles]


def cuda_sessions(graph: OnnxGraph, profiles: Sequence[Profile], gpu: GpuOptions, device: int) -> list[Session]:
    """One session for each profile if there is a graph for short rows, which is the first profile; else one for all.

    Each session holds the weights, so with a memory limit there is only one.
    """
    chosen = cuda_options(device, bool(gpu.cuda_graphs), gpu.memory_limit, bool(gpu.allow_tf32))
    if graph.short is None or gpu.memory_limit is not None:
        return [(graph, chosen)]
    short = replace(graph, file=graph.short, short=None)
    return [(short, chosen), *((graph, chosen) for _ in profiles[1:])]


def _engine_cache(artifact: Artifact, graph: OnnxGraph, cache: Path | None) -> Path:
    """A cache folder for what TensorRT compiles from this graph, outside the artifact, which may be read-only."""
    hashes = "".join(artifact.manifest.files[name].sha256 for name in graph.files)
    return (cache or cache_folder()) / "ort-tensorrt" / hashlib.sha256(hashes.encode()).hexdigest()[:16]


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ProviderError(
            f"cannot make the cache folder {folder}: {error.strerror}; choose another one with cache=, or set "
            "MODERNRANK_CACHE",
            path=folder,
        ) from error


class OnnxRuntimeGpuBackend(Backend):
    """Runs one graph of an artifact on a GPU. Few shapes occur, so that buffers, kernels and CUDA graphs are reused.

    Args:
        artifact: the folder and its manifest.
        sessions: the graph and the options of the execution provider of each: one for all profiles, or one for each.
        provider: ``"cuda"`` or ``"ort-tensorrt"``.
        profiles: the shapes that are run.
        options: threads, workers and CUDA graphs.
        device: number of the GPU.

    Raises:
        ProviderError: ONNX Runtime is missing or too old, or put the graph on another execution provider.
        ArtifactError: ONNX Runtime cannot load the graph, or it has another number of labels.
    """

    def __init__(
        self,
        artifact: Artifact,
        sessions: Sequence[Session],
        provider: Provider,
        profiles: Sequence[Profile],
        options: LoadOptions,
        device: int,
    ) -> None:
        ort = import_onnxruntime(provider)
        if hasattr(ort, "preload_dlls"):
            ort.preload_dlls()  # loads CUDA and cuDNN from where pip installed them
        threads, workers = options.cpu.threads or available_threads(), options.cpu.workers or WORKERS
        labels = len(artifact.manifest.model.labels)
        self._profiles = profiles
        self._errors = run_errors(ort)
        self._runners: list[IoBindingRunner] = []
        with ExitStack() as opened:  # what is open is closed if a later one fails
            for graph, chosen in sessions:
                with GATE.shared():
                    session = load_session(ort, artifact.folder, graph, provider, chosen, session_options(ort, threads))
                runner = IoBindingRunner(ort, session, labels, "cuda", device, bool(options.gpu.cuda_graphs))
                opened.callback(runner.close)
                check_labels(session, labels, artifact.folder / graph.file)
                self._inputs = Inputs(session, graph.layout)
                self._runners.append(runner)
                del session
            opened.pop_all()
        self._policy = policy_of(profiles, SLOTS, workers)
        self._info = BackendInfo(
            provider=provider.name,
            runtime=f"onnxruntime {ort.__version__}",
            execution_provider=provider.execution_provider,
            precision=graph.precision,
            graph=graph.dialect,
            threads=threads,
            workers=workers,
            devices=(f"{device}: {device_name(device)}",),
        )

    @property
    def info(self) -> BackendInfo:
        return self._info

    @property
    def policy(self) -> BatchPolicy:
        return self._policy

    def run(self, batch: Batch, side_by_side: bool = False) -> FloatArray:
        rows, tokens = batch.input_ids.shape
        runners, number = self._runners, fit(self._profiles, rows, tokens)
        if not runners:
            raise ClosedError("the model is closed; load the artifact again")
        runner = runners[number] if len(runners) > 1 else runners[0]
        padded = batch.padded(*rounded(self._profiles[number], rows, tokens), SLOTS)
        try:
            logits = runner.run(self._inputs.of(padded))
        except self._errors as error:
            raise batch_error(batch, error) from error
        return logits[:rows, : batch.slots]

    def close(self) -> None:
        runners, self._runners = self._runners, []
        with ExitStack() as closing:
            for runner in runners:
                closing.callback(runner.close)
