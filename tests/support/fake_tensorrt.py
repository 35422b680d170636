"""A stand-in for TensorRT and TensorRT-RTX that keeps the rules of their Python bindings.

- A constructor that gets a null pointer raises ``TypeError``; a method returns None or False, and the logger gets the
  reason first. ``set_optimization_profile_async`` raises ``RuntimeError`` (pyCore.cpp).
- An engine that brings its own runtime loads only where ``engine_host_code_allowed`` is set (NvInferRuntime.h).
- TensorRT-RTX's runtime cache rejects what it did not write for this GPU and version, and is set before a context is
  made. A context outlives neither its cache nor its engine.
"""

from __future__ import annotations

import enum
import importlib.machinery
import json
import sys
import types
import weakref
from typing import Any

import pytest

MAGIC = b"engine:"
NULL = "tensorrt.Runtime(): factory function returned nullptr"


class ILogger:
    """The base of a logger."""

    VERBOSE, INFO, WARNING, ERROR, INTERNAL_ERROR = range(5)

    def log(self, severity: int, message: str) -> None:
        raise NotImplementedError


class ExecutionContextAllocationStrategy(enum.Enum):
    """How a context gets its scratch memory."""

    STATIC = 0
    USER_MANAGED = 2


class CudaGraphStrategy(enum.Enum):
    """TensorRT-RTX's own CUDA graphs."""

    DISABLED = 0
    WHOLE_GRAPH_CAPTURE = 1


class DynamicShapesKernelSpecializationStrategy(enum.Enum):
    """When TensorRT-RTX compiles kernels for one shape."""

    LAZY = 0
    EAGER = 1
    NONE = 2


class EngineInvalidityDiagnostics(enum.Enum):
    """Bits, with TensorRT-RTX's numbers."""

    VERSION_MISMATCH = 1
    UNSUPPORTED_CC = 2
    OLD_CUDA_DRIVER = 4
    INSUFFICIENT_GPU_MEMORY = 16
    MALFORMED_ENGINE = 32


def engine_file(profiles: int = 1, **properties: Any) -> bytes:
    """An engine. ``lean``: it brings its own runtime. ``refused``: what the logger gets when it is loaded.

    ``diagnosis``: of TensorRT-RTX. ``scratch``: bytes of each profile.
    """
    return MAGIC + json.dumps({"profiles": profiles, "scratch": [1000] * profiles, **properties}).encode()


class IRuntimeCache:
    """What was compiled: one entry for each profile that has run."""

    def __init__(self, trt: FakeTensorRt) -> None:
        self.trt = trt
        self.kernels: list[int] = []

    def serialize(self) -> bytes:
        return json.dumps({"gpu": self.trt.gpu, "version": self.trt.__version__, "kernels": self.kernels}).encode()

    def deserialize(self, blob: bytes) -> bool:
        try:
            content = json.loads(bytes(blob))
        except ValueError:
            return False
        if (content["gpu"], content["version"]) != (self.trt.gpu, self.trt.__version__):
            return False
        self.kernels = content["kernels"]
        return True


class IRuntimeConfig:
    """How contexts are made; the defaults are TensorRT-RTX's."""

    def __init__(self, trt: FakeTensorRt) -> None:
        self.trt = trt
        self.strategy = ExecutionContextAllocationStrategy.STATIC
        self.cuda_graph_strategy = CudaGraphStrategy.DISABLED
        self.dynamic_shapes_kernel_specialization_strategy = DynamicShapesKernelSpecializationStrategy.LAZY
        self.cache: weakref.ref[IRuntimeCache] | None = None

    def set_execution_context_allocation_strategy(self, strategy: ExecutionContextAllocationStrategy) -> None:
        self.strategy = strategy

    def create_runtime_cache(self) -> IRuntimeCache:
        return IRuntimeCache(self.trt)

    def set_runtime_cache(self, cache: IRuntimeCache) -> bool:
        self.cache = weakref.ref(cache)  # the library keeps a pointer, and does not own it
        return True


class IExecutionContext:
    """A context that computes nothing."""

    def __init__(self, engine: ICudaEngine, how: Any) -> None:
        self.engine, self.trt = engine, engine.trt
        self.config = how if isinstance(how, IRuntimeConfig) else None
        strategy = self.config.strategy if self.config else how
        assert strategy is ExecutionContextAllocationStrategy.USER_MANAGED, "memory is the caller's"
        self.profile: int | None = None
        self.scratch = 0
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        if not 0 <= profile < self.engine.num_optimization_profiles:
            self.trt.report(f"profile {profile} is out of range")
            raise RuntimeError("Error in set optimization profile async.")
        self.profile = profile
        return True

    def set_device_memory(self, address: int, size: int) -> None:
        assert address % 256 == 0
        assert self.profile is not None
        self.scratch = size

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if min(shape) < 1:
            self.trt.report(f"Set dimension {shape} for tensor {name} does not satisfy any optimization profiles.")
            return False
        self.shapes[name] = shape
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return address != 0

    def execute_async_v3(self, stream: int) -> bool:
        assert self.profile is not None
        assert self.scratch >= self.engine.get_device_memory_size_for_profile_v2(self.profile)
        if self.config is not None and self.config.cache is not None:
            cache = self.config.cache()
            assert cache is not None, "the cache was freed before its context"
            cache.kernels = sorted({*cache.kernels, self.profile})
        if not self.addresses:
            self.trt.report("Address is not set for input tensor input_ids.")
            return False
        return True


