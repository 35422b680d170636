"""Which engine of an artifact runs on this machine, and why another one does not. Pure functions."""

from __future__ import annotations

from modernrank.artifact.manifest import Manifest, TensorRtEngineRecord
from modernrank.backends.cuda.capability import HARDWARE_COMPATIBLE, numbers, why_unsupported
from modernrank.errors import ArtifactError, ProviderError
from modernrank.options import PrecisionChoice

REBUILD = "build one on this machine: modernrank build-engine ARTIFACT"
ANY = "any"  # the compute capability of an engine that its library compiles at first use


def choose_engine(
    manifest: Manifest, library: str, version: str, compute_capability: str, precision: PrecisionChoice
) -> TensorRtEngineRecord:
    """The engine of ``manifest`` for this library, version and GPU.

    Args:
        manifest: of the artifact.
        library: ``"tensorrt"`` or ``"tensorrt-rtx"``.
        version: of the installed library.
        compute_capability: of the GPU, ``"9.0"``.
        precision: of the graph, or ``"auto"`` for the first of the manifest's auto precisions that has an engine.

    Raises:
        ProviderError: the library supports no GPU of this compute capability; no other engine would change that.
        ArtifactError: none fits; ``details["reasons"]`` says why, by the engine's file.
    """
    unsupported = why_unsupported(library, compute_capability, version)
    if unsupported:
        raise ProviderError(
            f"{library} {version} cannot run here: {unsupported}",
            provider=library,
            compute_capability=compute_capability,
        )
    precisions = manifest.auto_precisions() if precision == "auto" else [precision]
    fitting: list[TensorRtEngineRecord] = []
    reasons: dict[str, list[str]] = {}
    for engine in manifest.engines:
        if precision not in ("auto", engine.precision):
            continue
        against = reasons_against(manifest, engine, library, version, compute_capability)
        if engine.precision not in precisions:
            against.append(f"has not passed the quality gate of precision 'auto' (choose {engine.precision!r} by name)")
        if not against:
            fitting.append(engine)
        reasons[engine.file] = against
    if fitting:
        return min(fitting, key=lambda engine: [*precisions].index(engine.precision))  # type: ignore[arg-type]
    wanted = f"engine of {library} {version} for compute capability {compute_capability}"
    listed = "; ".join(f"{file} {' and '.join(against)}" for file, against in reasons.items())
    none = f"it has none{'' if precision == 'auto' else f' in {precision}'}"
    raise ArtifactError(f"{manifest.name} has no {wanted}: {listed or none}; {REBUILD}", reasons=reasons)


def reasons_against(
    manifest: Manifest, engine: TensorRtEngineRecord, library: str, version: str, compute_capability: str
) -> list[str]:
    """Why ``engine`` cannot run on this machine, one reason each; empty if it can."""
    reasons = []
    if engine.library != library:
        reasons.append(f"is for {engine.library}")
    elif not _same_version(engine, version):
        reasons.append(f"was built by version {engine.version}")
    if not _fits_gpu(engine, compute_capability):
        reasons.append(f"was built for compute capability {engine.compute_capability}")
    graph = manifest.files.get(engine.graph)
    if graph is None or graph.sha256 != engine.graph_sha256:
        reasons.append(f"was built from another {engine.graph}")
    return reasons


def differs_from(engine: TensorRtEngineRecord, gpu: str, multiprocessors: int) -> str:
    """How the GPU that built an engine differs from one of the same compute capability; "" if it does not.

    The engine runs, but its kernels were chosen by timings on the other GPU. An engine of an earlier version of
    modernrank does not say which one that was, and TensorRT-RTX times no kernels.

    Args:
        engine: that is about to run.
        gpu: the name of this machine's GPU.
        multiprocessors: their number on it.
    """
    if not engine.gpu or (engine.gpu, engine.multiprocessors) == (gpu, multiprocessors):
        return ""
    return (
        f"{engine.file} was built on {engine.gpu} with {engine.multiprocessors} multiprocessors and runs on {gpu} with "
        f"{multiprocessors}; one that is built on this machine may be faster: modernrank build-engine ARTIFACT"
    )


def _same_version(engine: TensorRtEngineRecord, version: str) -> bool:
    """Whether the versions are equal, or a version-compatible engine is not newer and of the same major version."""
    if engine.version == version:
        return True
    built, installed = numbers(engine.version), numbers(version)
    return "version_compatible" in engine.options and built[:1] == installed[:1] and built <= installed


def _fits_gpu(engine: TensorRtEngineRecord, compute_capability: str) -> bool:
    """Whether the GPU generation is the same, or for a hardware-compatible engine, compute capability 8.0 or higher."""
    if engine.compute_capability in (ANY, compute_capability):
        return True
    return "hardware_compatible" in engine.options and numbers(compute_capability) >= HARDWARE_COMPATIBLE
