"""The gate: a capture is alone, waits for those inside, and is not kept waiting by later ones."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from modernrank.backends.onnxruntime.capture_gate import CaptureGate


def test_nobody_is_inside_while_one_passes_alone() -> None:
    gate, lock = CaptureGate(), threading.Lock()
    inside: list[int] = [0, 0]  # shared, alone
    most_shared = 0

    def pass_shared(_: int) -> None:
        nonlocal most_shared
        with gate.shared():
            with lock:
                inside[0] += 1
                most_shared = max(most_shared, inside[0])
                assert inside[1] == 0
            time.sleep(0.002)
            with lock:
                inside[0] -= 1

    def pass_alone(_: int) -> None:
        with gate.alone():
            with lock:
                inside[1] += 1
                assert inside == [0, 1]
            time.sleep(0.002)
            with lock:
                inside[1] -= 1

    with ThreadPoolExecutor(8) as pool:
        passed = [pool.submit(pass_alone if i % 5 == 0 else pass_shared, i) for i in range(60)]
        for each in passed:
            each.result(timeout=30)
    assert most_shared > 1


def test_who_waits_to_be_alone_is_let_in_before_later_ones() -> None:
    gate, order = CaptureGate(), list[str]()
    first = gate.shared()
    first.__enter__()
    with ThreadPoolExecutor(2) as pool:

        def note(name: str) -> None:
            with gate.alone() if name == "alone" else gate.shared():
                order.append(name)

        alone = pool.submit(note, "alone")
        while not gate._want_alone:
            time.sleep(0.001)
        later = pool.submit(note, "later")
        time.sleep(0.02)
        assert order == []
        first.__exit__(None, None, None)
        alone.result(timeout=10)
        later.result(timeout=10)
    assert order == ["alone", "later"]


@pytest.mark.parametrize("way", ["shared", "alone"])
def test_an_error_leaves_the_gate_open(way: str) -> None:
    gate = CaptureGate()
    with pytest.raises(ValueError, match="inside"), getattr(gate, way)():
        raise ValueError("inside")
    with gate.alone():
        pass
    with gate.shared():
        pass
