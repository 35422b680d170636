"""``build_engine``: an artifact's graph goes in, an engine beside it comes out."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from modernrank.artifact.folder import Artifact
from modernrank.artifact.hashing import sha256_of
from modernrank.artifact.manifest import FileRecord, Manifest, OnnxGraph, Profile, TensorRtEngineRecord
from modernrank.backends.cuda.choose import open_cuda
from modernrank.backends.profiles import SLOTS, check_profiles, default_profiles
from modernrank.backends.registry import PROVIDERS
from modernrank.backends.tensorrt.engine_choice import ANY
from modernrank.backends.tensorrt.library import INSTALL, find_library, load_library
from modernrank.errors import ArtifactError, InputError, ProviderError
from modernrank.export.export import rewrite_manifest
from modernrank.options import PrecisionChoice

from .logs import new_log, new_progress
from .network import add_profiles, describe_network, parse_network

LIBRARIES = ("tensorrt", "tensorrt-rtx")


@dataclass(frozen=True)
class _Job:
    """What is built, for whom, and under which name."""

    artifact: Artifact
    graph: OnnxGraph
    library: str
    version: str
    compute_capability: str
    profiles: Sequence[Profile]
    options: list[str]

    @property
    def stem(self) -> str:
        """Of the names of the engine's files."""
        gpu = "" if self.compute_capability == ANY else f"-sm{self.compute_capability.replace('.', '')}"
        return f"model.{self.graph.precision}.{self.library}-{self.version}{gpu}"

    def file(self, suffix: str) -> Path:
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
    device: int = 0,
    report: Callable[[str], None] = lambda message: None,
) -> Manifest:
    """Build a TensorRT engine for this machine and record it in the artifact's manifest.

    An engine of the same library, version, GPU and precision is replaced. Beside the engine stay TensorRT's log, its
    layers, and the cache of its timings, which makes a second build quick.

    Args:
        folder: an artifact with a graph in a TensorRT dialect.
        library: ``"tensorrt"``, ``"tensorrt-rtx"`` (which needs no GPU to build), or ``"auto"`` for the first of them
            that is installed.
        precision: which graph; for ``"auto"`` the first of fp32, fp16 that the artifact has for TensorRT.
        profiles: the shapes to be ready for; by default short contexts of up to 64 x 512 and long ones of up to 4 x
            8,192. One engine holds them all, and its weights once.
        workspace: most bytes of scratch memory that a kernel may ask for; by default the GPU's.
        version_compatible: let later versions of the same major version run the engine; it may be slower.
        hardware_compatible: let GPUs from compute capability 8.0 on run it; it may be slower.
        device: number of the GPU.
        report: called with a line for each step.

    Returns:
        The new manifest.

    Raises:
        ArtifactError: there is no such graph, or TensorRT cannot read it.
        ProfileError: profiles that overlap, do not grow, or exceed the model.
        ProviderError: the library or the GPU is not there, or TensorRT builds nothing.
    """
    artifact = Artifact.open(folder)
    library = _choose_library(library)
    graph = artifact.graph_to_build(precision, PROVIDERS[library].dialects)
    longest = artifact.manifest.model.max_length
    profiles = default_profiles(longest) if profiles is None else profiles
    check_profiles(profiles, longest)
    if hardware_compatible and library == "tensorrt-rtx":
        raise InputError("engines of tensorrt-rtx run on every GPU that it knows; leave hardware_compatible out")
    trt = load_library(library)
    capability = ANY if library == "tensorrt-rtx" else open_cuda(device).compute_capability
    flags = {"version_compatible": version_compatible, "hardware_compatible": hardware_compatible}
    options = [name for name, is_on in flags.items() if is_on]
    job = _Job(artifact, graph, library, str(trt.__version__), capability, profiles, options)
    artifact.check_files([name for name in (graph.file, graph.data) if name])
    written = _build(trt, job, workspace, report)
    return _record(job, written)


def _choose_library(library: str) -> str:
    if library == "auto":
        for name in LIBRARIES:
            if find_library(name) is not None:
                return name
        raise ProviderError(f"TensorRT is not installed. To get it: {'; or '.join(INSTALL.values())}")
    if library not in LIBRARIES:
        raise InputError(f"library {library!r} is unknown; choose one of auto, {', '.join(LIBRARIES)}")
    return library


def _build(trt: Any, job: _Job, workspace: int | None, report: Callable[[str], None]) -> list[Path]:
    """Build and write the engine and what stays beside it; returns the files."""
    log = new_log(trt)
    builder = trt.Builder(log)
    if builder is None:
        raise ProviderError(f"{job.library} {job.version} cannot start: {' '.join(log.errors)}")
    report(f"{job.library} {job.version} reads {job.graph.file}")
    network = parse_network(trt, builder, log, job.artifact.folder / job.graph.file)
    described = describe_network(network)
    config = builder.create_builder_config()
    config.progress_monitor = new_progress(trt, report)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)
    if "version_compatible" in job.options:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if "hardware_compatible" in job.options:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    shapes = add_profiles(builder, config, job.profiles, SLOTS)
    cache = _use_timing_cache(trt, config, job, report)
    report(f"building for {', '.join(map(str, job.profiles))}")
    engine = builder.build_serialized_network(network, config)
    job.file("log").write_text("\n".join(log.lines) + "\n", encoding="utf-8")
    if engine is None:
        said = log.errors[-1] if log.errors else "it does not say why"
        raise ProviderError(f"{job.library} {job.version} built no engine: {said} (more in {job.file('log')})")
    job.file("engine").write_bytes(engine)
    job.file("layers.json").write_text(json.dumps({"profiles": shapes, **described}, indent=1), encoding="utf-8")
    written = [job.file("engine"), job.file("log"), job.file("layers.json")]
    if cache is not None:
        job.file("timings").write_bytes(cache.serialize())
        written.append(job.file("timings"))
    return written


def _use_timing_cache(trt: Any, config: Any, job: _Job, report: Callable[[str], None]) -> Any | None:
    """The timings of an earlier build, or new ones; none for tensorrt-rtx, which times nothing when it builds."""
    if job.library == "tensorrt-rtx":
        return None
    file = job.file("timings")
    kept = b""
    if file.name in job.artifact.manifest.files:
        try:
            job.artifact.check_files([file.name])
            kept = file.read_bytes()
        except ArtifactError as error:
            report(f"timings are taken anew: {error}")
    cache = config.create_timing_cache(kept)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        report(f"timings are taken anew: {job.library} refuses {file}")
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
    return cache


def _record(job: _Job, written: list[Path]) -> Manifest:
    """Put the engine into the manifest, at the place of one of the same name."""
    manifest = Manifest.read(job.artifact.folder)  # another build may have written it meanwhile
    engine = TensorRtEngineRecord(
        graph=job.graph.file,
        graph_sha256=manifest.files[job.graph.file].sha256,
        precision=job.graph.precision,
        file=job.file("engine").name,
        library=job.library,
        version=job.version,
        compute_capability=job.compute_capability,
        profiles=list(job.profiles),
        slots=SLOTS,
        options=job.options,
    )
    others = [other for other in manifest.engines if other.file != engine.file]
    records = {path.name: FileRecord(path.stat().st_size, sha256_of(path)) for path in written}
    changed = replace(manifest, engines=[*others, engine], files={**manifest.files, **records})
    rewrite_manifest(job.artifact.folder, changed)
    return changed
