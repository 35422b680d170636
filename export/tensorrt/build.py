"""``build_engine``: an artifact's graph goes in, an engine beside it comes out."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from modernrank.artifact.folder import Artifact
from modernrank.artifact.hashing import sha256_of
from modernrank.artifact.manifest import FileRecord, Manifest, OnnxGraph, Profile, TensorRtEngineRecord
from modernrank.backends.cuda import driver
from modernrank.backends.cuda.api import Cuda
from modernrank.backends.cuda.capability import why_unsupported
from modernrank.backends.cuda.choose import open_cuda
from modernrank.backends.profiles import SLOTS, check_profiles, default_profiles
from modernrank.backends.registry import PROVIDERS
from modernrank.backends.tensorrt.engine_choice import ANY
from modernrank.backends.tensorrt.library import INSTALL, LEAN, LEAN_LIBRARY, find_library, load_library
from modernrank.backends.tensorrt.log import NO_REASON, Log, first_error, new_log
from modernrank.errors import ArtifactError, InputError, ProviderError
from modernrank.export.output_folder import update_manifest
from modernrank.export.report import Report, silent
from modernrank.options import PrecisionChoice, ProviderName, check_choice, positive

from .network import add_profiles, describe_network, parse_network
from .progress import new_progress

logger = logging.getLogger(__name__)

LIBRARIES: tuple[ProviderName, ...] = ("tensorrt", "tensorrt-rtx")


@dataclass(frozen=True)
class _Gpu:
    """The GPU for which an engine is built; for TensorRT-RTX, which times no kernels, there is none to build on.

    compute_capability: its own, or ANY.
    name, multiprocessors: of the GPU on which kernels are timed; "" and 0 if they are not.
    cuda: to build on it.
    """

    compute_capability: str
    name: str = ""
    multiprocessors: int = 0
    cuda: Cuda | None = None

    def active(self) -> AbstractContextManager[None]:
        """Make the builder, which uses the GPU of its thread, use this one."""
        return contextlib.nullcontext() if self.cuda is None else self.cuda.active()


@dataclass(frozen=True)
class _Job:
    """One engine to build.

    artifact, graph: the artifact and its graph.
    library, version: the library that builds, and its version.
    gpu:       for which it builds.
    profiles:  the shapes that it accepts.
    options:   names of the builder's flags that are on.
    workspace: maximum number of bytes of scratch memory; None for the GPU's.
    report:    called with a line for each step.
    """

    artifact: Artifact
    graph: OnnxGraph
    library: ProviderName
    version: str
    gpu: _Gpu
    profiles: Sequence[Profile]
    options: list[str]
    workspace: int | None
    report: Report

    @property
    def stem(self) -> str:
        """The prefix of the names of the engine's files."""
        capability = self.gpu.compute_capability
        suffix = "" if capability == ANY else f"-sm{capability.replace('.', '')}"
        return f"model.{self.graph.precision}.{self.library}-{self.version}{suffix}"

    def file(self, suffix: str) -> Path:
        """One of the engine's files."""
        return self.artifact.folder / f"{self.stem}.{suffix}"


