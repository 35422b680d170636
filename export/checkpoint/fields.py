"""The fields of a JSON file of a checkpoint, taken one by one: each is honoured, refused, or known to have no effect.

Whatever is left when all have been taken is named in a warning, so that no unknown field is ignored silently.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import Any, NoReturn

from modernrank.artifact.json_records import read_json_object
from modernrank.errors import ArtifactError


class Fields:
    """The fields of the JSON object in ``path``; none if ``is_optional`` and there is no such file.

    Raises:
        ArtifactError: the file cannot be read or holds no object. The methods raise it too, for a value that is not
            allowed; its details name ``path``, ``field`` and ``value``.
    """

    def __init__(self, path: Path, is_optional: bool = False) -> None:
        self.path = path
        self._raw: Mapping[str, Any] = {} if is_optional and not path.is_file() else read_json_object(path)
        self._seen: set[str] = set()

    @property
    def names(self) -> Set[str]:
        """Those that the file has."""
        return self._raw.keys()

    def take(self, name: str, default: Any = None) -> Any:
        """The value of a field, whatever it is."""
        self._seen.add(name)
        return self._raw.get(name, default)

    def ignore(self, names: Iterable[str]) -> None:
        """Fields that do not change a score."""
        self._seen.update(names)

    def count(self, name: str, default: int | None = None) -> int:
        """A whole number of at least 1."""
        value = self.take(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            self.refuse(name, value, "must be a whole number, and the minimum is 1")
        return int(value)

    def flag(self, name: str, default: bool = False) -> bool:
        """A boolean."""
        value = self.take(name, default)
        if not isinstance(value, bool):
            self.refuse(name, value, "must be true or false")
        return bool(value)

    def positive(self, name: str, default: float) -> float:
        """A finite number above 0."""
        return self.check_positive(name, self.take(name, default))

    def check_positive(self, name: str, value: Any) -> float:
        """``value`` of the field ``name``, if it is a finite number above 0."""
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < float("inf"):
            self.refuse(name, value, "must be a positive number")
        return float(value)

    def mapping(self, name: str) -> dict[str, Any]:
        """An object; empty if the field is missing or null."""
        value = self.take(name)
        if value is not None and not isinstance(value, dict):
            self.refuse(name, value, "must be an object")
        return value or {}

    def text(self, name: str, default: str) -> str:
        """A string; ``default`` if the field is missing or null."""
        value = self.take(name)
        if value is not None and not isinstance(value, str):
            self.refuse(name, value, "must be a string")
        return default if value is None else value

    def one_of(self, name: str, default: str, choices: Iterable[str]) -> str:
        """One of the ``choices``."""
        value, choices = self.take(name, default), tuple(choices)
        if value not in choices:
            self.refuse(name, value, f"is not implemented; implemented are {', '.join(choices)}")
        return str(value)

    def refuse_if_set(self, names: Iterable[str]) -> None:
        """Fields that would have an effect that is not implemented, unless they are empty."""
        for name in names:
            if self.take(name):
                self.refuse(name, self._raw[name], "is not implemented")

    def refuse(self, name: str, value: object, why: str) -> NoReturn:
        """Raise the error of a field."""
        raise ArtifactError(f"{self.path}: {name} = {value!r} {why}", path=self.path, field=name, value=value)

    def warn_of_the_rest(self) -> None:
        """Warn of the fields that nothing has taken."""
        unknown = sorted(set(self._raw) - self._seen)
        if unknown:
            warnings.warn(
                f"{self.path} has unknown fields, which are ignored: {', '.join(unknown)}; "
                "check the scores with `modernrank verify`",
                stacklevel=4,
            )
