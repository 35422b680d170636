"""An artifact's folder: it appears whole or not at all, and its manifest changes in one step."""

from __future__ import annotations

import dataclasses
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from modernrank.artifact.json_records import read_json_object
from modernrank.artifact.manifest import FILE_NAME, Manifest, manifest_text
from modernrank.errors import ArtifactError

PARTIAL_MANIFEST = f".{FILE_NAME}."

try:
    import fcntl

    HAS_LOCKS = True
except ImportError:  # Windows, where two simultaneous changes of a manifest are not protected from each other
    HAS_LOCKS = False


def check_target(out: Path, force: bool) -> None:
    """Refuse to overwrite an artifact, and never delete a file that is not an artifact's.

    Raises:
        ArtifactError: ``out`` is in use. Only another export's artifact may be replaced, and only by ``force``.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise ArtifactError(f"{out} exists and is not a folder; choose another --out", path=out)
    names = {path.name for path in out.iterdir()}
    if not names:
        return
    if FILE_NAME not in names:
        raise ArtifactError(f"{out} exists and is not an artifact; choose another --out", path=out)
    try:
        own = {*Manifest.read(out).files, FILE_NAME}
    except ArtifactError as error:
        raise ArtifactError(
            f"{out} holds a manifest that cannot be read ({error}), so it is unknown which files are the artifact's; "
            "delete the folder yourself, or choose another --out",
            path=out,
        ) from error
    # A manifest's update that was killed leaves a partial file.
    foreign = sorted(name for name in names - own if not name.startswith(PARTIAL_MANIFEST))
    if foreign:
        raise ArtifactError(
            f"{out} holds {foreign[0]}, which is not part of its artifact; move it, or choose another --out",
            path=out,
            foreign=foreign,
        )
    if not force:
        raise ArtifactError(
            f"{out} already holds an artifact; replace it with --force, or choose another --out", path=out
        )


@contextmanager
def replacing(out: Path, force: bool) -> Iterator[Path]:
    """A temporary folder beside ``out``, which takes its place on success and is deleted on failure.

    Raises:
        ArtifactError: ``out`` may not be replaced (see ``check_target``), or it cannot be written.
    """
    partial = out.parent / f".{out.name}.{secrets.token_hex(4)}.partial"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()  # with the permissions of any other folder, unlike tempfile's
    except OSError as error:
        raise ArtifactError(
            f"cannot write to {out.parent}: {error.strerror}; choose another --out", path=out.parent
        ) from error
    try:
        yield partial
        check_target(out, force)
        _swap(partial, out)
    except OSError as error:
        free = shutil.disk_usage(out.parent).free
        raise ArtifactError(
            f"cannot write {out}: {error.strerror}. {free / 1e6:,.0f} MB are free on its disk, and an artifact needs "
            "about the checkpoint's size. Nothing was kept",
            path=out,
            free=free,
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _swap(partial: Path, out: Path) -> None:
    """Put ``partial`` in the place of ``out``; if that fails, restore the previous artifact."""
    old = partial.with_suffix(".replaced")
    if out.exists():
        out.rename(old)
    try:
        partial.rename(out)
    except OSError:
        if old.exists():
            old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def update_manifest(folder: Path, change: Callable[[Manifest], Manifest]) -> Manifest:
    """Replace the manifest of the artifact in ``folder`` by ``change`` of it, and return the new one.

    Calls for the same folder wait for each other, in this process and in others, so that none undoes what another one
    has recorded meanwhile.

    Raises:
        ArtifactError: the manifest cannot be read or written.
    """
    with _locked(folder):
        before = Manifest.read(folder)
        after = change(before)
        raw = read_json_object(folder / FILE_NAME)
        _rewrite(folder, changed_fields(raw, dataclasses.asdict(before), dataclasses.asdict(after)))
    return after


def changed_fields(raw: Any, before: Any, after: Any) -> Any:
    """The JSON value ``raw`` with what differs between two records of it; unknown entries are kept.

    >>> changed_fields({"a": 1, "new": 2}, {"a": 1, "b": 0}, {"a": 5, "b": 0})
    {'a': 5, 'new': 2}
    """
    if not (isinstance(raw, dict) and isinstance(before, dict) and isinstance(after, dict)):
        return after
    merged = {name: value for name, value in raw.items() if name in after or name not in before}
    for name, value in after.items():
        if name not in before or before[name] != value:
            merged[name] = changed_fields(raw.get(name), before.get(name), value)
    return merged


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of the folder itself, because a lock file would be a foreign file in the artifact."""
    if not HAS_LOCKS:
        yield
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise ArtifactError(f"cannot read {folder}: {error.strerror}", path=folder) from error
    try:
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)  # releases the lock


def _rewrite(folder: Path, manifest: dict[str, Any]) -> None:
    partial = folder / f"{PARTIAL_MANIFEST}{os.getpid()}"
    try:
        partial.write_text(manifest_text(manifest), encoding="utf-8")
        partial.replace(folder / FILE_NAME)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise ArtifactError(
            f"cannot write {folder / FILE_NAME}: {error.strerror}; make the folder writable, or copy the artifact "
            "to a writable one",
            path=folder / FILE_NAME,
        ) from error
