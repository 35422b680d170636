"""Open the session that an artifact and a provider call for, on one device or several."""

from __future__ import annotations

from contextlib import ExitStack

from modernrank.artifact.folder import Artifact
from modernrank.errors import InputError, ProviderError
from modernrank.host import available_threads
from modernrank.options import GpuSettings

from .base import Session, SessionInfo
from .multi_device import SpreadSession
from .registry import PROVIDERS, Provider, choose_provider

LANES = 2  # streams of a GPU: one batch is packed and copied while another runs


def open_session(
    artifact: Artifact,
    provider: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    streams: int | None = None,
    gpu: GpuSettings | None = None,
) -> Session:
    """See ``Reranker.load`` for the arguments and errors."""
    gpu = gpu or GpuSettings()
    usable = usable_providers(artifact, precision)
    if provider == "auto" and not usable:
        if usable_providers(artifact):
            raise artifact.has_no(precision)
        raise ProviderError(
            f"no provider can run this artifact: {artifact.folder} is for TensorRT and has no engine yet; build one: "
            "modernrank tensorrt ARTIFACT"
        )
    chosen = choose_provider(provider, usable)
    threads = available_threads() if threads is None else positive("threads", threads)
    if streams is not None:
        positive("streams", streams)
    numbers = gpu.check(chosen.name, chosen.on_gpu, not chosen.execution_provider, streams)
    sessions: list[Session] = []
    with ExitStack() as opened:  # what is open is closed if a later one fails
        for device in numbers:
            if chosen.execution_provider:
                session = _onnxruntime(artifact, chosen, precision, threads, streams, device, gpu)
            else:
                session = _tensorrt(artifact, chosen, precision, threads, streams, device, gpu)
            opened.callback(session.close)
            sessions.append(session)
        opened.pop_all()
    return sessions[0] if len(sessions) == 1 else SpreadSession(sessions)


def usable_providers(artifact: Artifact, precision: str | None = None) -> set[str]:
    """Names of the providers that the artifact has a graph for, and of engines' libraries only where it has engines.

    Args:
        artifact: its manifest is read.
        precision: only graphs and engines of this one, or for ``"auto"`` of those that it may take; None for any.
    """
    manifest = artifact.manifest
    wanted = manifest.auto_precisions() if precision == "auto" else [precision]
    engines = [engine for engine in manifest.engines if precision is None or engine.precision in wanted]
    graphs = [graph for graph in manifest.graphs if precision is None or graph.precision in wanted]
    return {engine.library for engine in engines} | {
        name for graph in graphs for name in graph.providers if PROVIDERS[name].execution_provider
    }


def positive(name: str, value: int) -> int:
    """``value``, if it is a whole number of at least 1.

    Raises:
        InputError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name} is {value!r}; it must be a whole number of at least 1")
    return value


def _onnxruntime(
    artifact: Artifact,
    provider: Provider,
    precision: str,
    threads: int,
    streams: int | None,
    device: int,
    gpu: GpuSettings,
) -> Session:
    from modernrank.backends.onnxruntime.cpu import OnnxRuntimeSession

    if streams is None:
        streams = 1 if provider.on_gpu else threads
    if streams > threads:
        raise InputError(f"streams {streams} is above the {threads} threads that they share; lower it")
    graph = artifact.graph(precision, provider.name)
    artifact.check_files(artifact.files_of(graph))
    model = artifact.manifest.model
    return OnnxRuntimeSession(
        artifact.folder,
        graph,
        provider,
        threads,
        len(model.labels),
        streams,
        device=device,
        longest=model.max_length,
        gpu=gpu,
    )


def _tensorrt(
    artifact: Artifact,
    provider: Provider,
    precision: str,
    threads: int,
    streams: int | None,
    device: int,
    gpu: GpuSettings,
) -> Session:
    from modernrank.backends.cuda.api import open_cuda
    from modernrank.backends.tensorrt.backend import GRAPHS, TensorRtSession
    from modernrank.backends.tensorrt.engine_choice import choose_engine
    from modernrank.backends.tensorrt.library import TensorRtEngine, load_library

    manifest = artifact.manifest
    library, version = provider.name, str(load_library(provider.name).__version__)
    cuda = open_cuda(device)
    cuda.activate()
    record = choose_engine(manifest, library, version, cuda.compute_capability, precision)
    artifact.check_files([record.file, manifest.tokenizer.file])
    graph = next(graph for graph in manifest.graphs if graph.file == record.graph)
    engine = TensorRtEngine(library, artifact.folder / record.file, record.profiles, record.slots)
    info = SessionInfo(
        provider=provider.name,
        runtime=f"{engine.runtime}, {cuda.library}",
        execution_provider="",
        precision=record.precision,
        graph=graph.dialect,
        threads=threads,
        streams=1 if gpu.cuda_stream is not None else (streams or LANES),
        devices=(f"{device}: {cuda.name}",),
    )
    if gpu.cuda_graphs and not cuda.has_graphs:
        raise ProviderError(f"cuda_graphs was asked for, but {cuda.library} captures none: pip install cuda-bindings")
    graphs = 0 if gpu.cuda_graphs is False else GRAPHS
    return TensorRtSession(engine, cuda, info, len(manifest.model.labels), graphs, gpu.cuda_stream)
