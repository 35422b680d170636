"""Load one artifact with ONNX Runtime's CUDA provider on the stubs, run it, and write what happened as JSON.

    LD_LIBRARY_PATH=STUBS PYTHONPATH=ONNXRUNTIME:TESTS python tests/placement/measure.py ARTIFACT PRECISION OUT.json

It runs in a process of its own, because the loader reads ``LD_LIBRARY_PATH`` when a process starts. The parent reads
from standard output which attention kernels ONNX Runtime chose, below a line with the shape that runs.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import numpy as np

from modernrank import BackendError, GpuOptions, LoadOptions, ModernRankError, Scorer
from modernrank.arrays import IntArray
from modernrank.artifact.folder import Artifact
from modernrank.backends.onnxruntime.provider_options import cuda_options
from modernrank.backends.open import open_backend
from modernrank.batching.batch import Batch, PlannedBatch, assemble
from modernrank.options import PrecisionName
from placement.gpu import StubGpu
from placement.versions import ANNOUNCEMENT

# Rows, tokens. The first profile has a graph and a session for short rows, the second one those for long rows.
SHAPES = ((64, 512), (4, 8192))  # the largest that the default profiles accept
SMALLEST = ((1, 64), (1, 576))
SMALL_SHAPES = ((64, 64), (8, 512), (1, 4096))  # the largest that become CUDA graphs
PLENTY = 60 * 2**30  # bytes of device memory
# Of the session for short rows, and of that for long ones. The second shape is one in whose third run ONNX Runtime
# allocates, with the tiny model in float16.
MANY_SHAPES = [[(rows, 64) for rows in (1, 2, 3, 4, 6, 8, 12, 16)], [(1, 64 * n) for n in range(9, 17)]]
RUNS = 4  # of a shape: ONNX Runtime may still allocate in the third one
TOO_LITTLE = 20 * 2**20  # bytes of device memory besides the weights: enough for 1 x 64, and not for 64 x 512


def counted(gpu: StubGpu) -> dict[str, Any]:
    """What the GPU counted since the last call."""
    answer = {"counts": gpu.counts(), "kernels": gpu.kernels(), "messages": gpu.messages()}
    gpu.reset()
    return answer


def announce(shape: str) -> None:
    """Say on standard output what the kernels that ONNX Runtime names next belong to."""
    print(f"{ANNOUNCEMENT}{shape}", flush=True)


def placement(graph: Path) -> dict[str, dict[str, int]]:
    """The number of nodes by execution provider and operator, from ONNX Runtime's profile of a run."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.enable_profiling = True
    options.log_severity_level = 3
    ids = np.ones((2, 128), np.int64)
    slots = np.arange(1, 33, dtype=np.int64)
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = f"{folder}/profile"
        session = ort.InferenceSession(str(graph), options, providers=[("CUDAExecutionProvider", cuda_options(0))])
        session.run(None, {"input_ids": ids, "position_ids": ids, "segment_ids": ids, "slots": slots})
        profile = json.loads(Path(session.end_profiling()).read_text())
    nodes: dict[str, Counter[str]] = {}
    for event in profile:
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time"):
            place = event["args"]
            nodes.setdefault(place["provider"], Counter())[place["op_name"]] += 1
    return {provider: dict(sorted(operators.items())) for provider, operators in nodes.items()}


def with_cuda_graphs(folder: Path, precision: PrecisionName, gpu: StubGpu) -> dict[str, Any]:
    """What loading with CUDA graphs does, then each of three runs of one shape; or why CUDA graphs are refused.

    The last run is called by another thread: ONNX Runtime keeps graphs for each thread that calls it.
    """
    options = LoadOptions(provider="cuda", precision=precision, gpu=GpuOptions(cuda_graphs=True))
    try:
        scorer = Scorer.load(folder, options)
    except ModernRankError as error:
        return {"refused": str(error)}
    with scorer, ThreadPoolExecutor(1) as one_thread, ThreadPoolExecutor(1) as another:
        answer: dict[str, Any] = {"provider": scorer.info.execution_provider, "load": counted(gpu), "runs": {}}
        for rows, tokens in SMALLEST:
            runs = answer["runs"][f"{rows}x{tokens}"] = []
            announce(f"{rows}x{tokens}")
            for thread in (one_thread, one_thread, another):
                thread.submit(scorer.score, pairs_of(rows, tokens)).result()
                runs.append(counted(gpu))
    return answer


def several_cuda_graphs(folder: Path, precision: PrecisionName, gpu: StubGpu) -> list[dict[str, Any]]:
    """What the first runs of several shapes do, in turn, and then the second ones."""
    options = LoadOptions(provider="cuda", precision=precision, gpu=GpuOptions(cuda_graphs=True))
    announce("several")
    answer = []
    with Scorer.load(folder, options) as scorer:
        gpu.reset()
        for rows, tokens in SMALL_SHAPES * 2:
            scorer.score(pairs_of(rows, tokens))
            answer.append(counted(gpu))
    return answer


