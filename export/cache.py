"""Artifacts that are exported once into a cache folder, for ``Reranker.from_checkpoint``."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

from filelock import FileLock

from modernrank import __version__
from modernrank.artifact.hashing import sha256_of
from modernrank.artifact.manifest import Manifest
from modernrank.backends.registry import PROVIDERS
from modernrank.errors import ArtifactError, InputError
from modernrank.host import cache_folder
from modernrank.options import EXACT, PrecisionChoice, PrecisionName, ProviderChoice, check_choice

from .checkpoint.hub import locate, origin_hashes
from .export import export_checkpoint
from .precision.registry import PRECISIONS
from .quality_gate import evaluation_of

# The providers that run graphs as they are, the most common first: an engine would have to be built beforehand.
WITHOUT_ENGINES = tuple(name for name in reversed(PROVIDERS) if not PROVIDERS[name].runs_engines)


def cached_artifact(
    checkpoint: str | Path,
    *,
    precision: PrecisionChoice = "fp32",
    provider: ProviderChoice = "auto",
    revision: str | None = None,
    cache: str | Path | None = None,
) -> Path:
    """The folder of the artifact of ``checkpoint``, exported on the first call.

    The folder's path has a hash of everything that the export reads: a changed checkpoint is exported again. One
    process exports while others wait for it. The artifact appears whole or not at all.

    Args:
        checkpoint: a hub id or a folder.
        precision: what the artifact must hold; ``"auto"`` for all that can be written for the provider.
        provider: what will run it; for ``"auto"`` the processor, or the GPU for a precision that processors lack.
        revision: of a hub id: a commit, tag or branch.
        cache: the cache folder; by default ``modernrank.host.cache_folder()``.

    Raises:
        InputError: the provider runs engines, which have to be built, or it has no such precision.
        ArtifactError: the checkpoint cannot be exported, or the cache folder cannot be written.
    """
    check_choice("precision", precision, PrecisionChoice)
    check_choice("provider", provider, ProviderChoice)
    precisions, dialect = choose_graphs(precision, provider)
    origin = locate(str(checkpoint), revision)
    key = {
        "files": origin_hashes(origin),
        "evaluation": _hashes_of(evaluation_of(origin.folder)),
        "precisions": precisions,
        "dialect": dialect,
        "modernrank": __version__,
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    name = re.sub(r"[^\w.-]+", "--", origin.model_id or origin.folder.resolve().name)
    root = (Path(cache) if cache is not None else cache_folder()) / "artifacts"
    folder = root / digest / name
    if _is_complete(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / ".lock"):
            if not _is_complete(folder):  # another process may have exported it meanwhile
                _clear(folder)
                source = origin.model_id or origin.folder
                export_checkpoint(source, folder, graph=dialect, precision=precisions, revision=origin.revision)
    except OSError as error:
        raise ArtifactError(
            f"cannot write the cache folder {root}: {error.strerror}; choose another one with cache=, or set "
            "MODERNRANK_CACHE",
            path=root,
        ) from error
    return folder


def choose_graphs(precision: PrecisionChoice, provider: ProviderChoice) -> tuple[tuple[PrecisionName, ...], str]:
    """The precisions to export, and the dialect in which the provider runs them without an engine.

    >>> choose_graphs("fp32", "auto"), choose_graphs("fp16", "auto"), choose_graphs("auto", "cpu")
    ((('fp32',), 'ort-cpu'), (('fp16',), 'ort-cuda'), (('fp32', 'int8'), 'ort-cpu'))

    Raises:
        InputError: the provider runs engines, or it has no such precision.
    """
    candidates = WITHOUT_ENGINES if provider == "auto" else (provider,)
    wanted = EXACT if precision == "auto" else precision
    for name in candidates:
        for dialect in PROVIDERS[name].dialects if not PROVIDERS[name].runs_engines else ():
            if dialect in PRECISIONS[wanted].dialects:
                every = tuple(other.name for other in PRECISIONS.values() if dialect in other.dialects)
                return (every if precision == "auto" else (PRECISIONS[wanted].name,)), dialect
    raise InputError(
        f"from_checkpoint cannot make an artifact in precision {precision!r} for provider {provider!r}; use "
        "`modernrank export`, for engines then `modernrank build-engine`, and Reranker.load",
        argument="provider",
        value=provider,
        precision=precision,
    )


def _is_complete(folder: Path) -> bool:
    """Whether the folder holds an artifact with a manifest that can be read."""
    try:
        Manifest.read(folder)
    except ArtifactError:
        return False
    return True


def _clear(folder: Path) -> None:
    """Remove a damaged artifact, and what killed exports left beside it. All of it belongs to the cache."""
    for leftover in (folder, *folder.parent.glob(".*.partial"), *folder.parent.glob(".*.replaced")):
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink(missing_ok=True)


def _hashes_of(evaluation: Path | None) -> dict[str, str]:
    """SHA-256 of the files of an evaluation set, which decides what ``"auto"`` may take."""
    if evaluation is None:
        return {}
    return {
        str(file.relative_to(evaluation)): sha256_of(file) for file in sorted(evaluation.rglob("*")) if file.is_file()
    }
