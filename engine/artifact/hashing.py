"""SHA-256 of files."""

from __future__ import annotations

import hashlib
from pathlib import Path

from modernrank.errors import ArtifactError


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal.

    Raises:
        ArtifactError: the file cannot be read.
    """
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(1 << 20))
    try:
        with path.open("rb", buffering=0) as stream:
            while read := stream.readinto(buffer):
                digest.update(buffer[:read])
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}", path=path) from error
    return digest.hexdigest()
