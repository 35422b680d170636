"""The providers that modernrank knows, what each needs, and which one runs.

A provider that was asked for and cannot run is an error, never a quiet change to another one.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from modernrank.backends.cuda.api import INSTALL as INSTALL_CUDA
from modernrank.backends.cuda.api import find_cuda_library
from modernrank.errors import InputError, ProviderError

from .cuda import driver
from .tensorrt import library as tensorrt

CUDA_MAJOR = 13  # of the CUDA that ONNX Runtime's GPU build is made for
NVINFER = "libnvinfer.so.10"  # what its TensorRT provider links


@dataclass(frozen=True)
class Provider:
    """A way to run a graph, and how to get it.

    name:     modernrank's.
    execution_provider: ONNX Runtime's name for it, or "" where an engine runs without ONNX Runtime.
    install:  what to do to have it.
    on_gpu:   whether it needs an NVIDIA driver.
    """

    name: str
    execution_provider: str
    install: str
    on_gpu: bool


# Best first: the order in which provider="auto" looks.
PROVIDERS = {
    provider.name: provider
    for provider in (
        Provider("tensorrt", "", tensorrt.INSTALL["tensorrt"], on_gpu=True),
        Provider("tensorrt-rtx", "", tensorrt.INSTALL["tensorrt-rtx"], on_gpu=True),
        Provider("ort-tensorrt", "TensorrtExecutionProvider", "pip install 'modernrank[gpu]' and TensorRT 10", True),
        Provider("cuda", "CUDAExecutionProvider", "pip install 'modernrank[gpu]', with CUDA 13 and cuDNN 9", True),
        Provider("cpu", "CPUExecutionProvider", "pip install 'modernrank[cpu]'", on_gpu=False),
    )
}


def installed_execution_providers() -> list[str]:
    """ONNX Runtime's execution providers in this environment, none where it is not installed."""
    if importlib.util.find_spec("onnxruntime") is None:
        return []
    import onnxruntime

    return list(onnxruntime.get_available_providers())


def why_not(name: str) -> str:
    """Why a provider cannot run on this machine, and the remedy; "" if nothing is known to stand in its way."""
    provider = PROVIDERS[name]
    reason = _why_not_installed(provider)
    if not reason and provider.on_gpu:
        found = driver.find_driver()
        if found is None:
            return "there is no NVIDIA driver on this machine: install one, or use provider 'cpu'"
        if found.gpus == 0:
            return "there is no NVIDIA GPU on this machine: use provider 'cpu'"
        if provider.execution_provider and found.cuda // 1000 < CUDA_MAJOR:
            return f"it needs CUDA {CUDA_MAJOR}, here is the {found}: update the driver"
    return reason


def choose_provider(name: str, usable: set[str]) -> Provider:
    """The provider called ``name``, or for ``"auto"`` the best that can run here among ``usable``.

    Args:
        name: ``"auto"`` or one of PROVIDERS.
        usable: names of the providers that the artifact has a graph or an engine for.

    Raises:
        InputError: no provider of that name.
        ProviderError: it cannot run here, or nothing that the artifact can use can.
    """
    if name != "auto" and name not in PROVIDERS:
        raise InputError(f"provider {name!r} is unknown; choose one of auto, {', '.join(PROVIDERS)}")
    if name != "auto":
        reason = why_not(name)
        if reason:
            raise ProviderError(f"provider {name!r} cannot run: {reason}")
        return PROVIDERS[name]
    reasons = {}
    for provider in (name for name in PROVIDERS if name in usable):
        reasons[provider] = why_not(provider)  # imports its library: not done for those after the best
        if not reasons[provider]:
            return PROVIDERS[provider]
    listed = "; ".join(f"{provider}: {reason}" for provider, reason in reasons.items())
    raise ProviderError(f"no provider can run this artifact. {listed or 'It has no graph.'}")


def _why_not_installed(provider: Provider) -> str:
    if not provider.execution_provider:
        try:
            module = tensorrt.find_library(provider.name)
        except ProviderError as error:
            return str(error)
        if module is None:
            return f"{provider.name} is not installed. To get it: {provider.install}"
        if find_cuda_library() is None:
            return f"no library for CUDA is installed. To get one: {INSTALL_CUDA}"
        return ""
    installed = installed_execution_providers()
    if provider.execution_provider not in installed:
        there = f"installed in this environment: {', '.join(installed) or 'no ONNX Runtime at all'}"
        return f"it needs {provider.execution_provider}; {there}. To get it: {provider.install}"
    if provider.name == "ort-tensorrt" and not driver.is_loadable(NVINFER):
        return f"ONNX Runtime's TensorRT provider needs {NVINFER}, which is not found: install TensorRT 10 (not 11)"
    return ""
