"""Open the backend that an artifact and the options call for, on one device or several."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import cast

from modernrank.artifact.folder import Artifact
from modernrank.errors import ArtifactError, ProviderError
from modernrank.options import LoadOptions, PrecisionChoice

from .base import Backend
from .cuda.driver import find_driver
from .multi_device import MultiDeviceBackend
from .provider import Provider
from .registry import PROVIDERS, check_options, choose_provider, providers_of
from .tensorrt.engine_choice import choose_engine
from .tensorrt.library import load_library

logger = logging.getLogger(__name__)


def open_backend(artifact: Artifact, options: LoadOptions) -> Backend:
    """Open ``artifact`` as ``options`` say.

    Raises:
        ArtifactError: a file is missing or damaged, or there is no graph or engine that the options allow.
        ProviderError: the provider cannot run on this machine.
        InputError: the provider does not take an option.
    """
    usable = usable_providers(artifact, options.precision)
    if options.provider == "auto" and not usable:
        if usable_providers(artifact):
            raise artifact.missing_graph_error(options.precision)
        raise ProviderError(
            f"no provider can run {artifact.folder}: its graphs are for TensorRT, and no engine has been built; "
            "build one: modernrank build-engine ARTIFACT",
            reasons={},
        )
    devices = options.gpu.devices or (0,)
    why_no_engine = partial(why_no_engine_fits, artifact, precision=options.precision, devices=devices)
    provider = choose_provider(options.provider, usable, devices, why_no_engine)
    check_options(provider, options)
    started = time.perf_counter()
    backends: list[Backend] = []
    with ExitStack() as opened:  # what is open is closed if a later one fails
        for device in devices:
            backend = provider.open(artifact, options, device)
            opened.callback(backend.close)
            backends.append(backend)
        opened.pop_all()
    backend = backends[0] if len(backends) == 1 else MultiDeviceBackend(backends)
    logger.info(
        "loaded %s in %.2f s: %s on %s", artifact.manifest.name, time.perf_counter() - started,
        backend.info.precision, backend.info.provider,
    )  # fmt: skip
    if options.precision == "auto":
        _log_rejected_precisions(artifact, backend.info.precision)
    return backend


def usable_providers(artifact: Artifact, precision: PrecisionChoice | None = None) -> set[str]:
    """Names of the providers for which the artifact has a graph, or an engine where the provider runs engines.

    Args:
        artifact: its manifest is read.
        precision: only graphs and engines of this one, or for ``"auto"`` of those that it may take; None for any.
    """
    manifest = artifact.manifest
    accepted = manifest.auto_precisions() if precision == "auto" else [precision]
    engines = {engine.library for engine in manifest.engines if precision is None or engine.precision in accepted}
    graphs = [graph for graph in manifest.graphs if precision is None or graph.precision in accepted]
    names = {name for graph in graphs for name in providers_of(graph)}
    return {name for name in names if not PROVIDERS[name].runs_engines} | (engines & PROVIDERS.keys())


def why_no_engine_fits(
    artifact: Artifact, provider: Provider, *, precision: PrecisionChoice = "auto", devices: Sequence[int] = (0,)
) -> str:
    """Why no engine of the artifact runs here by a provider that can run; "" if one does, or if it needs none.

    Args:
        artifact: its manifest is read.
        provider: its libraries are installed, and there is a driver with these GPUs.
        precision: of the engine.
        devices: numbers of the GPUs. One whose compute capability the driver does not report is no obstacle.
    """
    installed = find_driver()
    if not provider.runs_engines or installed is None:
        return ""
    version = str(load_library(provider.name).__version__)
    for capability in filter(None, map(installed.compute_capability, devices)):
        try:
            choose_engine(artifact.manifest, provider.name, version, capability, precision)
        except (ArtifactError, ProviderError) as error:
            return str(error)
    return ""


def auto_precision(artifact: Artifact, provider: str) -> PrecisionChoice:
    """The precision that ``"auto"`` takes on a provider.

    Raises:
        ArtifactError: the artifact has no graph or engine for the provider that ``"auto"`` may take.
    """
    if not PROVIDERS[provider].runs_engines:
        return cast(PrecisionChoice, artifact.graph_to_run("auto", PROVIDERS[provider].dialects).precision)
    built = {engine.precision for engine in artifact.manifest.engines if engine.library == provider}
    for name in artifact.manifest.auto_precisions():
        if name in built:
            return name
    raise artifact.missing_graph_error("auto", PROVIDERS[provider].dialects)


def _log_rejected_precisions(artifact: Artifact, chosen: str) -> None:
    for precision in dict.fromkeys(graph.precision for graph in artifact.manifest.graphs):
        if precision not in artifact.manifest.auto_precisions():
            logger.info("precision 'auto' chose %s, not %s: %s", chosen, precision, artifact.quality_of(precision))
