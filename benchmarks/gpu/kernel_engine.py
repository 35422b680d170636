"""An engine without TensorRT: two small kernels, compiled by NVIDIA's nvrtc when the check starts.

    tokens ─hash_tokens─▶ scratch memory ─sum_slots─▶ logits

The kernels compute ``exact_engine.expected``. The second one reads what the first wrote to the scratch memory, so that
an answer is right only if the memory is large enough and no other lane uses it. It requires cuda-bindings and nvrtc.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from modernrank.artifact.manifest import Profile
from modernrank.backends.cuda.api import Bytes, Cuda
from modernrank.backends.profiles import SLOTS
from modernrank.backends.tensorrt.library import DeviceContext, DeviceEngine
from modernrank.errors import BackendError

from .exact_engine import LABELS, MODULUS, MULTIPLIER, PROFILES, SHAPE_BYTES, STEP_OF_LABELS

THREADS = 128  # of a block
MAX_BLOCKS = 1024
# If `in_memory` is not null, the kernels read the shape from there and not from their arguments.
SOURCE = f"""
extern "C" __global__ void hash_tokens(
    const int* input_ids, const int* position_ids, int* scratch, int rows, int tokens, const int* in_memory)
{{
    if (in_memory) {{ rows = in_memory[0]; tokens = in_memory[1]; }}
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < rows * tokens; i += gridDim.x * blockDim.x)
        scratch[i] = (input_ids[i] * {MULTIPLIER} + position_ids[i]) % {MODULUS};
}}

