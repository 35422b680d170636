"""Where settings come from: flags before variables before a TOML file before defaults."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import msgspec

from modernrank.errors import InputError

from .settings import Settings

PREFIX = "MODERNRANK_"
CONFIG = "config"
KEYS_VARIABLE = f"{PREFIX}API_KEYS"
NAMES = tuple(entry.name for entry in fields(Settings))


@dataclass(frozen=True)
class Sourced:
    """Settings, and where each value that is not a default came from."""

    settings: Settings
    origin: Mapping[str, str]

    def lines(self) -> Iterator[str]:
        """All settings as TOML, each with its origin."""
        for name in NAMES:
            value, origin = getattr(self.settings, name), self.origin.get(name, "default")
            if value is None:
                yield f"# {name} is not set"
            else:
                yield f"{name} = {_toml(value)}  # {origin}"


def read_settings(flags: Mapping[str, Any], environment: Mapping[str, str]) -> Sourced:
    """The settings of a server.

    Args:
        flags: values by the names of settings; None for those that were not given. ``config`` names a TOML file.
        environment: variables, of which those beginning with MODERNRANK_ count.

    Raises:
        InputError: a name is unknown, or a value has the wrong type or is out of its range.
    """
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    config = flags.get(CONFIG) or environment.get(f"{PREFIX}CONFIG")
    for source, found in (
        (str(config), _from_file(Path(config)) if config else {}),
        ("environment", _from_environment(environment)),
        ("flag", {name: value for name, value in flags.items() if value is not None and name != CONFIG}),
    ):
        for name, value in found.items():
            if name not in NAMES:
                raise InputError(f"{source}: there is no setting {name!r}; the settings are {', '.join(NAMES)}")
            values[name], origin[name] = value, source
    return Sourced(_checked(values, origin), origin)


def _from_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", argument=CONFIG, value=str(path)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid TOML ({error})", argument=CONFIG, value=str(path)) from error


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in environment.items():
        if name.startswith(PREFIX) and value:
            setting = name.removeprefix(PREFIX).lower()
            if setting in NAMES:  # others are of the engine, such as MODERNRANK_CACHE, and the keys
                found[setting] = value.split() if setting == "artifacts" else value
    return found


def _checked(values: Mapping[str, Any], origin: Mapping[str, str]) -> Settings:
    for name, value in values.items():
        try:
            _convert({name: value})
        except msgspec.ValidationError as error:
            if isinstance(error.__cause__, InputError):
                raise error.__cause__ from error
            reason = str(error).partition(" - at ")[0]
            raise InputError(
                f"{name} = {value!r} ({origin[name]}): {reason}", argument=name, value=value, source=origin[name]
            ) from error
    return _convert(values)


def _convert(values: Mapping[str, Any]) -> Settings:
    return msgspec.convert(dict(values), Settings, strict=False, dec_hook=_path)


def _path(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise TypeError(f"expected a path, and not {value!r}")


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)
