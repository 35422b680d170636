"""The providers: what each requires, which dialects it runs, which options it takes, and how it is opened.

A new provider is one entry here, its name in ``options.ProviderName``, and the module that its ``open`` imports. A
requested provider that cannot run is an error, never a silent change to another one.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from modernrank.artifact.folder import Artifact
from modernrank.artifact.manifest import OnnxGraph
from modernrank.errors import InputError, ProviderError
from modernrank.options import LoadOptions, ProviderChoice

from .base import Backend
from .cuda import driver
from .cuda.capability import why_unsupported
from .cuda.choose import INSTALL as INSTALL_CUDA
from .cuda.choose import find_cuda_library
from .onnxruntime.telemetry import disable_telemetry
from .provider import Provider
from .tensorrt.library import INSTALL as INSTALL_TENSORRT
from .tensorrt.library import find_library

logger = logging.getLogger(__name__)

NVINFER = "libnvinfer.so.10"  # the library that ONNX Runtime's TensorRT provider links


def _open_cpu(artifact: Artifact, options: LoadOptions, device: int) -> Backend:
    from .onnxruntime.cpu import open_cpu

    return open_cpu(artifact, PROVIDERS["cpu"], options)


def _open_cuda(artifact: Artifact, options: LoadOptions, device: int) -> Backend:
    from .onnxruntime.gpu import open_gpu

    return open_gpu(artifact, PROVIDERS["cuda"], options, device)


def _open_ort_tensorrt(artifact: Artifact, options: LoadOptions, device: int) -> Backend:
    from .onnxruntime.gpu import open_gpu

    return open_gpu(artifact, PROVIDERS["ort-tensorrt"], options, device)


def _open_tensorrt(artifact: Artifact, options: LoadOptions, device: int) -> Backend:
    from .tensorrt.backend import open_engine

    return open_engine(artifact, "tensorrt", options, device)


def _open_tensorrt_rtx(artifact: Artifact, options: LoadOptions, device: int) -> Backend:
    from .tensorrt.backend import open_engine

    return open_engine(artifact, "tensorrt-rtx", options, device)


def installed_execution_providers() -> list[str]:
    """ONNX Runtime's execution providers in this environment; none where ONNX Runtime is not installed."""
    if importlib.util.find_spec("onnxruntime") is None:
        return []
    disable_telemetry()
    import onnxruntime

    return list(onnxruntime.get_available_providers())


def _why_no_execution_provider(provider: Provider) -> str:
    installed = installed_execution_providers()
    if provider.execution_provider in installed:
        return ""
    available = f"installed in this environment: {', '.join(installed) or 'no ONNX Runtime at all'}"
    return f"it requires {provider.execution_provider}; {available}. To get it: {provider.install}"


def _why_no_ort_tensorrt(provider: Provider) -> str:
    reason = _why_no_execution_provider(provider)
    if reason or driver.is_loadable(NVINFER):
        return reason
    # pip puts TensorRT's libraries into a folder that the loader does not search. TensorRT's Python module loads them
    # by their paths, and the loader finds a library that is loaded already.
    installed = ""
    try:
        module = find_library("tensorrt")
        installed = "" if module is None else f", but TensorRT {module.__version__} is"
        if driver.is_loadable(NVINFER):
            return ""
    except ProviderError as error:
        installed = f" ({error})"
    return (
        f"ONNX Runtime's TensorRT provider requires {NVINFER}, which is not installed{installed}. To get it: "
        f"{provider.install}"
    )


def _why_no_engine_library(provider: Provider) -> str:
    try:
        module = find_library(provider.name)
    except ProviderError as error:
        return str(error)
    if module is None:
        return f"{provider.name} is not installed. To get it: {provider.install}"
    if find_cuda_library() is None:
        return f"no Python library for CUDA is installed. To get one: {INSTALL_CUDA}"
    return ""


def _why_tensorrt_unsupported(capability: str) -> str:
    module = find_library("tensorrt")
    return why_unsupported("tensorrt", capability, "" if module is None else str(module.__version__))


_FOR_ENGINES = frozenset({"devices", "cuda_stream", "cuda_graphs", "sleep_while_waiting"})
_ENGINE_DIALECTS = ("tensorrt", "tensorrt-half-sums", "tensorrt-decomposed")