extern "C" __global__ void sum_slots(
    const int* segment_ids, const int* slots, const int* scratch, float* logits,
    int rows, int tokens, const int* in_memory)
{{
    if (in_memory) {{ rows = in_memory[0]; tokens = in_memory[1]; }}
    __shared__ int sum;
    const int slot = blockIdx.x, row = blockIdx.y;
    if (threadIdx.x == 0) sum = 0;
    __syncthreads();
    int part = 0;
    if (row < rows)
        for (int i = row * tokens + threadIdx.x; i < (row + 1) * tokens; i += blockDim.x)
            if (segment_ids[i] == slots[slot]) part += scratch[i];
    atomicAdd(&sum, part);
    __syncthreads();
    if (row < rows && threadIdx.x < {LABELS})
        logits[(row * gridDim.x + slot) * {LABELS} + threadIdx.x] = (float)(sum + {STEP_OF_LABELS} * (int)threadIdx.x);
}}
"""
POINTER, INT = ctypes.c_void_p, ctypes.c_int


class Kernels:
    """The two kernels on one GPU; the calling thread must have made it active.

    Raises:
        BackendError: nvrtc or the driver refuses the kernels.
        RuntimeError: nvrtc or the driver is not installed.
    """

    def __init__(self, compute_capability: str) -> None:
        from cuda.bindings import driver

        self._driver: Any = driver
        self.compiler, image = compile_kernels(compute_capability)
        # The address is passed, because how other types are passed differs between versions of cuda-bindings.
        buffer = np.frombuffer(image, np.uint8)
        self._module = self._call(driver.cuModuleLoadData, buffer.ctypes.data)
        self._hash_tokens = self._call(driver.cuModuleGetFunction, self._module, b"hash_tokens")
        self._sum_slots = self._call(driver.cuModuleGetFunction, self._module, b"sum_slots")

    def launch(
        self, stream: int, inputs: dict[str, int], logits: int, scratch: int, shape: tuple[int, int, int]
    ) -> None:
        """Start both kernels in a stream.

        Args:
            stream: the stream.
            inputs: addresses of the engine's inputs.
            logits: address of the output.
            scratch: address of the hashed tokens.
            shape: rows, tokens, and the address where the kernels read both instead; 0 for none.
        """
        rows, tokens, in_memory = shape
        blocks = min(MAX_BLOCKS, -(-rows * tokens // THREADS))
        sizes = [(rows, INT), (tokens, INT), (in_memory, POINTER)]
        addresses = [inputs["input_ids"], inputs["position_ids"], scratch]
        self._start(self._hash_tokens, (blocks, 1), stream, [*((a, POINTER) for a in addresses), *sizes])
        addresses = [inputs["segment_ids"], inputs["slots"], scratch, logits]
        self._start(self._sum_slots, (SLOTS, rows), stream, [*((a, POINTER) for a in addresses), *sizes])

    def unload(self) -> None:
        """Unload the kernels."""
        self._call(self._driver.cuModuleUnload, self._module)

    def _start(self, kernel: Any, grid: tuple[int, int], stream: int, arguments: list[tuple[int, Any]]) -> None:
        values = tuple(value for value, _ in arguments)
        types = tuple(type_ for _, type_ in arguments)
        self._call(self._driver.cuLaunchKernel, kernel, *grid, 1, THREADS, 1, 1, 0, stream, (values, types), 0)

    def _call(self, function: Callable[..., tuple[Any, ...]], *arguments: Any) -> Any:
        error, *results = function(*arguments)
        if error != self._driver.CUresult.CUDA_SUCCESS:
            raise BackendError(f"{function.__name__} failed: {error!r}")
        return results[0] if results else None


def compile_kernels(compute_capability: str) -> tuple[str, bytes]:
    """The compiler, such as ``"nvrtc 13.0"``, and machine code for GPUs of a compute capability such as ``"9.0"``.

    Raises:
        BackendError: nvrtc refuses the source or the compute capability; the message holds its log.
        RuntimeError: nvrtc is not installed.
    """
    from cuda.bindings import nvrtc

    def call(function: Callable[..., tuple[Any, ...]], *arguments: Any) -> Any:
        error, *results = function(*arguments)
        if error != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise BackendError(f"{function.__name__} failed: {error!r}{log()}")
        return results if len(results) > 1 else (results or [None])[0]

    def log() -> str:
        if program is None:
            return ""
        _, size = nvrtc.nvrtcGetProgramLogSize(program)
        text = b" " * (size + 1)  # Python shares bytes of length 1, and this is written into
        nvrtc.nvrtcGetProgramLog(program, text)
        reason: str = text.rstrip(b"\0 ").decode(errors="replace")
        return f"\n{reason}"

    program = None
    version = ".".join(map(str, call(nvrtc.nvrtcVersion)))
    program = call(nvrtc.nvrtcCreateProgram, SOURCE.encode(), b"check.cu", 0, [], [])
    options = [f"--gpu-architecture=sm_{compute_capability.replace('.', '')}".encode()]
    try:
        call(nvrtc.nvrtcCompileProgram, program, len(options), options)
        image = b" " * call(nvrtc.nvrtcGetCUBINSize, program)
        call(nvrtc.nvrtcGetCUBIN, program, image)  # it is written into
    finally:
        nvrtc.nvrtcDestroyProgram(program)
    return f"nvrtc {version}", image


class KernelEngine(DeviceEngine):
    """The kernels as an engine.

    Args:
        kernels: on the GPU of ``cuda``.
        cuda: the GPU.
        shape_in_context: the kernels read the shape from scratch memory, to which ``enqueue`` copies it from memory of
            the context, as TensorRT may do.
    """

    profiles = PROFILES
    slots = SLOTS
    captures_itself = False

    def __init__(self, kernels: Kernels, cuda: Cuda, shape_in_context: bool) -> None:
        self.runtime = kernels.compiler
        self._kernels, self._cuda = kernels, cuda
        self._shape_in_context = shape_in_context
        self._pinned: list[Bytes] = []

    def scratch(self, profile: int) -> int:
        """Bytes for the shape and the hashed tokens."""
        return SHAPE_BYTES + scratch_of(self.profiles[profile])

    def context(self, profile: int, scratch: int, size: int, stream: int) -> DeviceContext:
        """A context that works in the ``size`` bytes at ``scratch``."""
        if size < self.scratch(profile):
            raise BackendError(f"{size} bytes of scratch memory were given; {self.scratch(profile)} are required")
        shape = None
        if self._shape_in_context:
            shape = self._cuda.pinned(2 * np.dtype(np.int32).itemsize)
            self._pinned.append(shape)
        return _Context(self._kernels, self._cuda, scratch, shape)

    def close(self) -> None:
        """Free the shapes of the contexts."""
        while self._pinned:
            self._cuda.free_pinned(self._pinned.pop())


def scratch_of(profile: Profile) -> int:
    """Bytes of the hashed tokens of a profile's largest shape."""
    return profile.rows[2] * profile.tokens[2] * np.dtype(np.int32).itemsize


class _Context(DeviceContext):
    """A context of a kernel engine."""

    def __init__(self, kernels: Kernels, cuda: Cuda, scratch: int, shape: Bytes | None) -> None:
        self._kernels, self._cuda = kernels, cuda
        self._scratch, self._pinned_shape = scratch, shape
        self._inputs: dict[str, int] = {}
        self._shape = (0, 0)
        self._logits = 0

    def set_input(self, name: str, address: int, shape: tuple[int, ...]) -> None:
        self._inputs[name] = address
        if name == "slots":
            return
        rows, tokens = shape
        self._shape = rows, tokens
        if self._pinned_shape is not None:
            self._pinned_shape.view(np.int32)[:] = shape

    def set_output(self, name: str, address: int) -> None:
        self._logits = address

    def enqueue(self, stream: int) -> None:
        in_memory = 0
        if self._pinned_shape is not None:
            in_memory = self._scratch
            self._cuda.to_device(in_memory, self._pinned_shape, stream)
        shape = (*self._shape, in_memory)
        self._kernels.launch(stream, self._inputs, self._logits, self._scratch + SHAPE_BYTES, shape)

    def can_capture(self, stream: int) -> bool:
        return True