def build_engine(
    folder: str | Path,
    *,
    library: str = "auto",
    precision: PrecisionChoice = "auto",
    profiles: Sequence[Profile] | None = None,
    workspace: int | None = None,
    version_compatible: bool = False,
    hardware_compatible: bool = False,
    allow_tf32: bool = False,
    device: int = 0,
    report: Report = silent,
) -> Manifest:
    """Build a TensorRT engine for this machine and record it in the artifact's manifest.

    An engine of the same library, version, GPU and precision is replaced. Beside the engine the folder gets TensorRT's
    log, its layers, and the cache of its timings, which makes a second build quick.

    Args:
        folder: an artifact with a graph in a TensorRT dialect.
        library: ``"tensorrt"``, ``"tensorrt-rtx"`` (which needs no GPU to build), or ``"auto"`` for the first of them
            that is installed.
        precision: which graph; for ``"auto"`` the most exact one that the artifact has for TensorRT.
        profiles: the shapes that the engine accepts; by default short pairs in up to 64 rows of 512 tokens, and long
            ones in up to 4 rows of 8,192. One engine holds all profiles, and its weights once.
        workspace: maximum number of bytes of scratch memory of a kernel; by default the GPU's.
        version_compatible: let later versions of the same major version run the engine, perhaps slower.
        hardware_compatible: let every GPU of compute capability 8.0 or higher run it, perhaps slower.
        allow_tf32: let products of float32 round their inputs to 10 bits, as TensorRT does by default. Scores then miss
            the tolerance of ``verify`` for float32; products of float16 are not concerned.
        device: number of the GPU on which kernels are timed. TensorRT-RTX times none.
        report: called with a line for each step.

    Returns:
        The new manifest.

    Raises:
        InputError: an argument is not allowed.
        ArtifactError: there is no such graph, or TensorRT cannot read it.
        ProfileError: profiles overlap, do not grow, or exceed the model.
        ProviderError: the library is not installed, there is no such GPU, or TensorRT builds no engine.
    """
    check_choice("precision", precision, PrecisionChoice)
    if workspace is not None:
        workspace = positive("workspace", workspace)
    artifact = Artifact.open(folder)
    chosen = _choose_library(library)
    graph = artifact.graph_to_build(precision, PROVIDERS[chosen].dialects)
    longest = artifact.manifest.model.max_length
    profiles = default_profiles(longest) if profiles is None else profiles
    check_profiles(profiles, longest)
    options = _choose_options(
        chosen,
        version_compatible=version_compatible,
        hardware_compatible=hardware_compatible,
        allow_tf32=allow_tf32,
    )
    trt = load_library(chosen)
    version = str(trt.__version__)
    gpu = _choose_gpu(chosen, version, device, report)
    job = _Job(artifact, graph, chosen, version, gpu, profiles, options, workspace, report)
    artifact.check_files(graph.files)
    with gpu.active():
        written = _build(trt, job)
    manifest = _record(job, written)
    logger.info("built %s for %s", job.file("engine"), ", ".join(map(str, profiles)))
    return manifest


def _choose_library(library: str) -> ProviderName:
    if library == "auto":
        for name in LIBRARIES:
            if find_library(name) is not None:
                return name
        raise ProviderError(
            f"TensorRT is not installed. To get it: {'; or '.join(INSTALL.values())}", reasons=dict(INSTALL)
        )
    for name in LIBRARIES:
        if name == library:
            return name
    raise InputError(
        f"library {library!r} is unknown; choose one of auto, {', '.join(LIBRARIES)}",
        argument="library",
        value=library,
        choices=("auto", *LIBRARIES),
    )


def _choose_options(library: ProviderName, **flags: bool) -> list[str]:
    """Names of the builder's flags that are on."""
    if library == "tensorrt-rtx":
        reasons = {
            "hardware_compatible": "run on every GPU that it supports",
            "version_compatible": "run with the version that built them only, because it has no lean runtime",
        }
        for name, reason in reasons.items():
            if flags[name]:
                raise InputError(f"engines of tensorrt-rtx {reason}; leave {name} out", argument=name, library=library)
    return [name for name, is_on in flags.items() if is_on]


def _choose_gpu(library: ProviderName, version: str, device: int, report: Report) -> _Gpu:
    """The GPU number ``device``, as far as the engine depends on it.

    Raises:
        InputError: it is no number of a GPU.
        ProviderError: there is no such GPU, or the library does not support it.
    """
    if device < 0:
        raise InputError(f"device is {device}; give the number of a GPU, such as 0", argument="device", value=device)
    if library != "tensorrt-rtx":
        cuda = open_cuda(device)
        unsupported = why_unsupported(library, cuda.compute_capability, version)
        if unsupported:
            raise ProviderError(f"{library} {version} cannot build here: {unsupported}", provider=library)
        return _Gpu(cuda.compute_capability, cuda.name, cuda.multiprocessors, cuda)
    installed = driver.find_driver()
    count = installed.gpus if installed else 0
    if device >= max(1, count):
        raise ProviderError(
            f"GPU {device} was requested, but this machine has only {count}; choose a lower number",
            device=device,
            count=count,
        )
    capability = installed.compute_capability(device) if installed else ""
    if unsupported := why_unsupported(library, capability):
        report(f"the engine will not run on this machine: {unsupported}")
    return _Gpu(ANY)


