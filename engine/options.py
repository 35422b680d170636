"""What a caller may ask of GPUs, checked once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .errors import InputError


@dataclass(frozen=True)
class GpuSettings:
    """The arguments of ``Reranker.load`` that are for GPUs; None leaves the choice to the provider.

    devices:      numbers of the GPUs that share the work.
    cuda_stream:  address of the caller's own CUDA stream.
    cuda_graphs:  whether small shapes that come again are replayed as CUDA graphs.
    memory_limit: bytes that ONNX Runtime's CUDA provider may take.
    """

    devices: Sequence[int] | None = None
    cuda_stream: int | None = None
    cuda_graphs: bool | None = None
    memory_limit: int | None = None

    def check(self, provider: str, on_gpu: bool, is_engine: bool, streams: int | None) -> list[int]:
        """The numbers of the devices, if everything that is set suits the provider.

        Args:
            provider: its name.
            on_gpu: whether it needs a GPU.
            is_engine: whether it runs engines without ONNX Runtime.
            streams: as asked for.

        Raises:
            InputError: something is set that the provider does not have.
        """
        numbers = self._device_numbers(provider, on_gpu)
        if self.cuda_stream is not None and (not is_engine or len(numbers) > 1 or streams not in (None, 1)):
            raise InputError("cuda_stream is for one device of provider tensorrt or tensorrt-rtx, with streams=1")
        if self.cuda_graphs is not None and not is_engine and provider != "cuda":
            raise InputError(f"provider {provider!r} takes no CUDA graphs; leave cuda_graphs out")
        if self.memory_limit is not None and provider != "cuda":
            raise InputError(
                f"gpu_memory_limit is for provider 'cuda', not {provider!r}; leave it out"
                + (" (an engine takes what its profiles need: build smaller ones)" if is_engine else "")
            )
        if self.memory_limit is not None and not (_is_whole(self.memory_limit) and self.memory_limit > 0):
            raise InputError(f"gpu_memory_limit is {self.memory_limit!r}; it must be a number of bytes")
        return numbers

    def _device_numbers(self, provider: str, on_gpu: bool) -> list[int]:
        if self.devices is None:
            return [0]
        if not on_gpu:
            raise InputError(f"devices are for GPUs; provider {provider!r} runs on the processor: leave devices out")
        numbers = list(self.devices) if isinstance(self.devices, Sequence) else []
        if not numbers or len(set(numbers)) != len(numbers) or not all(_is_whole(n) and n >= 0 for n in numbers):
            raise InputError(f"devices are {self.devices!r}; give different numbers of GPUs, such as [0, 1]")
        return numbers


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