class RtxContext(IExecutionContext):
    """The same of TensorRT-RTX, which can be asked whether a stream can be captured."""

    def is_stream_capturable(self, stream: int) -> bool:
        return stream not in self.trt.uncapturable


class ICudaEngine:
    """An engine of TensorRT."""

    def __init__(self, trt: FakeTensorRt, properties: dict[str, Any]) -> None:
        self.trt, self.properties = trt, properties
        self.num_optimization_profiles: int = properties["profiles"]

    def __len__(self) -> int:  # its tensors, as in some versions: an engine may be false
        return 0

    def get_device_memory_size_for_profile_v2(self, profile: int) -> int:
        size: int = self.properties["scratch"][profile]
        return size

    def create_execution_context(self, how: Any) -> IExecutionContext | None:
        if self.properties.get("too_large"):
            self.trt.report("Cuda Runtime (out of memory)")
            return None
        context = RtxContext(self, how) if self.trt.is_rtx else IExecutionContext(self, how)
        self.trt.contexts.append(context)
        return context


class RtxEngine(ICudaEngine):
    """An engine of TensorRT-RTX."""

    def create_runtime_config(self) -> IRuntimeConfig:
        config = IRuntimeConfig(self.trt)
        self.trt.configs.append(config)
        return config


class _Runtime:
    trt: FakeTensorRt

    def __init__(self, logger: ILogger) -> None:
        assert isinstance(logger, ILogger)
        self.trt.logger = logger
        if not self.trt.has_driver:
            self.trt.report("CUDA initialization failure with error: 35")
            raise TypeError(f"{NULL}\n\nInvoked with: ...")
        self.engine_host_code_allowed = False

    def deserialize_cuda_engine(self, content: bytes) -> ICudaEngine | None:
        if not content.startswith(MAGIC):
            return self._refuse("Serialization assertion header.magicTag == kEXPECTED_MAGIC_TAG failed.")
        properties = json.loads(content[len(MAGIC) :])
        if reason := properties.get("refused"):
            return self._refuse(reason)
        if properties.get("lean") and not self.engine_host_code_allowed:
            return self._refuse(
                "Cannot deserialize engine with lean runtime since IRuntime::getEngineHostCodeAllowed() is false"
            )
        return RtxEngine(self.trt, properties) if self.trt.is_rtx else ICudaEngine(self.trt, properties)

    def _refuse(self, reason: str) -> None:
        self.trt.report(reason)
        self.trt.report("[checkMacros.cpp::catchCudaError] an error that only follows")


class _RtxRuntime(_Runtime):
    def get_engine_validity(self, content: bytes) -> tuple[str, int]:
        if not content.startswith(MAGIC):
            return "INVALID", EngineInvalidityDiagnostics.MALFORMED_ENGINE.value
        name = json.loads(content[len(MAGIC) :]).get("diagnosis")
        return "INVALID", EngineInvalidityDiagnostics[name].value if name else 0


class _Builder:
    """One that never starts: engines are built by the real library, in ``make engines-check``."""

    trt: FakeTensorRt

    def __init__(self, logger: ILogger) -> None:
        self.trt.logger = logger
        self.trt.report("CUDA initialization failure with error: 35")
        raise TypeError("tensorrt.Builder(): factory function returned nullptr\n\nInvoked with: ...")


class FakeTensorRt(types.ModuleType):
    """The module. ``gpu`` is the one that it runs on; it cannot capture the streams in ``uncapturable``."""

    ILogger = ILogger
    ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy

    def __init__(self, name: str = "tensorrt", version: str = "11.1.0.106") -> None:
        super().__init__(name)
        self.__version__ = version
        self.is_rtx = name != "tensorrt"
        self.has_driver = True
        self.gpu = "NVIDIA L4"
        self.logger: ILogger | None = None
        self.uncapturable: set[int] = set()
        self.contexts: list[IExecutionContext] = []
        self.configs: list[IRuntimeConfig] = []
        self.Builder = type("Builder", (_Builder,), {"trt": self})
        self.Runtime = type("Runtime", (_RtxRuntime if self.is_rtx else _Runtime,), {"trt": self})
        if self.is_rtx:
            self.CudaGraphStrategy = CudaGraphStrategy
            self.DynamicShapesKernelSpecializationStrategy = DynamicShapesKernelSpecializationStrategy
            self.EngineInvalidityDiagnostics = EngineInvalidityDiagnostics

    def report(self, message: str) -> None:
        assert self.logger is not None
        self.logger.log(ILogger.WARNING, "a warning")
        self.logger.log(ILogger.ERROR, message)


def install(monkeypatch: pytest.MonkeyPatch, trt: FakeTensorRt) -> FakeTensorRt:
    """Make it the module that is imported."""
    trt.__spec__ = importlib.machinery.ModuleSpec(trt.__name__, None)
    monkeypatch.setitem(sys.modules, trt.__name__, trt)
    return trt
