"""Frozen dataclasses from JSON, with their types checked."""

from __future__ import annotations

import json
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from modernrank.errors import ArtifactError

T = TypeVar("T")


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        ArtifactError: the file cannot be read, is not JSON, or holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}", path=path) from error
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise ArtifactError(f"{path} is not valid JSON ({error})", path=path) from error
    if not isinstance(value, dict):
        raise ArtifactError(f"{path} holds {type(value).__name__}, not a JSON object", path=path)
    return value


def record(kind: type[T], data: dict[str, Any]) -> T:
    """Build a dataclass from JSON. Unknown fields are additions of a later version, and are ignored.

    Raises:
        TypeError: a field is missing or has another type.
    """
    types = get_type_hints(kind)
    known = {name: value for name, value in data.items() if name in types}
    for name, value in known.items():
        if not _has_type(value, types[name]):
            raise TypeError(f"{kind.__name__}.{name} is {value!r}")
    return kind(**known)


def _has_type(value: Any, hint: Any) -> bool:
    """Whether a value has an annotated type, for the annotations that records use."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin is list:
        return isinstance(value, list) and all(_has_type(item, arguments[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(_has_type(item, arguments[1]) for item in value.values())
    if origin is UnionType:
        return any(_has_type(value, argument) for argument in arguments)
    return isinstance(value, hint) and not (hint is int and isinstance(value, bool))
