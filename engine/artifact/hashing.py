"""Read the files of artifacts and checkpoints; what is wrong with one is an ``ArtifactError`` that names it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from modernrank.errors import ArtifactError


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(1 << 20))
    try:
        with path.open("rb", buffering=0) as stream:
            while read := stream.readinto(buffer):
                digest.update(buffer[:read])
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}") from error
    return digest.hexdigest()


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object that a file holds.

    Raises:
        ArtifactError: it cannot be read, is not JSON, or holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise ArtifactError(f"{path} is not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise ArtifactError(f"{path} holds no JSON object but {type(value).__name__}")
    return value
