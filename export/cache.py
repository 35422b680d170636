"""Artifacts that are exported once into a cache folder, for ``Reranker.from_checkpoint``."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from pathlib import Path

from filelock import FileLock

from modernrank import __version__
from modernrank.artifact.manifest import FILE_NAME
from modernrank.errors import ArtifactError
from modernrank.host import cache_folder
from modernrank.options import PrecisionChoice

from .checkpoint.hub import locate, origin_hashes
from .checkpoint.weights import weight_files
from .export import export_checkpoint

logger = logging.getLogger(__name__)

# What "auto" exports: the exact one, and the one that runs on processors if its quality passes.
AUTO = ("fp32", "int8")


def cached_artifact(
    checkpoint: str | Path,
    *,
    precision: PrecisionChoice = "fp32",
    revision: str | None = None,
    cache: str | Path | None = None,
) -> Path:
    """The folder of the artifact of ``checkpoint``, exported on the first call.

    The folder's path has a hash of the checkpoint's files, the precision and modernrank's version: a changed checkpoint
    is exported again. One process exports while others wait for it; the artifact appears whole or not at all.

    Args:
        checkpoint: a hub id or a folder.
        precision: what the artifact must hold; ``"auto"`` for AUTO.
        revision: of a hub id: a commit, tag or branch.
        cache: the cache folder; by default ``modernrank.host.cache_folder()``.

    Raises:
        ArtifactError: the checkpoint cannot be exported, or the cache folder cannot be written.
    """
    origin = locate(str(checkpoint), revision)
    precisions = AUTO if precision == "auto" else (precision,)
    key = {"files": origin_hashes(origin, weight_files(origin.folder)), "precisions": precisions, "by": __version__}
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    name = re.sub(r"[^\w.-]+", "--", origin.model_id or origin.folder.resolve().name)
    root = (Path(cache) if cache is not None else cache_folder()) / "artifacts"
    folder = root / digest / name
    if (folder / FILE_NAME).is_file():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.parent / ".lock")
        with lock:
            if not (folder / FILE_NAME).is_file():  # another process may have exported it meanwhile
                started = time.perf_counter()
                export_checkpoint(
                    origin.model_id or origin.folder, folder, precision=precisions, revision=origin.revision
                )
                logger.info("exported %s to %s in %.1f s", checkpoint, folder, time.perf_counter() - started)
    except OSError as error:
        raise ArtifactError(
            f"cannot write the cache folder {root}: {error.strerror}; choose another one with cache=, or set "
            "MODERNRANK_CACHE",
            path=root,
        ) from error
    return folder
