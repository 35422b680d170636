"""What ONNX Runtime's sessions on processors and GPUs share: import, options, loading, inputs, errors."""

from __future__ import annotations

import ctypes
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np

from modernrank.artifact.manifest import OnnxGraph
from modernrank.backends.provider import Provider
from modernrank.batching.batch import Batch
from modernrank.errors import ArtifactError, BackendError, ProviderError

from .int8_kernel import EXACT_EVERYWHERE
from .telemetry import disable_telemetry

logger = logging.getLogger(__name__)

# From 1.24 to 1.29 the option for the exact int8 kernel has no effect, so scores are silently wrong on processors
# without VNNI; 1.23 cannot load int8 graphs at all.
MINIMUM_VERSION = (1, 30)
INDEX_TYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}


def import_onnxruntime(provider: Provider) -> Any:
    """The module ``onnxruntime``; imported here, so that ``import modernrank`` does not need it.

    Raises:
        ProviderError: it is not installed, its shared libraries cannot be loaded, or it is too old.
    """
    disable_telemetry()
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise ProviderError(
            f"ONNX Runtime cannot be imported ({error}). To get it: {provider.install}", provider=provider.name
        ) from error
    version = tuple(int(part) for part in re.findall(r"\d+", ort.__version__)[:2])
    if version < MINIMUM_VERSION:
        minimum = ".".join(map(str, MINIMUM_VERSION))
        raise ProviderError(
            f"modernrank requires onnxruntime {minimum} or newer, but {ort.__version__} is installed, whose int8 is "
            "wrong on some processors; upgrade it: pip install --upgrade onnxruntime",
            provider=provider.name,
            installed=ort.__version__,
            minimum=minimum,
        )
    return ort


def session_options(ort: Any, threads: int, kernel: str = "") -> Any:
    """Options of a session with ``threads`` threads, whose int8 products use ``kernel``."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Shapes change from batch to batch: a memory pattern for each would be planned, kept and rarely used again.
    options.enable_mem_pattern = False
    # Threads may spin for work within a batch, where operators follow each other within microseconds, and sleep as soon
    # as it ends: an idle service uses no processor time.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    use_int8_kernel(options, kernel)
    options.log_severity_level = 3  # errors only; what matters is raised
    return options


def use_int8_kernel(options: Any, kernel: str) -> None:
    """Make a session use ``kernel`` for int8 products: one of the results of ``int8_kernel``."""
    if kernel == EXACT_EVERYWHERE:
        options.add_session_config_entry("session.x64quantprecision", "1")


def load_session(
    ort: Any, folder: Path, graph: OnnxGraph, provider: Provider, chosen: dict[str, Any], options: Any
) -> Any:
    """Load one graph.

    Args:
        ort: the module ``onnxruntime``.
        folder: the artifact's folder.
        graph: which of its graphs.
        provider: what it must run on.
        chosen: options of the execution provider.
        options: of the session.

    Raises:
        ArtifactError: ONNX Runtime cannot load the graph.
        ProviderError: ONNX Runtime would run it on another execution provider.
    """
    file = folder / graph.file
    weights = _read_scattered_weights(folder, graph, options)
    try:
        session = ort.InferenceSession(str(file), options, providers=[(provider.execution_provider, chosen)])
    except runtime_errors(ort) as error:
        raise ArtifactError(f"ONNX Runtime {ort.__version__} cannot load {file}: {error}", path=file) from error
    running = session.get_providers()[0]
    if running != provider.execution_provider:
        reason = _loader_error(ort, provider)
        raise ProviderError(
            f"provider {provider.name!r} was requested, but ONNX Runtime {ort.__version__} would run on {running} "
            f"without {provider.execution_provider}{f' ({reason})' if reason else ''}. To get it: {provider.install}",
            provider=provider.name,
            running=running,
        )
    session.weights = weights  # must live as long as the session, which goes on reading them
    return session


def _loader_error(ort: Any, provider: Provider) -> str:
    """What the system's loader says of the library of an execution provider; "" if nothing is missing.

    ONNX Runtime itself only prints it. Most often a library of CUDA is on no path.
    """
    name = provider.execution_provider.removesuffix("ExecutionProvider").lower()
    for library in Path(ort.__file__).parent.glob(f"capi/*onnxruntime_providers_{name}.*"):
        try:
            ctypes.CDLL(str(library))
        except OSError as error:
            return str(error)
    return ""


def _read_scattered_weights(folder: Path, graph: OnnxGraph, options: Any) -> np.ndarray[Any, Any] | None:
    """Read the weights into memory if they are a link into another folder than the graph's file.

    ONNX Runtime maps weights into memory, but only those whose real path is in the real folder of the graph. Caches
    that store each file under its hash (DVC, git-annex, Nix, Bazel) link elsewhere. Reading them takes more time and
    memory (``docs/decisions/0009-weights-are-mapped.md``).
    """
    if graph.data is None or len({(folder / name).resolve().parent for name in graph.files}) == 1:
        return None
    logger.info("reading %s into memory: it is a link into another folder than %s", graph.data, graph.file)
    weights = np.fromfile(folder / graph.data, np.uint8)
    options.add_external_initializers_from_files_in_memory([graph.data], [weights], [weights.nbytes])
    return weights


def check_labels(session: Any, labels: int, file: Path) -> None:
    """Refuse a graph whose number of labels is not the manifest's.

    Raises:
        ArtifactError: the two numbers differ.
    """
    outputs = session.get_outputs()[0].shape[-1]
    if isinstance(outputs, int) and outputs != labels:
        raise ArtifactError(f"{file} has {outputs} labels, but the manifest names {labels}; export again", path=file)


class Inputs:
    """Turns batches into the inputs of a session, by name and in the session's integer types."""

    def __init__(self, session: Any, layout: str) -> None:
        self._make = packed_inputs if layout == "packed" else padded_inputs
        self._types = {entry.name: INDEX_TYPES[entry.type] for entry in session.get_inputs()}

    def of(self, batch: Batch) -> dict[str, Any]:
        """The inputs of one batch."""
        return {name: ids.astype(self._types[name], copy=False) for name, ids in self._make(batch).items()}


def packed_inputs(batch: Batch) -> dict[str, Any]:
    """The inputs of a packed graph, by name."""
    return {
        "input_ids": batch.input_ids,
        "position_ids": batch.position_ids,
        "segment_ids": batch.segment_ids,
        "slots": np.arange(1, batch.slots + 1, dtype=np.int64),
    }


def padded_inputs(batch: Batch) -> dict[str, Any]:
    """The inputs of a graph with one pair in a row and an attention mask, as other exporters write it."""
    return {"input_ids": batch.input_ids, "attention_mask": (batch.segment_ids > 0).astype(np.int64)}


def batch_error(batch: Batch, error: Exception) -> BackendError:
    """The error of a batch that ONNX Runtime could not run."""
    rows, tokens = batch.input_ids.shape
    remedy = ""
    if "allocate memory" in str(error):
        remedy = "; the device has too little free memory: score shorter pairs (max_length=..), or use another device"
    return BackendError(
        f"ONNX Runtime failed on a batch of {rows} x {tokens} tokens: {error}{remedy}", rows=rows, tokens=tokens
    )


def runtime_errors(ort: Any) -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises for a graph that it cannot load or run."""
    names = (
        "Fail",
        "InvalidGraph",
        "InvalidProtobuf",
        "NoSuchFile",
        "NotImplemented",
        "InvalidArgument",
        "RuntimeException",
        "EPFail",
        "NoModel",
    )
    state: Any = ort.capi.onnxruntime_pybind11_state
    return tuple(getattr(state, name) for name in names)
