"""Check in one command everything that requires a GPU: that scores agree, and how fast they are.

    python -m modernrank.benchmarks.gpu.check WORK --like FOLDER --provider cuda --out result.json [--plan]

The steps of ``steps.STEPS`` run one after the other, each in a process of its own with a time limit, so that one that
fails or hangs takes nothing else with it. After each step the result is written anew. The same command goes on where it
was stopped: a step that is complete in WORK is not repeated, unless ``--again`` names it.

Requires ``modernrank[verify]`` with a CUDA build of torch, and what the provider requires. ``--provider cpu --device
cpu`` takes the same steps on a processor, which shows only that the command works.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modernrank.benchmarks.measure.environment import describe
from modernrank.benchmarks.peers.environments import last_line
from modernrank.benchmarks.reporting.result import Measurement, Result
from modernrank.benchmarks.reporting.table import markdown
from modernrank.errors import BackendError, ModernRankError
from modernrank.export.report import Report
from modernrank.options import ProviderName, names_of

from .steps import STEPS, GpuCheck, Step

SLACK = 2.0  # a step may take this many times its estimate, and at most LIMIT seconds
LIMIT = 600.0
SECONDS_TO_END = 10.0  # that a step gets to write what it has


def run_gpu_check(check: GpuCheck, out: Path, only: Sequence[str], again: Sequence[str], report: Report) -> Result:
    """Run the steps that are not complete yet, and write the result to ``out`` after each.

    Args:
        check: what is checked.
        out: the result's file.
        only: names of the steps to run; all if it is empty.
        again: names of steps to run although they are complete.
        report: called with a line for each step.

    Returns:
        The result. ``environment["steps"]`` holds for each step its ``seconds``, and its ``result`` or ``error``.
    """
    check.steps.mkdir(parents=True, exist_ok=True)
    for step in applicable(check):
        if only and step.name not in only:
            continue
        if is_complete(check, step) and step.name not in again:
            report(f"{step.name}: complete")
            continue
        report(f"{step.name}: {step.learns} (about {step.minutes:g} min)")
        error = run_in_process(check, step)
        report(f"{step.name}: {error or 'complete'}")
        result = collect(check)
        result.write(out)
    result = collect(check)
    result.write(out)
    return result


def applicable(check: GpuCheck) -> list[Step]:
    """The steps that the provider and the device have, in order."""
    return [step for step in STEPS if step.applies(check)]


def plan(check: GpuCheck) -> str:
    """The steps with their minutes, and which of them are complete."""
    steps = applicable(check)
    lines = [
        f"{step.name:<18} {step.minutes:>4g} min  {'complete' if is_complete(check, step) else '':<9} {step.learns}"
        for step in steps
    ]
    return "\n".join([*lines, f"{'all':<18} {sum(step.minutes for step in steps):>4g} min"])


def is_complete(check: GpuCheck, step: Step) -> bool:
    """Whether WORK holds the whole result of a step."""
    return bool(read(check, step).get("complete"))


def read(check: GpuCheck, step: Step) -> dict[str, Any]:
    """What WORK holds of a step: ``complete``, ``seconds``, ``result``, ``error``; empty if it has not run."""
    file = check.steps / f"{step.name}.json"
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return content


def write(check: GpuCheck, step: Step, **fields: Any) -> None:
    """Write what there is of a step. The file appears whole, or not at all."""
    file = check.steps / f"{step.name}.json"
    partial = file.with_suffix(".part")
    partial.write_text(json.dumps(fields, default=str), encoding="utf-8")
    partial.replace(file)


def run_in_process(check: GpuCheck, step: Step) -> str:
    """Run one step in a process of its own; returns why it failed, or ""."""
    (check.steps / f"{step.name}.json").unlink(missing_ok=True)
    limit = min(LIMIT, SLACK * step.minutes * 60)
    log = check.steps / f"{step.name}.log"
    started = time.monotonic()
    with log.open("w") as output:
        command = [sys.executable, "-m", f"{__package__}.check", *check.arguments(), "--step", step.name]
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code = process.wait(limit)
            error = "" if code == 0 else last_line(log.read_text(errors="replace")) or f"exit status {code}"
        except subprocess.TimeoutExpired:
            _end(process)
            error = f"not complete after {limit:.0f} s"
    state = read(check, step) | {"seconds": round(time.monotonic() - started, 1)}
    state["complete"] = not error and bool(state.get("complete"))
    if error:
        state["error"] = error
    write(check, step, **state)
    return error


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a step and the processes that it has started."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        os.killpg(process.pid, how)
        try:
            process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            continue
        return


def run_here(check: GpuCheck, name: str, report: Report) -> None:
    """Run one step in this process, and write its result to WORK as it grows.

    Raises:
        ModernRankError: the step failed, or what it checked is wrong; its result is kept all the same.
    """
    step = next(step for step in STEPS if step.name == name)

    def save(result: dict[str, Any]) -> None:
        write(check, step, complete=False, result=result)

    result = step.run(check, save, report)
    wrong = result.pop("wrong", "")
    write(check, step, complete=not wrong, result=result)
    if wrong:
        raise BackendError(wrong)


def collect(check: GpuCheck) -> Result:
    """One result from the files of all steps."""
    steps = {step.name: read(check, step) for step in applicable(check)}
    environment = describe(seed=0) | {"steps": {}, "parity": {}}
    measurements: list[Measurement] = []
    for name, state in steps.items():
        result = dict(state.get("result") or {})
        measurements += [Measurement(**fields) for fields in result.pop("measurements", [])]
        environment["parity"] |= result.pop("parity", {})
        environment |= {key: result.pop(key) for key in ("gpu", "peak") if key in result}
        if state:
            environment["steps"][name] = {key: value for key, value in state.items() if key != "result"}
            environment["steps"][name]["result"] = result
    return Result(environment, measurements)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns 1 if a step failed."""
    parser = _parser()
    args = parser.parse_args(arguments)
    check = GpuCheck(
        work=args.work,
        like=args.like,
        provider=args.provider,
        device=args.device,
        max_tokens=args.longest,
        rounds=args.rounds,
        seconds=args.seconds,
        threads=args.threads,
        peers=tuple(args.peer or ()),
    )
    if args.step:
        return _run_step(check, args.step)
    names = {step.name for step in applicable(check)}
    for name in (*args.only, *args.again):
        if name not in names:
            parser.error(f"step {name!r} is unknown; choose one of {', '.join(sorted(names))}")
    if args.plan:
        print(plan(check))
        return 0
    if args.out is None:
        parser.error("--out is required, unless --plan is given")
    result = run_gpu_check(check, args.out, args.only, args.again, _report)
    print(markdown(result), end="")
    return 1 if any(state.get("error") for state in result.environment["steps"].values()) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder for checkpoints, artifacts and the results of steps")
    parser.add_argument("--like", type=Path, required=True, help="folder with the target's config and tokenizer")
    parser.add_argument("--provider", default="tensorrt", choices=names_of(ProviderName), help="(%(default)s)")
    parser.add_argument("--device", default="cuda", help="torch's name of the device (default: %(default)s)")
    parser.add_argument(
        "--longest", type=int, default=8192, help="maximum number of tokens in a pair (default: %(default)s)"
    )
    parser.add_argument(
        "--rounds", type=int, default=200, help="maximum number of samples of each contender (default: %(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=20, help="maximum time for a workload (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=4, help="number of threads (default: %(default)s)")
    parser.add_argument("--peer", action="append", help="repeat it for several (default: all that run on the device)")
    parser.add_argument("--plan", action="store_true", help="print the steps and their minutes, and do nothing")
    parser.add_argument("--only", action="append", default=[], metavar="STEP", help="run this step; repeat it")
    parser.add_argument("--again", action="append", default=[], metavar="STEP", help="repeat a step that is complete")
    parser.add_argument("--out", type=Path, help="write the result as JSON, with its raw samples")
    parser.add_argument("--step", help=argparse.SUPPRESS)  # how a step's own process is started
    return parser


def _run_step(check: GpuCheck, name: str) -> int:
    try:
        run_here(check, name, _report)
    except ModernRankError as error:
        _report(f"{type(error).__name__}: {error}")
        return 1
    return 0


def _report(message: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
