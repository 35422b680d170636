"""What the NVIDIA driver reports, read from a stand-in for libcuda."""

from __future__ import annotations

from typing import Any

import pytest

from modernrank.backends.cuda import driver
from support.fake_driver import FakeDriver

H100, T4 = ("NVIDIA H100 80GB HBM3", "9.0"), ("Tesla T4", "7.5")


def use(monkeypatch: pytest.MonkeyPatch, library: FakeDriver | None) -> None:
    monkeypatch.setattr(driver, "_load", lambda: library)


def test_every_gpu_has_its_compute_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, FakeDriver([H100, T4, ("NVIDIA GB10", "12.1")]))
    found = driver.find_driver()
    assert found == driver.Driver(13000, 3, ("9.0", "7.5", "12.1"))
    assert [found.compute_capability(number) for number in (1, 3)] == ["7.5", ""]


def test_a_gpu_whose_attributes_cannot_be_read_has_no_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(FakeDriver):
        def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:
            return 1

    use(monkeypatch, Broken([H100]))
    assert driver.find_driver() == driver.Driver(13000, 1, ("",))


def test_names_are_those_of_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, FakeDriver([H100, T4], current=1))
    assert [driver.device_name(number) for number in (0, 1, 2)] == [H100[0], T4[0], driver.UNKNOWN]
    assert driver.current_device_name() == T4[0]
    use(monkeypatch, FakeDriver([H100]))
    assert driver.current_device_name() == driver.UNKNOWN


def test_without_a_driver_nothing_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, None)
    assert driver.find_driver() is None
    assert driver.device_name(0) == driver.current_device_name() == driver.UNKNOWN
