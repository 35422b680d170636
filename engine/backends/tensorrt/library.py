"""Engines of TensorRT, and of TensorRT-RTX, which has the same API under another name."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from modernrank.artifact.manifest import Profile
from modernrank.errors import ArtifactError, BackendError, ProviderError

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
    """An engine that is loaded on the GPU. ``file`` must have been checked against its hash: an engine is native code.

    Raises:
        ArtifactError: TensorRT cannot load the file.
    """

    def __init__(self, library: str, file: Path, profiles: Sequence[Profile], slots: int) -> None:
        trt = load_library(library)
        self._trt = trt
        self._logger = trt.Logger(trt.Logger.ERROR)
        self._runtime = trt.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(file.read_bytes())
        if self._engine is None:
            raise ArtifactError(
                f"{library} {trt.__version__} cannot load {file}; build it again: modernrank build-engine", path=file
            )
        if self._engine.num_optimization_profiles != len(profiles):
            raise ArtifactError(
                f"{file} has {self._engine.num_optimization_profiles} profiles, but the manifest has {len(profiles)}; "
                "build it again: modernrank build-engine"
            )
        self.runtime = f"{library} {trt.__version__}"
        self.profiles = tuple(profiles)
        self.slots = slots
        self.captures_itself = library == "tensorrt-rtx"

    def scratch(self, profile: int) -> int:
        return int(self._engine.get_device_memory_size_for_profile_v2(profile))

    def context(self, profile: int, scratch: int, size: int, stream: int) -> DeviceContext:
        strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        context = self._engine.create_execution_context(strategy)
        if context is None:
            raise BackendError(
                f"{self.runtime} cannot make an execution context; the GPU may have too little free memory"
            )
        if not context.set_optimization_profile_async(profile, stream):
            raise BackendError(f"{self.runtime} cannot set profile {self.profiles[profile]}")
        context.set_device_memory(scratch, size)
        return _Context(context, self.runtime)


class _Context(DeviceContext):
    """A context of TensorRT."""

    def __init__(self, context: Any, runtime: str) -> None:
        self._context = context
        self._runtime = runtime

    def set_input(self, name: str, address: int, shape: tuple[int, ...]) -> None:
        if not self._context.set_input_shape(name, shape):
            raise BackendError(f"{self._runtime} refuses {name} of shape {shape}")
        self._context.set_tensor_address(name, address)

    def set_output(self, name: str, address: int) -> None:
        self._context.set_tensor_address(name, address)

    def enqueue(self, stream: int) -> None:
        if not self._context.execute_async_v3(stream):
            raise BackendError(f"{self._runtime} could not start the batch; it printed the reason on standard error")

    def can_capture(self, stream: int) -> bool:
        return True
