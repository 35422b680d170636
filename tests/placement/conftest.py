"""Fixtures: stubs for each version of ONNX Runtime, the graphs, and what each version does with each of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from modernrank.export import export_checkpoint
from placement.stubs import build, cuda_provider
from placement.versions import ANNOUNCEMENT, NEWEST, Measured, Run, installed
from support.checkpoints import checkpoint
from support.full_size import write_full_size
from support.layout import ROOT

HERE = Path(__file__).parent
SDPA_KERNEL = re.compile(r"Operator=MultiHeadAttention Node=(\S+) .*SdpaKernel=(\w+)")


@pytest.fixture(scope="session")
def stubs_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Build the stub libraries for a version of ONNX Runtime, once."""

    @cache
    def built(version: str) -> Path:
        folder = tmp_path_factory.mktemp("stubs") / version
        build(folder, cuda_provider(installed(version) / "onnxruntime"))
        return folder

    return built


@pytest.fixture(scope="session")
def stubs(stubs_of: Callable[[str], Path]) -> Path:
    """The stub libraries for the newest ONNX Runtime."""
    return stubs_of(NEWEST)


@pytest.fixture(scope="session")
def run_on_stubs(stubs_of: Callable[[str], Path]) -> Run:
    """Run Python with a version of ONNX Runtime on its stubs; the arguments are those of ``python``."""

    def run(version: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {
            "LD_LIBRARY_PATH": str(stubs_of(version)),
            "PYTHONPATH": os.pathsep.join((str(installed(version)), str(ROOT / "tests"))),
            "ORT_ENABLE_ATTENTION_KERNEL_DEBUG_INFO": "1",
            "ORT_DISABLE_TELEMETRY": "1",
        }
        command = [sys.executable, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)

    return run


@pytest.fixture(scope="session")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Export ``tiny`` or ``full-size`` as ``ort-cuda``, in float16 and float32, once."""
    few_pairs, few_judgements = write_little_material(tmp_path_factory.mktemp("material"))

    @cache
    def exported(model: str) -> Path:
        folder = tmp_path_factory.mktemp(model)
        source = checkpoint("tiny") if model == "tiny" else write_full_size(folder / "checkpoint")
        export_checkpoint(
            source,
            folder / "artifact",
            graph="ort-cuda",
            precision=["fp16", "fp32"],
            calibration=few_pairs,
            evaluation=few_judgements,
        )
        return folder / "artifact"

    return exported


def write_little_material(folder: Path) -> tuple[Path, Path]:
    """The least that an export in float16 takes: its quality is not asserted here, and the shipped texts take minutes.

    Returns the file of calibration pairs and the folder of judgements.
    """
    pairs = folder / "pairs.jsonl"
    pairs.write_text("".join(json.dumps({"query": f"q {i}", "document": f"d {i}"}) + "\n" for i in range(8)))
    documents = [f"d{i}" for i in range(3)]
    (folder / "qrels").mkdir()
    (folder / "queries.jsonl").write_text(json.dumps({"_id": "q", "text": "a query"}) + "\n")
    (folder / "corpus.jsonl").write_text(
        "".join(json.dumps({"_id": name, "text": f"document {name}"}) + "\n" for name in documents)
    )
    (folder / "candidates.run").write_text(
        "".join(f"q Q0 {name} {rank} {9 - rank} bm25\n" for rank, name in enumerate(documents, 1))
    )
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\td0\t1\n")
    return pairs, folder


@pytest.fixture(scope="session")
def measured(
    run_on_stubs: Run, graphs: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str, str], Measured]:
    """What a version of ONNX Runtime does with a model in a precision, measured once."""

    @cache
    def measure(version: str, model: str, precision: str) -> Measured:
        out = tmp_path_factory.mktemp("measured") / "facts.json"
        done = run_on_stubs(version, HERE / "measure.py", graphs(model), precision, out)
        assert done.returncode == 0, done.stderr
        return Measured(json.loads(out.read_text()), attention_kernels(done.stdout))

    return measure


def attention_kernels(printed: str) -> dict[str, dict[str, set[str]]]:
    """The kernels of each attention node, by the shape that was announced before."""
    found: dict[str, dict[str, set[str]]] = {}
    _, *parts = printed.split(ANNOUNCEMENT)
    for part in parts:
        shape, _, debug_info = part.partition("\n")
        for node, kernel in SDPA_KERNEL.findall(debug_info):
            found.setdefault(shape, {}).setdefault(node, set()).add(kernel)
    return found
