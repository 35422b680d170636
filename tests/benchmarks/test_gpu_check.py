"""The GPU check: steps are kept and resumed, and what is wrong is an error. ``make parity`` runs the real steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modernrank import BackendError
from modernrank.benchmarks.gpu import check as gpu_check
from modernrank.benchmarks.gpu.check import applicable, collect, is_complete, plan, read, run_here
from modernrank.benchmarks.gpu.steps import STEPS, GpuCheck, Step, run_contenders
from modernrank.options import ProviderName


@pytest.fixture
def check(tmp_path: Path) -> GpuCheck:
    made = GpuCheck(tmp_path, tmp_path, provider="cpu", device="cpu")
    made.steps.mkdir()
    return made


def use(monkeypatch: pytest.MonkeyPatch, result: dict[str, Any]) -> Step:
    step = Step("one", 1, "something", lambda check, save, report: dict(result))
    monkeypatch.setattr(gpu_check, "STEPS", (step,))
    return step


def test_a_step_is_complete_when_its_result_is_kept(check: GpuCheck, monkeypatch: pytest.MonkeyPatch) -> None:
    step = use(monkeypatch, {"parity": {"plain fp16": {"passed": True}}, "seen": 7})
    assert "complete" not in plan(check)
    run_here(check, "one", print)
    assert is_complete(check, step)
    assert "complete" in plan(check)
    result = collect(check)
    assert result.environment["parity"] == {"plain fp16": {"passed": True}}
    assert result.environment["steps"]["one"]["result"] == {"seen": 7}


def test_what_is_wrong_is_an_error_and_its_result_is_kept(check: GpuCheck, monkeypatch: pytest.MonkeyPatch) -> None:
    """So the command fails, and runs the step again."""
    step = use(monkeypatch, {"wrong": "plain fp16 DIFFERS", "parity": {"plain fp16": {"passed": False}}})
    with pytest.raises(BackendError, match="plain fp16 DIFFERS"):
        run_here(check, "one", print)
    assert not is_complete(check, step)
    assert read(check, step)["result"]["parity"] == {"plain fp16": {"passed": False}}


def test_steps_for_a_gpu_are_left_out_on_a_processor(check: GpuCheck) -> None:
    here = {step.name for step in applicable(check)}
    there = {step.name for step in applicable(GpuCheck(check.work, check.like, provider="tensorrt"))}
    assert {"cuda", "profile", "parity-spellings"} & here == set()
    assert there == {step.name for step in STEPS}


def test_a_check_is_started_again_by_its_arguments(check: GpuCheck) -> None:
    arguments = check.arguments()
    assert arguments[0] == str(check.work)
    assert arguments[arguments.index("--provider") + 1] == "cpu"
    assert arguments[arguments.index("--longest") + 1] == str(check.max_tokens)


@pytest.mark.parametrize(
    ("provider", "ways"),
    [
        ("cpu", [""]),
        ("cuda", ["CUDA graphs", "no CUDA graphs", "no graph for short rows"]),
        ("tensorrt", ["CUDA graphs", "tensorrt-half-sums", "tensorrt-decomposed", "sleeping", "no CUDA graphs"]),
    ],
)
def test_every_choice_that_needs_a_clock_is_timed_both_ways(
    tmp_path: Path, provider: ProviderName, ways: list[str]
) -> None:
    check = GpuCheck(tmp_path, tmp_path, provider=provider)
    assert [backed.way for backed in run_contenders(check)] == ways
