"""Finds and reads the text files that an assistant names. Nothing outside the allowed folders is read."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from modernrank.errors import InputError

MAX_FILES = 1000
MAX_FILE_BYTES = 2**20
MAX_TOTAL_CHARACTERS = 2**25
PATTERN_CHARACTERS = frozenset("*?[")


@dataclass(frozen=True)
class TextFile:
    """A file that was read: its path as an assistant may name it, and its text."""

    path: str
    text: str


@dataclass(frozen=True)
class SkippedFile:
    """A path that was not ranked, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class ReadFiles:
    """What the paths of one call led to."""

    files: list[TextFile]
    skipped: list[SkippedFile]


class AllowedFolders:
    """The folders whose files may be read.

    Args:
        folders: existing folders; a path that an assistant names is relative to one of them, or absolute.

    Raises:
        InputError: one of them is no folder.
    """

    def __init__(self, folders: Sequence[str | os.PathLike[str]]) -> None:
        for folder in folders:
            if not os.path.isdir(folder):
                raise InputError(
                    f"{os.fspath(folder)} is not a folder; name folders whose files may be ranked", argument="folders"
                )
        self._folders = [Path(folder).resolve() for folder in folders]

    def __str__(self) -> str:
        return ", ".join(map(str, self._folders))

    def read(self, paths: Sequence[str]) -> ReadFiles:
        """Read each file that ``paths`` lead to, once.

        Args:
            paths: files, folders, which are searched to their depths, or patterns such as ``docs/**/*.md``. Names that
                begin with a dot are found only where a path spells them out.

        Raises:
            InputError: there are more than 1,000 files, or more than 2^25 characters in them.
        """
        read = ReadFiles([], [])
        characters = 0
        for file in self._find(paths, read.skipped):
            text, reason = _text_of(file)
            if reason:
                read.skipped.append(SkippedFile(self._shown(file), reason))
                continue
            characters += len(text)
            if characters > MAX_TOTAL_CHARACTERS:
                raise InputError(
                    f"the files have more than {MAX_TOTAL_CHARACTERS:,} characters; name fewer of them",
                    argument="paths",
                    limit=MAX_TOTAL_CHARACTERS,
                )
            read.files.append(TextFile(self._shown(file), text))
        return read

    def _find(self, paths: Sequence[str], skipped: list[SkippedFile]) -> dict[Path, None]:
        """The resolved files, each once, in the order of ``paths``. What leads to none is added to ``skipped``."""
        found: dict[Path, None] = {}
        for path in paths:
            try:
                files = self._files_of(path, skipped)
            except ValueError as error:
                skipped.append(SkippedFile(path, f"it is no path: {error}"))
                continue
            found.update(dict.fromkeys(files))
            if len(found) > MAX_FILES:
                raise InputError(
                    f"paths lead to more than {MAX_FILES:,} files; name fewer, such as docs/*.md",
                    argument="paths",
                    limit=MAX_FILES,
                )
        return found

    def _files_of(self, path: str, skipped: list[SkippedFile]) -> list[Path]:
        """The resolved files of one path, of which at most one more than the limit is read."""
        if all(self._folder_of((folder / path).resolve()) is None for folder in self._folders):
            skipped.append(SkippedFile(path, f"it is outside of {self}"))  # whether it exists is not said
            return []
        places = [place for place in self._places(path) if self._is_inside(place, skipped)]
        named = (file for place in places for file in _files_at(place, skipped))
        looked_at = itertools.islice(named, MAX_FILES + 1)
        files = [file.resolve() for file in looked_at if self._is_inside(file, skipped)]
        if not files:
            skipped.append(SkippedFile(path, f"it leads to no file in {self}"))
        return files

    def _places(self, path: str) -> list[Path]:
        """The files and folders that a path or a pattern names in the allowed folders."""
        named = [folder / path for folder in self._folders if path and os.path.exists(folder / path)]
        if named or not PATTERN_CHARACTERS & set(path):
            return list(dict.fromkeys(named))
        shows_hidden = any(part.startswith(".") for part in Path(path).parts)
        return [
            place
            for folder in self._folders
            for place in sorted(folder.glob(os.path.relpath(path, folder) if os.path.isabs(path) else path))
            if shows_hidden or not _is_hidden(place, folder)
        ]

    def _folder_of(self, resolved: Path) -> Path | None:
        return next((folder for folder in self._folders if resolved.is_relative_to(folder)), None)

    def _is_inside(self, place: Path, skipped: list[SkippedFile]) -> bool:
        """Whether it is in an allowed folder once links are followed; one that leads elsewhere is noted."""
        if self._folder_of(place.resolve()) is not None:
            return True
        skipped.append(SkippedFile(str(place), f"it leads outside of {self}"))
        return False

    def _shown(self, file: Path) -> str:
        """Relative to its folder; absolute where several folders are allowed, so that the name leads back."""
        folder = self._folder_of(file)
        return str(file) if folder is None or len(self._folders) > 1 else str(file.relative_to(folder))


def _is_hidden(place: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in place.relative_to(folder).parts)


def _files_at(place: Path, skipped: list[SkippedFile]) -> Iterator[Path]:
    """The file itself, or all files in a folder in the order of their names, but for hidden ones."""

    def note(error: OSError) -> None:
        skipped.append(SkippedFile(str(error.filename), f"it cannot be read: {error.strerror}"))

    if not place.is_dir():
        yield place
        return
    for folder, folders, names in os.walk(place, onerror=note):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))


def _text_of(file: Path) -> tuple[str, str]:
    """The text of a file, and "" or why it has none."""
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would never end
            return "", "it is not a regular file"
        if status.st_size > MAX_FILE_BYTES:
            return "", f"it has {status.st_size:,} bytes; the maximum is {MAX_FILE_BYTES:,}"
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        return "", "it is not text in UTF-8"
    except OSError as error:
        return "", f"it cannot be read: {error.strerror}"
    if "\0" in text:
        return "", "it is not text: it has NUL characters"
    return (text, "") if text.strip() else ("", "it is empty")
