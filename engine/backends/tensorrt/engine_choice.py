"""Which engine of an artifact runs here, and why another does not. Pure, but for the hashes that it is given."""

from __future__ import annotations

from modernrank.artifact.manifest import Engine, Manifest
from modernrank.errors import ArtifactError

REBUILD = "build one here: modernrank tensorrt ARTIFACT"
ANY = "any"  # the compute capability of an engine that its library compiles at first use


def choose_engine(manifest: Manifest, library: str, version: str, compute_capability: str, precision: str) -> Engine:
    """The engine of ``manifest`` for this library, version and GPU.

    Args:
        manifest: of the artifact.
        library: ``"tensorrt"`` or ``"tensorrt-rtx"``.
        version: of the library that is installed.
        compute_capability: of the GPU, ``"9.0"``.
        precision: of the graph, or ``"auto"`` for the first of the manifest's auto precisions that has an engine.

    Raises:
        ArtifactError: none fits; it says of each why.
    """
    wanted_precisions = manifest.auto_precisions() if precision == "auto" else [precision]
    fitting, reasons = [], []
    for engine in manifest.engines:
        if precision in ("auto", engine.precision):
            why_not = reasons_against(manifest, engine, library, version, compute_capability)
            if engine.precision not in wanted_precisions:
                why_not.append(f"has not passed the quality gate of precision 'auto' (ask for {engine.precision!r})")
            if not why_not:
                fitting.append(engine)
            reasons.append(f"{engine.file} {' and '.join(why_not)}")
    if fitting:
        return min(fitting, key=lambda engine: wanted_precisions.index(engine.precision))
    wanted = f"engine of {library} {version} for compute capability {compute_capability}"
    there = "; ".join(reasons) or f"it has none{'' if precision == 'auto' else f' in {precision}'}"
    raise ArtifactError(f"{manifest.name} has no {wanted}: {there}; {REBUILD}")


def reasons_against(
    manifest: Manifest, engine: Engine, library: str, version: str, compute_capability: str
) -> list[str]:
    """Why ``engine`` cannot run here, one reason each; empty if it can."""
    reasons = []
    if engine.library != library:
        reasons.append(f"is of {engine.library}")
    elif not _same_version(engine, version):
        reasons.append(f"was built by version {engine.version}")
    if not _fits_gpu(engine, compute_capability):
        reasons.append(f"was built for compute capability {engine.compute_capability}")
    graph = manifest.files.get(engine.graph)
    if graph is None or graph.sha256 != engine.graph_sha256:
        reasons.append(f"was built from another {engine.graph}")
    return reasons


def _same_version(engine: Engine, version: str) -> bool:
    """Exactly the same, but for a version-compatible engine: the same major version, and not an older one."""
    if engine.version == version:
        return True
    built, here = _numbers(engine.version), _numbers(version)
    return "version_compatible" in engine.options and built[:1] == here[:1] and built <= here


def _fits_gpu(engine: Engine, compute_capability: str) -> bool:
    """The same GPU generation; a hardware-compatible engine runs from compute capability 8.0 on."""
    if engine.compute_capability in (ANY, compute_capability):
        return True
    return "hardware_compatible" in engine.options and _numbers(compute_capability) >= (8, 0)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
