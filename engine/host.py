"""What this process may use of the machine: threads, and a folder for caches.

A container sees all cores of its host. If each of them gets a thread but the scheduler grants two, every batch waits
for the slowest. The affinity mask and the cgroup quota decide.
"""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

from .errors import ArtifactError

PROC_CGROUP = Path("/proc/self/cgroup")
CGROUP_ROOT = Path("/sys/fs/cgroup")
CPU_TOPOLOGY = Path("/sys/devices/system/cpu")
CACHE_VARIABLE = "MODERNRANK_CACHE"


T = TypeVar("T")
# Items of a Python loop between two moments at which it gives the interpreter to others: some hundred microseconds.
ITEMS_BETWEEN = 64


class Renewable(Protocol):
    """Something that holds locks or threads, which a forked process must replace."""

    def renew(self) -> None:
        """Replace locks and threads by new ones."""
        ...


class Pausable(Protocol):
    """Something that works in threads, which a fork must not interrupt."""

    def pause(self) -> None:
        """Begin nothing more, and wait until what has begun has ended."""
        ...

    def resume(self) -> None:
        """Go on, in the process that forked."""
        ...


_renewables: weakref.WeakSet[Renewable] = weakref.WeakSet()
_pausables: weakref.WeakSet[Pausable] = weakref.WeakSet()
_paused: list[Pausable] = []
_forking = threading.Lock()  # held from before a fork until after it


def renew_after_fork(instance: Renewable) -> None:
    """Call ``instance.renew()`` in every process that is forked from this one, as long as the instance lives.

    A forked process has none of its parent's other threads, and a lock that one of them held stays locked for ever.
    """
    _renewables.add(instance)


def pause_for_fork(instance: Pausable) -> None:
    """Call ``instance.pause()`` before each fork of this process and ``instance.resume()`` after it.

    A library that is interrupted in a run may hold a lock of its own, which nobody can renew in the child.
    """
    _pausables.add(instance)


def _pause_all() -> None:
    _forking.acquire()
    for instance in list(_pausables):
        instance.pause()
        _paused.append(instance)


def _resume_all() -> None:
    while _paused:
        _paused.pop().resume()
    _forking.release()


def _renew_all() -> None:
    global _forking
    _forking = threading.Lock()
    _paused.clear()
    for instance in list(_renewables):
        instance.renew()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(before=_pause_all, after_in_parent=_resume_all, after_in_child=_renew_all)


def sharing_interpreter(items: Iterable[T], every: int = ITEMS_BETWEEN) -> Iterator[T]:
    """``items``; after each ``every`` of them, other threads get the interpreter.

    A thread that waits for the interpreter lock gets it only after 5 ms of another's loop. An event loop, or a call of
    one pair, would wait so long at every turn beside a list of thousands.

    >>> list(sharing_interpreter("abc", every=2))
    ['a', 'b', 'c']
    """
    for number, item in enumerate(items, start=1):
        yield item
        if number % every == 0:
            time.sleep(1e-6)  # not 0, which may take the lock again before another thread has woken up


def cache_folder() -> Path:
    """The folder for exported artifacts and compiled engines: ``MODERNRANK_CACHE``, else the XDG cache of the user.

    It is not created here.

    Raises:
        ArtifactError: no variable names it, and the user has no home.
    """
    try:
        if named := os.environ.get(CACHE_VARIABLE):
            return Path(named).expanduser()
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modernrank"
    except RuntimeError as error:  # pathlib's, for a user without a home
        raise ArtifactError(f"there is no cache folder ({error}); set {CACHE_VARIABLE}, or pass cache=") from error


def available_threads(
    proc_cgroup: Path = PROC_CGROUP, cgroup_root: Path = CGROUP_ROOT, topology: Path = CPU_TOPOLOGY
) -> int:
    """Threads worth starting: the physical cores in the affinity mask, capped by the cgroup's CPU quota.

    Two hyper-threads of a core count once, because one already fills the core's vector units with matrix products.

    >>> 1 <= available_threads() <= (os.cpu_count() or 1)
    True
    """
    cores = physical_cores(affinity(), topology)
    quota = cgroup_quota(proc_cgroup, cgroup_root)
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def affinity() -> set[int]:
    """The logical processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))  # macOS and Windows have no such mask


def physical_cores(processors: set[int], topology: Path = CPU_TOPOLOGY) -> int:
    """Count the cores behind logical ``processors``; each counts as a core if the system does not report it."""
    siblings = set()
    for processor in processors:
        path = topology / f"cpu{processor}" / "topology" / "thread_siblings_list"
        siblings.add(path.read_text().strip() if path.is_file() else str(processor))
    return max(1, len(siblings))


def cgroup_quota(proc_cgroup: Path = PROC_CGROUP, cgroup_root: Path = CGROUP_ROOT) -> float | None:
    """The smallest CPU quota on the way from this process's cgroup to the root, in processors; None for no limit.

    Reads version 2 (``cpu.max``) and version 1 (``cpu.cfs_quota_us`` of the ``cpu`` controller).
    """
    if not proc_cgroup.is_file():
        return None
    quotas = []
    for line in proc_cgroup.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            quotas += [_quota_v2(folder) for folder in _ancestors(cgroup_root, path)]
        elif "cpu" in controllers.split(","):
            for mount in (cgroup_root / controllers, cgroup_root / "cpu"):
                quotas += [_quota_v1(folder) for folder in _ancestors(mount, path)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _ancestors(mount: Path, path: str) -> list[Path]:
    """``path`` below ``mount`` and every folder above it. In a container the mount itself may be the cgroup."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    return [mount.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]


def _quota_v2(folder: Path) -> float | None:
    file = folder / "cpu.max"
    if not file.is_file():
        return None
    quota, period = file.read_text().split()
    return None if quota == "max" else int(quota) / int(period)


def _quota_v1(folder: Path) -> float | None:
    quota_file, period_file = folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us"
    if not (quota_file.is_file() and period_file.is_file()):
        return None
    quota = int(quota_file.read_text())
    return None if quota <= 0 else quota / int(period_file.read_text())