def many_cuda_graphs(folder: Path, precision: PrecisionName, gpu: StubGpu) -> dict[str, Any]:
    """What happens while many shapes are captured, one after the other."""
    options = LoadOptions(provider="cuda", precision=precision, gpu=GpuOptions(cuda_graphs=True))
    announce("many")
    with Scorer.load(folder, options) as scorer:
        gpu.reset()
        for rows, tokens in itertools.chain(*MANY_SHAPES):
            scorer.score(pairs_of(rows, tokens))
        return counted(gpu)


def both_sessions_at_once(folder: Path, precision: PrecisionName, gpu: StubGpu) -> dict[str, Any]:
    """What happens while both sessions capture shapes in turn, each called by its own thread.

    The batches go to the backend itself, because the queue would join those of two calls.
    """
    options = LoadOptions(provider="cuda", precision=precision, gpu=GpuOptions(cuda_graphs=True))
    announce("at once")
    backend = open_backend(Artifact.open(folder), options)
    with closing(backend), ThreadPoolExecutor(2) as threads:
        gpu.reset()
        for short, long in zip(*MANY_SHAPES, strict=True):
            at_once = [threads.submit(backend.run, batch_of(*shape)) for shape in (short, long)]
            for future in at_once:
                future.result()
        return counted(gpu)


def batch_of(rows: int, tokens: int) -> Batch:
    """A batch of this shape, with one pair in each row."""
    planned = PlannedBatch(tuple((row,) for row in range(rows)), tokens)
    return assemble(planned, pairs_of(rows, tokens), pad_token_id=0)


def pairs_of(rows: int, tokens: int) -> list[IntArray]:
    """Token ids of different pairs that fill a batch of this shape."""
    return [np.full(tokens, 3 + row, np.int64) for row in range(rows)]


def of_shapes(folder: Path, options: LoadOptions, gpu: StubGpu) -> dict[str, Any]:
    """What loading does, then the first runs of one large shape, without CUDA graphs; by shape."""
    is_limited = options.gpu.memory_limit is not None
    return {
        shape: of_shape(folder, options, rows, tokens, gpu, f"{shape} limited" if is_limited else shape)
        for rows, tokens in SHAPES
        for shape in [f"{rows}x{tokens}"]
    }


def of_shape(folder: Path, options: LoadOptions, rows: int, tokens: int, gpu: StubGpu, name: str) -> dict[str, Any]:
    """What loading does, then the first runs of one large shape, without CUDA graphs."""
    gpu.reset()
    answer: dict[str, Any] = {"bytes_before": gpu.counts()["bytes"], "runs": []}
    with Scorer.load(folder, options) as scorer:
        answer["load"] = counted(gpu)
        answer["planned"] = [(len(batch.rows), batch.width) for batch in scorer.plan([tokens] * rows).batches]
        announce(name)
        for _ in range(RUNS):
            scorer.score(pairs_of(rows, tokens))
            answer["runs"].append(counted(gpu))
    return answer | {"bytes_after": gpu.counts()["bytes"]}


def beyond_the_limit(folder: Path, precision: PrecisionName, weights: int) -> dict[str, Any]:
    """The error of a batch for which the memory does not suffice, and whether a smaller one runs afterwards."""
    rows, tokens = SHAPES[0]
    options = LoadOptions(provider="cuda", precision=precision, gpu=GpuOptions(memory_limit=weights + TOO_LITTLE))
    with Scorer.load(folder, options) as scorer:
        try:
            scorer.score(pairs_of(rows, tokens))
        except BackendError as error:
            return {"error": error.details, "small": scorer.score(pairs_of(1, 64)).shape}
    return {"error": None}


def measure(folder: Path, precision: PrecisionName) -> dict[str, Any]:
    """Everything that the tests assert."""
    import onnxruntime as ort

    gpu = StubGpu("libcudart.so.13")
    options = LoadOptions(provider="cuda", precision=precision)
    limited = LoadOptions(provider="cuda", precision=precision, gpu=GpuOptions(memory_limit=PLENTY))
    (graph,) = [graph for graph in Artifact.open(folder).manifest.graphs if graph.precision == precision]
    assert graph.short is not None
    nodes = {"short": placement(folder / graph.short), "long": placement(folder / graph.file)}
    gpu.reset()
    cuda_graphs = with_cuda_graphs(folder, precision, gpu)
    several = [] if "refused" in cuda_graphs else several_cuda_graphs(folder, precision, gpu)
    many = {} if "refused" in cuda_graphs else many_cuda_graphs(folder, precision, gpu)
    at_once = {} if "refused" in cuda_graphs else both_sessions_at_once(folder, precision, gpu)
    shapes, with_limit = of_shapes(folder, options, gpu), of_shapes(folder, limited, gpu)
    weights = max(measured["load"]["counts"]["bytes"] for measured in with_limit.values())
    announce("beyond the limit")
    return {
        "onnxruntime": ort.__version__,
        "nodes": nodes,
        "cuda_graphs": cuda_graphs,
        "several_cuda_graphs": several,
        "many": many,
        "at_once": at_once,
        "shapes": shapes,
        "with_limit": with_limit,
        "beyond_the_limit": beyond_the_limit(folder, precision, weights),
    }


if __name__ == "__main__":
    Path(sys.argv[3]).write_text(json.dumps(measure(Path(sys.argv[1]), cast(PrecisionName, sys.argv[2]))))
