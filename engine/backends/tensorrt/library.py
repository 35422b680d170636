"""Engines of TensorRT, and of TensorRT-RTX, which has the same API under another name."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

from modernrank.artifact.manifest import Profile
from modernrank.errors import ArtifactError, BackendError, ModernRankError, ProviderError

from .log import first_error, runtime_log
from .runtime_cache import RuntimeCache

T = TypeVar("T")

# The Python modules of each library; the first that is installed is used.
MODULES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"tensorrt": ("tensorrt",), "tensorrt-rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings")}
)
INSTALL: Mapping[str, str] = MappingProxyType(
    {
        "tensorrt": "pip install tensorrt (it downloads NVIDIA's libraries from NVIDIA's own package index)",
        "tensorrt-rtx": "pip install 'modernrank[tensorrt-rtx]'",
    }
)
# The library that TensorRT misses where an engine is compatible between versions, and the remedy.
LEAN_LIBRARY = "nvinfer_lean"
LEAN = "it requires TensorRT's lean runtime: pip install tensorrt-lean, of the version that builds or runs the engine"


class DeviceContext(Protocol):
    """An engine set to one of its profiles, with scratch memory of its own."""

    def set_input(self, name: str, address: int, shape: tuple[int, ...]) -> None:
        """Set the address and the shape of an input."""
        ...

    def set_output(self, name: str, address: int) -> None:
        """Set the address of an output."""
        ...

    def enqueue(self, stream: int) -> None:
        """Start the work in a stream.

        Raises:
            BackendError: TensorRT refuses it.
        """
        ...

    def can_capture(self, stream: int) -> bool:
        """Whether ``enqueue``, with the shapes and addresses that are set, can be captured in a stream."""
        ...


class DeviceEngine(Protocol):
    """An engine on a GPU: int32 ``[rows, tokens]`` and ``[slots]`` in, float32 ``[rows, slots, labels]`` out."""

    runtime: str  # "tensorrt 11.0.0"
    profiles: tuple[Profile, ...]
    slots: int
    captures_itself: bool  # whether the library makes CUDA graphs by itself, as TensorRT-RTX does

    def scratch(self, profile: int) -> int:
        """Bytes that a context of a profile needs while it runs."""
        ...

    def context(self, profile: int, scratch: int, size: int, stream: int) -> DeviceContext:
        """A context of a profile that works in the ``size`` bytes at ``scratch``."""
        ...

    def close(self) -> None:
        """Keep what was compiled while it ran, and free the engine. Its contexts must have been freed before."""
        ...


def find_library(library: str) -> Any | None:
    """The Python module of ``"tensorrt"`` or ``"tensorrt-rtx"``, or None if it is not installed.

    Raises:
        ProviderError: it is installed but cannot be imported.
    """
    for name in MODULES[library]:
        if importlib.util.find_spec(name) is None:
            continue
        try:
            return importlib.import_module(name)
        except (ImportError, OSError, RuntimeError) as error:  # its shared libraries may be missing
            raise ProviderError(
                f"{library} is installed but cannot be imported ({error}): {INSTALL[library]}", provider=library
            ) from error
    return None


def load_library(library: str) -> Any:
    """The Python module of a library.

    Raises:
        ProviderError: it is not installed, or cannot be imported.
    """
    module = find_library(library)
    if module is None:
        raise ProviderError(f"{library} is not installed. To get it: {INSTALL[library]}", provider=library)
    return module


class TensorRtEngine(DeviceEngine):
    """An engine that is loaded on the GPU of the calling thread, which must be in a block of ``Cuda.active``.

    Args:
        library: ``"tensorrt"`` or ``"tensorrt-rtx"``.
        file: the engine. It must have been checked against its hash, because it is native code.
        profiles: that it was built for.
        slots: the number of pairs in a row.
        options: of the engine's record. Only one that is ``version_compatible`` may bring its own runtime.
        cuda_graphs: whether TensorRT-RTX captures CUDA graphs by itself; TensorRT never does.
        cache: folder for the kernels that TensorRT-RTX compiles while it runs; None for the user's cache folder.

    Raises:
        ProviderError: TensorRT cannot start, or it does not support this GPU.
        ArtifactError: TensorRT cannot load the file.
        BackendError: the GPU has too little memory.
    """

    def __init__(
        self,
        library: str,
        file: Path,
        profiles: Sequence[Profile],
        slots: int,
        *,
        options: Sequence[str] = (),
        cuda_graphs: bool = True,
        cache: Path | None = None,
    ) -> None:
        self._trt = load_library(library)
        self._log = runtime_log(self._trt)
        self.runtime = f"{library} {self._trt.__version__}"
        self.profiles = tuple(profiles)
        self.slots = slots
        first_error(self._log)  # forgets those of another engine
        runtime, reason = self._try(lambda: self._trt.Runtime(self._log))
        if runtime is None:
            raise ProviderError(f"{self.runtime} cannot start: {reason}", provider=library)
        if "version_compatible" in options:
            runtime.engine_host_code_allowed = True  # such an engine holds the runtime of the version that built it
        content = file.read_bytes()
        engine, reason = self._try(lambda: runtime.deserialize_cuda_engine(content))
        if engine is None:
            raise self._load_error(library, file, reason, _diagnose(self._trt, runtime, content))
        if engine.num_optimization_profiles != len(profiles):
            raise ArtifactError(
                f"{file} has {engine.num_optimization_profiles} profiles, but the manifest has {len(profiles)}; "
                "build it again: modernrank build-engine"
            )
        self._runtime, self._engine = runtime, engine  # the runtime must live as long as its engine
        self._config: Any | None = None
        self._cache: RuntimeCache | None = None
        self.captures_itself = False
        if library == "tensorrt-rtx":
            self._configure(content, cuda_graphs, cache)

    def scratch(self, profile: int) -> int:
        return int(self._engine.get_device_memory_size_for_profile_v2(profile))

    def context(self, profile: int, scratch: int, size: int, stream: int) -> DeviceContext:
        strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        how = strategy if self._config is None else self._config
        context, reason = self._try(lambda: self._engine.create_execution_context(how))
        if context is None:
            raise BackendError(
                f"{self.runtime} cannot make an execution context: {reason}; the GPU may have too little free memory"
            )
        is_set, reason = self._try(lambda: context.set_optimization_profile_async(profile, stream))
        if not is_set:
            raise BackendError(f"{self.runtime} cannot set profile {self.profiles[profile]}: {reason}")
        context.set_device_memory(scratch, size)
        return _Context(context, self)

    def save(self) -> None:
        """Keep the kernels that TensorRT-RTX has compiled, for the next process. Call it in ``Cuda.active``."""
        if self._cache is not None:
            self._cache.save()

    def close(self) -> None:
        self.save()
        self._cache = self._config = self._engine = self._runtime = None

    def refusal(self, what: str, call: Callable[[], Any]) -> BackendError | None:
        """Why TensorRT refuses a call; None if it does not."""
        done, reason = self._try(call)
        return None if done else BackendError(f"{self.runtime} {what}: {reason}")

    def _configure(self, content: bytes, cuda_graphs: bool, cache: Path | None) -> None:
        """Settings of TensorRT-RTX's contexts.

        NONE: kernels that suit every shape, and no compiling for a shape when it is first seen. Shapes here are
        multiples of 64 tokens by up to 64 rows: EAGER would hold up the first batch of each of those hundreds, and LAZY
        changes kernels, and so the last bits of a score, at a time that nobody chooses.
        """
        trt = self._trt
        config, reason = self._try(self._engine.create_runtime_config)
        if config is None:
            raise BackendError(f"{self.runtime} cannot make a runtime configuration: {reason}")
        config.set_execution_context_allocation_strategy(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.NONE
        if hasattr(trt, "CudaGraphStrategy"):  # not in the first versions
            graphs = trt.CudaGraphStrategy
            config.cuda_graph_strategy = graphs.WHOLE_GRAPH_CAPTURE if cuda_graphs else graphs.DISABLED
            self.captures_itself = cuda_graphs
        self._config = config
        self._cache = RuntimeCache(config, content, str(trt.__version__), cache)

    def _try(self, call: Callable[[], T]) -> tuple[T | None, str]:
        """The result of a call of TensorRT's, or None and the reason.

        Its methods return None or False where they fail. Its constructors raise TypeError, because pybind makes no
        object of a null pointer, and some methods RuntimeError.
        """
        first_error(self._log)  # forgets those of calls that succeeded
        try:
            result = call()
        except (TypeError, RuntimeError) as error:
            return None, first_error(self._log, str(error).partition("\n")[0])
        failed = result is None or result is False
        return (None, first_error(self._log)) if failed else (result, "")

    def _load_error(self, library: str, file: Path, reason: str, diagnosis: str) -> ModernRankError:
        """The error for an engine that cannot be loaded, with what would help."""
        text = f"{self.runtime} cannot load {file}: {reason}"
        if diagnosis == "UNSUPPORTED_CC":
            return ProviderError(
                f"{self.runtime} does not support this GPU: {reason}; use provider 'tensorrt' or 'cuda'",
                provider=library,
            )
        if diagnosis in ("OLD_CUDA_DRIVER", "OLD_CUDA_RUNTIME", "CUDA_ERROR") or "driver version" in reason:
            return ProviderError(f"{text}; update the NVIDIA driver", provider=library)
        if diagnosis == "INSUFFICIENT_GPU_MEMORY" or "out of memory" in reason.lower():
            return BackendError(
                f"{text}; build an engine with smaller profiles (modernrank build-engine --profile short=16x512)",
                path=file,
            )
        if LEAN_LIBRARY in reason:
            return ArtifactError(f"{text}; {LEAN}", path=file)
        return ArtifactError(f"{text}; build it again: modernrank build-engine", path=file)


class _Context(DeviceContext):
    """A context of TensorRT."""

    def __init__(self, context: Any, engine: TensorRtEngine) -> None:
        self._context = context
        self._engine = engine

    def set_input(self, name: str, address: int, shape: tuple[int, ...]) -> None:
        self._check(f"refuses {name} of shape {shape}", lambda: self._context.set_input_shape(name, shape))
        self._check(f"refuses the address of {name}", lambda: self._context.set_tensor_address(name, address))

    def set_output(self, name: str, address: int) -> None:
        self._check(f"refuses the address of {name}", lambda: self._context.set_tensor_address(name, address))

    def enqueue(self, stream: int) -> None:
        self._check("could not start the batch", lambda: self._context.execute_async_v3(stream))

    def can_capture(self, stream: int) -> bool:
        is_capturable = getattr(self._context, "is_stream_capturable", None)  # TensorRT-RTX only
        return is_capturable is None or bool(is_capturable(stream))

    def _check(self, what: str, call: Callable[[], Any]) -> None:
        refusal = self._engine.refusal(what, call)
        if refusal is not None:
            raise refusal


def _diagnose(trt: Any, runtime: Any, content: bytes) -> str:
    """The first obstacle that TensorRT-RTX finds in an engine, by its own name; "" if it finds none or is TensorRT."""
    if not hasattr(runtime, "get_engine_validity"):
        return ""
    _, found = runtime.get_engine_validity(content)
    for obstacle in trt.EngineInvalidityDiagnostics.__members__.values():
        if int(found) & int(obstacle.value):
            return str(obstacle.name)
    return ""