def _build(trt: Any, job: _Job) -> list[Path]:
    """Build the engine and write its files; returns them."""
    log = new_log(trt)
    builder = _start(trt, job, log)
    job.report(f"{job.library} {job.version} reads {job.graph.file}")
    network = parse_network(trt, builder, log, job.artifact.folder / job.graph.file)
    described = describe_network(network)
    config = builder.create_builder_config()
    _configure(trt, config, job)
    shapes = add_profiles(builder, config, job.profiles, SLOTS)
    cache = _use_timing_cache(trt, config, job)
    job.report(f"building for {', '.join(map(str, job.profiles))}")
    engine = builder.build_serialized_network(network, config)
    job.file("log").write_text("\n".join(log.lines) + "\n", encoding="utf-8")
    if engine is None:
        reason = log.errors[-1] if log.errors else NO_REASON
        remedy = f"; {LEAN}" if LEAN_LIBRARY in reason else ""
        raise ProviderError(
            f"{job.library} {job.version} built no engine: {reason}{remedy} (more in {job.file('log')})",
            provider=job.library,
            log=job.file("log"),
        )
    job.file("engine").write_bytes(engine)
    job.file("layers.json").write_text(json.dumps({"profiles": shapes, **described}, indent=1), encoding="utf-8")
    written = [job.file("engine"), job.file("log"), job.file("layers.json")]
    if cache is not None:
        job.file("timings").write_bytes(cache.serialize())
        written.append(job.file("timings"))
    return written


def _start(trt: Any, job: _Job, log: Log) -> Any:
    """A builder. Its constructor raises TypeError if TensorRT makes none, because the binding then has no object."""
    try:
        return trt.Builder(log)
    except (TypeError, RuntimeError) as error:
        reason = first_error(log, str(error).partition("\n")[0])
        raise ProviderError(f"{job.library} {job.version} cannot start: {reason}", provider=job.library) from error


def _configure(trt: Any, config: Any, job: _Job) -> None:
    """Set the builder's flags."""
    flag = trt.BuilderFlag
    config.progress_monitor = new_progress(trt, job.report)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if job.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, job.workspace)
    if "allow_tf32" not in job.options:
        config.clear_flag(flag.TF32)  # it is on by default
    if "version_compatible" in job.options:
        config.set_flag(flag.VERSION_COMPATIBLE)
    if "hardware_compatible" in job.options:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if hasattr(flag, "REQUIRE_USER_ALLOCATION"):
        # Without it TensorRT-RTX may allocate memory while it runs, which no CUDA graph can capture.
        config.set_flag(flag.REQUIRE_USER_ALLOCATION)


def _use_timing_cache(trt: Any, config: Any, job: _Job) -> Any | None:
    """The timings of an earlier build, or an empty cache; None for tensorrt-rtx, which times no kernels."""
    if job.library == "tensorrt-rtx":
        return None
    file = job.file("timings")
    kept = b""
    if file.name in job.artifact.manifest.files:
        try:
            job.artifact.check_files([file.name])
            kept = file.read_bytes()
        except ArtifactError as error:
            job.report(f"kernels are timed again: {error}")
    cache = config.create_timing_cache(kept)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        job.report(f"kernels are timed again: {job.library} refuses {file}")
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
    return cache


def _record(job: _Job, written: list[Path]) -> Manifest:
    """Record the engine in the manifest; it replaces one of the same name."""
    engine = TensorRtEngineRecord(
        graph=job.graph.file,
        graph_sha256=job.artifact.manifest.files[job.graph.file].sha256,
        precision=job.graph.precision,
        file=job.file("engine").name,
        library=job.library,
        version=job.version,
        compute_capability=job.gpu.compute_capability,
        profiles=list(job.profiles),
        slots=SLOTS,
        options=job.options,
        gpu=job.gpu.name,
        multiprocessors=job.gpu.multiprocessors,
    )
    records = {path.name: FileRecord(path.stat().st_size, sha256_of(path)) for path in written}

    def change(manifest: Manifest) -> Manifest:
        others = [other for other in manifest.engines if other.file != engine.file]
        return replace(manifest, engines=[*others, engine], files={**manifest.files, **records})

    return update_manifest(job.artifact.folder, change)
