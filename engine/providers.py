"""The providers that modernrank knows, what each needs, and which one runs.

A provider that was asked for and cannot run is an error, never a quiet change to another one.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from .errors import InputError, ProviderError


@dataclass(frozen=True)
class Provider:
    """A way to run a graph: ONNX Runtime's execution provider behind a short name, and how to get it."""

    name: str
    execution_provider: str
    install: str


# Best first: the order in which provider="auto" looks.
PROVIDERS = {
    provider.name: provider
    for provider in (
        Provider("tensorrt", "TensorrtExecutionProvider", "pip install 'modernrank[gpu]' and TensorRT 10"),
        Provider("cuda", "CUDAExecutionProvider", "pip install 'modernrank[gpu]', with CUDA 13 and cuDNN 9"),
        Provider("cpu", "CPUExecutionProvider", "pip install 'modernrank[cpu]'"),
    )
}


def installed_execution_providers() -> list[str]:
    """ONNX Runtime's execution providers in this environment, none where it is not installed."""
    if importlib.util.find_spec("onnxruntime") is None:
        return []
    import onnxruntime

    return list(onnxruntime.get_available_providers())


def choose_provider(name: str, usable: set[str]) -> Provider:
    """The provider called ``name``, or for ``"auto"`` the best installed one among ``usable``.

    Args:
        name: ``"auto"`` or one of PROVIDERS.
        usable: names of the providers that the artifact has a graph for.

    Raises:
        InputError: no provider of that name.
        ProviderError: it is not installed, or nothing that the artifact can use is.
    """
    if name != "auto" and name not in PROVIDERS:
        raise InputError(f"provider {name!r} is unknown; choose one of auto, {', '.join(PROVIDERS)}")
    installed = installed_execution_providers()
    there = f"installed in this environment: {', '.join(installed) or 'no ONNX Runtime at all'}"
    if name != "auto":
        provider = PROVIDERS[name]
        if provider.execution_provider not in installed:
            raise ProviderError(
                f"provider {name!r} needs {provider.execution_provider}; {there}. To get it: {provider.install}"
            )
        return provider
    for provider in PROVIDERS.values():
        if provider.name in usable and provider.execution_provider in installed:
            return provider
    remedies = "; or ".join(PROVIDERS[n].install for n in PROVIDERS if n in usable)
    raise ProviderError(f"no provider for this artifact; {there}. To get one: {remedies}")
