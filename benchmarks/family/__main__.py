"""Each size of the Ettin family: seconds and memory of its export, its load and its scores, and whether they are right.

    python -m modernrank.benchmarks.family --tokenizer FOLDER --work FOLDER --out FILE [--size 17M ..]

Weights are random, so scores mean nothing; they are compared with those of sentence-transformers, where it is installed
(``modernrank[verify]``). Every step runs in a process of its own, which reports its own peak of memory (Linux only).
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from modernrank.benchmarks.measure.environment import describe

from .checkpoints import SIZES, write_checkpoint


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, required=True, help="a checkpoint whose tokenizer is used")
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints and artifacts; 9 GB for 1B")
    parser.add_argument("--out", type=Path, required=True, help="write the result as JSON")
    parser.add_argument("--size", action="append", choices=SIZES, help="a size; repeat it for several (default: all)")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "int8"))
    args = parser.parse_args()
    result: dict[str, Any] = {"environment": describe(seed=0), "precision": args.precision, "sizes": {}}
    for name in args.size or SIZES:
        work = args.work / name
        shutil.rmtree(work, ignore_errors=True)
        write_checkpoint(work / "checkpoint", SIZES[name], args.tokenizer)
        steps = {step: _run(step, work, args.precision) for step in ("export", "score")}
        if args.precision == "fp32":
            steps["compare"] = _run("compare", work, args.precision)
        result["sizes"][name] = steps
        args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(name, json.dumps(steps), flush=True)
        shutil.rmtree(work)


def _run(step: str, work: Path, precision: str) -> dict[str, Any]:
    """What a step reports."""
    command = [sys.executable, "-m", f"{__package__}.steps", step, str(work), precision]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{step} of {work.name} failed:\n{done.stderr}")
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


if __name__ == "__main__":
    main()
