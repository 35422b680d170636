"""What TensorRT-RTX compiles while an engine runs, kept in a file of the user's cache folder, outside the artifact."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from modernrank.backends.cuda.driver import current_device_name
from modernrank.errors import ArtifactError
from modernrank.host import cache_folder

logger = logging.getLogger(__name__)


class RuntimeCache:
    """The cache of one engine on one GPU, loaded from its file if there is one that TensorRT-RTX accepts.

    It only saves time, so no failure to read or write it is an error: each is logged, and kernels are compiled again.

    Args:
        config: TensorRT-RTX's runtime configuration, which gets the cache.
        engine: the engine's bytes.
        version: of TensorRT-RTX.
        folder: for caches; None for the user's.
    """

    def __init__(self, config: Any, engine: bytes, version: str, folder: Path | None) -> None:
        self._cache = config.create_runtime_cache()
        self._file = _file(engine, version, folder)
        self._saved = self._load()
        config.set_runtime_cache(self._cache)

    def save(self) -> None:
        """Write the cache if it has changed. The file is replaced at once, so that no process reads a part of it."""
        file, content = self._file, bytes(self._cache.serialize() or b"")
        if file is None or not content or content == self._saved:
            return
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            _replace(file, content)
        except OSError as error:
            logger.warning("cannot keep the kernels of TensorRT-RTX in %s: %s", file, error.strerror)
            return
        self._saved = content
        logger.info("kept the kernels of TensorRT-RTX in %s (%.1f MB)", file, len(content) / 1e6)

    def _load(self) -> bytes:
        """The content of the file if TensorRT-RTX accepts it, else nothing."""
        if self._file is None:
            return b""
        try:
            content = self._file.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            logger.warning("cannot read the kernels of TensorRT-RTX in %s: %s", self._file, error.strerror)
            return b""
        try:
            accepted = self._cache.deserialize(content)
        except RuntimeError as error:
            accepted = False
            logger.debug("TensorRT-RTX: %s", error)
        if accepted:
            return content
        logger.info(
            "discarding the kernels of TensorRT-RTX in %s, which is damaged or of another GPU, driver or version; "
            "kernels are compiled again",
            self._file,
        )
        return b""


def _file(engine: bytes, version: str, folder: Path | None) -> Path | None:
    """The file for an engine on the GPU of the calling thread; None if the user has no cache folder."""
    try:
        folder = folder or cache_folder()
    except ArtifactError as error:
        logger.warning("the kernels of TensorRT-RTX are not kept: %s", error)
        return None
    gpu = re.sub(r"[^A-Za-z0-9]+", "-", current_device_name())
    name = f"{hashlib.sha256(engine).hexdigest()[:16]}-{version}-{gpu}.cache"
    return folder / "tensorrt-rtx" / name


def _replace(file: Path, content: bytes) -> None:
    """Write a file under another name in the same folder, then rename it."""
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f"{file.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        os.replace(name, file)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
