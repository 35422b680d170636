"""The first step of a check on a GPU: everything below TensorRT, with kernels of our own in place of an engine.

    python -m modernrank.benchmarks.gpu.cuda_step --out cuda-step.json

It requires a GPU, cuda-bindings and nvrtc (``pip install nvidia-cuda-nvrtc``; torch brings it too) beside what
modernrank requires, but neither TensorRT nor ONNX Runtime, and takes less than two minutes. The file is written again
after each check, so that the results are kept if the machine is taken away. The exit status is 1 if a check failed.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modernrank.backends.cuda.choose import INSTALL, find_cuda_library
from modernrank.backends.tensorrt.library import DeviceEngine
from modernrank.benchmarks.measure.environment import describe
from modernrank.errors import ModernRankError, ProviderError

from .cuda_checks import CHECKS
from .exact_engine import Details, Gpu

STANDARD_ERROR = 2
SECONDS = 300  # a check that hangs ends the command, which prints where each thread was
Report = Callable[[str], None]
Save = Callable[[dict[str, Any]], None]


def run_cuda_step(device: int, report: Report, save: Save = lambda result: None) -> dict[str, Any]:
    """Run every check on the GPU number ``device``.

    Args:
        device: number of the GPU.
        report: takes a line for each check.
        save: takes the result so far, after each check.

    Returns:
        ``passed``, ``environment``, and under ``checks`` a record for each: ``name``, ``passed``, ``seconds`` and
        ``details``, which hold ``error`` and ``traceback`` if it failed.
    """
    environment = describe(seed=0)
    records: list[dict[str, Any]] = []

    def add(record: dict[str, Any]) -> None:
        records.append(record)
        details = record["details"]
        said = "passed" if record["passed"] else f"FAILED: {details['error']}"
        report(f"{record['name']}: {said} ({record['seconds']:.1f} s)")
        save(_result(environment, records))

    def open_and_check() -> Details:
        with open_gpu(device) as (gpu, versions):
            environment["gpu"] = versions
            for record in run_checks(gpu):
                add(record)
        return versions

    add(recorded("open-and-close", open_and_check))
    return _result(environment, records)


def _result(environment: dict[str, Any], records: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "passed": all(record["passed"] for record in records),
        "environment": environment,
        "checks": list(records),
    }


def run_checks(gpu: Gpu) -> Iterator[dict[str, Any]]:
    """Run every check, whatever becomes of the others; yields a record of each."""
    for name, check in CHECKS.items():
        yield recorded(name, lambda check=check: check(gpu))  # type: ignore[misc]


def recorded(name: str, check: Callable[[], Details]) -> dict[str, Any]:
    """Run a check; returns its ``name``, whether it ``passed``, its ``seconds``, and ``details`` or the error."""
    start = time.perf_counter()
    passed, details = True, {}
    try:
        details = check()
    except (ModernRankError, AssertionError, RuntimeError) as error:
        passed = False
        details = {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
    return {"name": name, "passed": passed, "seconds": round(time.perf_counter() - start, 3), "details": details}


@contextmanager
def open_gpu(device: int) -> Iterator[tuple[Gpu, dict[str, Any]]]:
    """The GPU number ``device`` with the kernels, and the names and versions of what runs.

    Raises:
        ProviderError: cuda-python is not installed, or there is no such GPU.
        BackendError: CUDA refuses the kernels.
        RuntimeError: nvrtc or the driver is not installed.
    """
    if find_cuda_library() != "cuda-python":
        raise ProviderError(f"cuda-python is not installed. To get it: {INSTALL}")
    from cuda.bindings import runtime

    from modernrank.backends.cuda.with_cuda_python import CudaPython

    from .kernel_engine import KernelEngine, Kernels

    def make_engine(shape_in_context: bool) -> DeviceEngine:
        return KernelEngine(kernels, cuda, shape_in_context)

    def last_error() -> str:
        (error,) = runtime.cudaGetLastError()
        return "" if error == runtime.cudaError_t.cudaSuccess else repr(error)

    cuda = CudaPython(device)
    with cuda.active():
        cuda.memory()  # makes the context in which the driver loads the kernels
        kernels = Kernels(cuda.compute_capability)
    versions = {
        "name": cuda.name,
        "compute_capability": cuda.compute_capability,
        "library": cuda.library,
        "compiler": kernels.compiler,
        "driver_cuda": runtime.cudaDriverGetVersion()[1],
        "runtime_cuda": runtime.cudaRuntimeGetVersion()[1],
    }
    try:
        yield Gpu(cuda, make_engine, last_error, CudaPython(device, sleeps=True)), versions
    finally:
        with cuda.active():
            kernels.unload()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=int, default=0, help="number of the GPU (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="write the result as JSON")
    args = parser.parse_args(arguments)
    faulthandler.dump_traceback_later(SECONDS, exit=True, file=STANDARD_ERROR)

    def save(result: dict[str, Any]) -> None:
        args.out.write_text(json.dumps(result, indent=1) + "\n")

    try:
        result = run_cuda_step(args.device, lambda message: print(message, file=sys.stderr), save)
    finally:
        faulthandler.cancel_dump_traceback_later()
    return 0 if result["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