# In the order in which provider="auto" looks.
PROVIDERS: dict[str, Provider] = {
    provider.name: provider
    for provider in (
        Provider(
            "tensorrt",
            _ENGINE_DIALECTS,
            _FOR_ENGINES,
            INSTALL_TENSORRT["tensorrt"],
            _open_tensorrt,
            _why_no_engine_library,
            _why_tensorrt_unsupported,
        ),
        Provider(
            "tensorrt-rtx",
            _ENGINE_DIALECTS,
            _FOR_ENGINES,
            INSTALL_TENSORRT["tensorrt-rtx"],
            _open_tensorrt_rtx,
            _why_no_engine_library,
            partial(why_unsupported, "tensorrt-rtx"),
        ),
        Provider(
            "ort-tensorrt",
            ("tensorrt-decomposed",),
            frozenset({"devices"}),
            "pip install 'modernrank[gpu]' 'tensorrt>=10.15,<11' (not TensorRT 11)",
            _open_ort_tensorrt,
            _why_no_ort_tensorrt,
            partial(why_unsupported, "ort-tensorrt"),
            "TensorrtExecutionProvider",
        ),
        Provider(
            "cuda",
            ("ort-cuda",),
            frozenset({"devices", "cuda_graphs", "gpu_memory_limit", "allow_tf32"}),
            "pip install 'modernrank[gpu]' (it installs CUDA 13 and cuDNN 9)",
            _open_cuda,
            _why_no_execution_provider,
            partial(why_unsupported, "cuda"),
            "CUDAExecutionProvider",
        ),
        Provider(
            "cpu",
            ("ort-cpu", "standard", "padded", "reference"),
            frozenset(),
            "pip install 'modernrank[cpu]'",
            _open_cpu,
            _why_no_execution_provider,
            execution_provider="CPUExecutionProvider",
            needs_gpu=False,
        ),
    )
}


def providers_of(graph: OnnxGraph) -> list[str]:
    """Names of the providers that run a graph's dialect, or build engines from it."""
    return [provider.name for provider in PROVIDERS.values() if graph.dialect in provider.dialects]


def check_options(provider: Provider, options: LoadOptions) -> None:
    """Refuse options that ``provider`` does not take.

    Raises:
        InputError: it names the option and the providers that take it.
    """
    for name in options.given():
        if name not in provider.options:
            takers = ", ".join(repr(other.name) for other in PROVIDERS.values() if name in other.options)
            raise InputError(
                f"provider {provider.name!r} does not take {name}; leave it out, or use provider {takers}",
                argument=name,
                provider=provider.name,
            )


def choose_provider(
    name: ProviderChoice,
    usable: Iterable[str],
    devices: Sequence[int] = (0,),
    why_no_engine: Callable[[Provider], str] = lambda provider: "",
) -> Provider:
    """The provider called ``name``, or for ``"auto"`` the best of ``usable`` that can run on this machine.

    Args:
        name: ``"auto"`` or one of PROVIDERS.
        usable: names of the providers for which the artifact has a graph or an engine.
        devices: numbers of the GPUs that would be used.
        why_no_engine: why a provider that can run on this machine has no engine for it; "" if it has one, or needs
            none. Only ``"auto"`` asks: for a provider that was requested, opening it is what says so.

    Raises:
        ProviderError: it cannot run on this machine; for ``"auto"`` no usable provider can.
    """
    if name != "auto":
        reason = PROVIDERS[name].why_not(devices)
        if reason:
            raise ProviderError(f"provider {name!r} cannot run: {reason}", provider=name, reasons={name: reason})
        return PROVIDERS[name]
    reasons: dict[str, str] = {}
    for provider in PROVIDERS.values():
        if provider.name not in usable:
            continue
        # This imports the provider's library, so providers after the best are not asked.
        reason = provider.why_not(devices) or why_no_engine(provider)
        if not reason:
            rejected = "".join(f"; not {other} because {why}" for other, why in reasons.items())
            logger.info("provider 'auto' chose %s%s", provider.name, rejected)
            return provider
        reasons[provider.name] = reason
    listed = "; ".join(f"{provider}: {reason}" for provider, reason in reasons.items())
    raise ProviderError(f"no provider can run this artifact. {listed or 'It has no graph.'}", reasons=reasons)
