"""What a provider is: what it requires, runs and takes, and whether this machine can run it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from modernrank.artifact.folder import Artifact
from modernrank.options import LoadOptions, ProviderName

from .base import Backend
from .cuda import driver
from .cuda.choose import cuda_major

CUDA_MAJOR = 13  # the version of CUDA that ONNX Runtime's GPU build requires

# Opens an artifact on the device with this number.
OpenBackend = Callable[[Artifact, LoadOptions, int], Backend]


@dataclass(frozen=True)
class Provider:
    """A way to run an artifact.

    name:     modernrank's name.
    dialects: of the graphs that it runs, or builds its engines from; the best first.
    options:  those of ``Reranker.load`` that it takes besides the common ones.
    install:  how to get it.
    open:     opens an artifact; imports what it needs when it is called.
    why_not_installed: why its libraries cannot be used, and the remedy; "" if they can.
    why_unsupported: why it runs on no GPU of a compute capability, ``"9.0"``; "" if it may.
    execution_provider: ONNX Runtime's name for it, or "" where it runs engines without ONNX Runtime.
    needs_gpu: whether it requires an NVIDIA driver and a GPU.
    """

    name: ProviderName
    dialects: tuple[str, ...]
    options: frozenset[str]
    install: str
    open: OpenBackend
    why_not_installed: Callable[[Provider], str]
    why_unsupported: Callable[[str], str] = lambda capability: ""
    execution_provider: str = ""
    needs_gpu: bool = True

    @property
    def runs_engines(self) -> bool:
        """Whether it runs engines that were built beforehand, and not the graphs themselves."""
        return not self.execution_provider

    def why_not(self, devices: Sequence[int] = (0,)) -> str:
        """Why this provider cannot run on this machine, and the remedy; "" if no obstacle is known.

        Args:
            devices: numbers of the GPUs that would be used.
        """
        reason = self.why_not_installed(self)
        if reason or not self.needs_gpu:
            return reason
        installed = driver.find_driver()
        if installed is None:
            return "there is no NVIDIA driver on this machine: install one, or use provider 'cpu'"
        if installed.gpus == 0:
            return "there is no NVIDIA GPU on this machine: use provider 'cpu'"
        required, major = CUDA_MAJOR if self.execution_provider else cuda_major(), installed.cuda // 1000
        if major < required:
            other = f", or install cuda-bindings {major}" if self.runs_engines else ""
            return f"it requires CUDA {required}, but the {installed}: update the driver{other}"
        for number in devices:
            if number >= installed.gpus:
                return f"GPU {number} was requested, but this machine has only {installed.gpus}: choose a lower number"
            if reason := self.why_unsupported(installed.compute_capability(number)):
                return reason
        return ""
