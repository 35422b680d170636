"""Threads from affinity, topology and cgroup quotas, on trees of files like those of Linux; the cache folder."""

import os
from pathlib import Path

import pytest

from modernrank import ArtifactError
from modernrank.host import CACHE_VARIABLE, affinity, available_threads, cache_folder, cgroup_quota, physical_cores


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_version_2_takes_the_smallest_quota_on_the_way_up(tmp_path: Path) -> None:
    proc, root = tmp_path / "cgroup", tmp_path / "fs"
    write(proc, "0::/kubepods/pod1/container\n")
    write(root / "kubepods/cpu.max", "400000 100000\n")
    write(root / "kubepods/pod1/cpu.max", "150000 100000\n")
    write(root / "kubepods/pod1/container/cpu.max", "max 100000\n")
    assert cgroup_quota(proc, root) == 1.5


def test_version_1_reads_the_cpu_controller(tmp_path: Path) -> None:
    proc, root = tmp_path / "cgroup", tmp_path / "fs"
    write(proc, "5:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n")
    write(root / "cpu,cpuacct/docker/x/cpu.cfs_quota_us", "250000\n")
    write(root / "cpu,cpuacct/docker/x/cpu.cfs_period_us", "100000\n")
    write(root / "cpu,cpuacct/cpu.cfs_quota_us", "-1\n")
    write(root / "cpu,cpuacct/cpu.cfs_period_us", "100000\n")
    assert cgroup_quota(proc, root) == 2.5


@pytest.mark.parametrize("text", ["0::/\n", "", "3:memory:/x\n"])
def test_no_quota_is_none(tmp_path: Path, text: str) -> None:
    write(tmp_path / "cgroup", text)
    assert cgroup_quota(tmp_path / "cgroup", tmp_path / "fs") is None
    assert cgroup_quota(tmp_path / "absent", tmp_path / "fs") is None


def test_hyper_threads_of_a_core_count_once(tmp_path: Path) -> None:
    for cpu, siblings in enumerate(("0,2", "1,3", "0,2", "1,3")):
        write(tmp_path / f"cpu{cpu}/topology/thread_siblings_list", siblings + "\n")
    assert physical_cores({0, 1, 2, 3}, tmp_path) == 2
    assert physical_cores({0, 2}, tmp_path) == 1
    assert physical_cores({0, 1}, tmp_path / "absent") == 2


def test_a_quota_caps_the_cores_and_is_rounded_up(tmp_path: Path) -> None:
    write(tmp_path / "cgroup", "0::/x\n")
    write(tmp_path / "fs/x/cpu.max", "20000 100000\n")
    assert available_threads(tmp_path / "cgroup", tmp_path / "fs", tmp_path) == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity mask")
def test_the_affinity_mask_counts() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert affinity() == {min(before)}
        assert available_threads() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_the_cache_folder_is_the_named_one_else_that_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_folder() == Path("/home/someone/.cache/modernrank")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache")
    assert cache_folder() == Path("/var/cache/modernrank")
    monkeypatch.setenv(CACHE_VARIABLE, "~/models")
    assert cache_folder() == Path("/home/someone/models")


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, "~nobody-has-this-name/cache")
    with pytest.raises(ArtifactError, match=CACHE_VARIABLE):
        cache_folder()
