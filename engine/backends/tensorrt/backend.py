"""TensorRT engines, without ONNX Runtime: a backend that shares its lanes among callers."""

from __future__ import annotations

import logging
import queue
from contextlib import ExitStack

from modernrank.arrays import FloatArray
from modernrank.artifact.folder import Artifact
from modernrank.backends.base import Backend, BackendInfo
from modernrank.backends.cuda.api import Cuda
from modernrank.backends.cuda.choose import open_cuda
from modernrank.backends.profiles import fit, policy_of, rounded
from modernrank.batching.batch import Batch
from modernrank.batching.policy import BatchPolicy
from modernrank.errors import ClosedError, ProviderError
from modernrank.host import available_threads
from modernrank.options import LoadOptions

from .engine_choice import choose_engine, differs_from
from .lane import RUNS_BEFORE_CAPTURE, Lane, Shape
from .library import DeviceEngine, TensorRtEngine, load_library

logger = logging.getLogger(__name__)

LANES = 2  # lanes of a GPU: one batch is packed and copied while another runs
MAX_CUDA_GRAPHS = 64  # maximum in a lane; small shapes that occur are a few dozen


def open_engine(artifact: Artifact, library: str, options: LoadOptions, device: int) -> Backend:
    """Open the artifact's engine of ``library`` on the GPU number ``device``.

    Raises:
        ArtifactError: no engine fits this library, version, GPU and precision.
        ProviderError: the library or a CUDA library is missing, or does not support CUDA graphs, which were requested.
    """
    manifest, gpu = artifact.manifest, options.gpu
    version = str(load_library(library).__version__)
    cuda = open_cuda(device, bool(gpu.sleep_while_waiting))
    if gpu.cuda_graphs and not cuda.has_graphs:
        raise ProviderError(
            f"cuda_graphs was requested, but {cuda.library} does not support them; pip install cuda-bindings",
            provider=library,
        )
    record = choose_engine(manifest, library, version, cuda.compute_capability, options.precision)
    if warning := differs_from(record, cuda.name, cuda.multiprocessors):
        logger.warning(warning)
    artifact.check_files([record.file, manifest.tokenizer.file])  # always: an engine is native code
    with cuda.active():
        engine = TensorRtEngine(
            library,
            artifact.folder / record.file,
            record.profiles,
            record.slots,
            options=record.options,
            cuda_graphs=gpu.cuda_graphs is not False,
            cache=options.cache,
        )
    info = BackendInfo(
        provider=library,
        runtime=f"{engine.runtime}, {cuda.library}",
        execution_provider="",
        precision=record.precision,
        graph=next(graph.dialect for graph in manifest.graphs if graph.file == record.graph),
        threads=options.cpu.threads or available_threads(),
        workers=1 if gpu.cuda_stream is not None else (options.cpu.workers or LANES),
        devices=(f"{device}: {cuda.name}",),
    )
    max_cuda_graphs = 0 if gpu.cuda_graphs is False else MAX_CUDA_GRAPHS
    return TensorRtBackend(engine, cuda, info, len(manifest.model.labels), max_cuda_graphs, gpu.cuda_stream)


class TensorRtBackend(Backend):
    """Runs an engine. Several threads may call ``run`` at once: each takes a lane when one is idle.

    Args:
        engine: on the GPU of ``cuda``.
        cuda: the GPU.
        info: of the engine, with ``workers`` as the number of lanes.
        labels: the number of the model's labels.
        max_cuda_graphs: maximum number of CUDA graphs that a lane keeps; the least recently used one is dropped first.
            0 for none.
        stream: the caller's own CUDA stream, which the only lane then uses.

    Raises:
        BackendError: the GPU has too little memory.
    """

    def __init__(
        self,
        engine: DeviceEngine,
        cuda: Cuda,
        info: BackendInfo,
        labels: int,
        max_cuda_graphs: int = MAX_CUDA_GRAPHS,
        stream: int | None = None,
    ) -> None:
        self._info = info
        # Batches that come one after the other go to the lanes in turns, so this makes the CUDA graph of each lane.
        self._policy = policy_of(engine.profiles, engine.slots, info.workers, RUNS_BEFORE_CAPTURE * info.workers)
        self._engine, self._cuda = engine, cuda
        self._idle: queue.SimpleQueue[Lane | None] = queue.SimpleQueue()
        self._lanes: list[Lane] = []
        can_capture = cuda.has_graphs and not engine.captures_itself
        with cuda.active(), ExitStack() as opened:  # what is open is freed if a later one fails
            opened.callback(engine.close)
            for _ in range(info.workers):
                lane = Lane(engine, cuda, labels, max_cuda_graphs if can_capture else 0, stream)
                opened.callback(lane.free)
                lane.allocate()
                self._lanes.append(lane)
            opened.pop_all()
        for lane in self._lanes:
            self._idle.put(lane)

    @property
    def info(self) -> BackendInfo:
        return self._info

    @property
    def policy(self) -> BatchPolicy:
        return self._policy

    def run(self, batch: Batch, side_by_side: bool = False) -> FloatArray:
        shape = self._shape(*batch.input_ids.shape)
        lane = self._idle.get()
        if lane is None:
            self._idle.put(None)  # for the next caller that waits
            raise ClosedError("the model is closed; load the artifact again")
        try:
            with self._cuda.active():
                return lane.run(batch, shape)
        finally:
            self._idle.put(lane)

    def close(self) -> None:
        """Free the engine, after the batches that have begun."""
        lanes, self._lanes = self._lanes, []
        if not lanes:  # closed already, or another thread is closing it
            return
        try:
            for _ in lanes:  # wait for each until its batch has ended
                self._idle.get()
            with self._cuda.active(), ExitStack() as closing:  # everything, even if a part fails
                closing.callback(self._engine.close)
                for lane in lanes:
                    closing.callback(lane.free)
        finally:
            self._idle.put(None)

    def _shape(self, rows: int, tokens: int) -> Shape:
        index = fit(self._engine.profiles, rows, tokens)
        return (index, *rounded(self._engine.profiles[index], rows, tokens))
