"""The README's commands and examples run, here or where a step of CI runs them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.layout import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
MEASURED = next((ROOT / "benchmarks" / "results").glob("peers-passages-*.json"))
ARTIFACT = "artifacts/gte-reranker-modernbert-base"
# Commands that this test cannot run, and what runs them (or their like) instead.
ELSEWHERE = {
    "make demo": ".ci/run",
    "make test": ".ci/run",
    "modernrank export demo/model --out artifacts/demo --precision fp32 --precision int8": "make demo, in .ci/run",
    "make export": "test_cli.py::test_export_and_info runs the same command on a folder",
    "modernrank export Alibaba-NLP/gte-reranker-modernbert-base --out artifacts/gte": "test_checkpoint.py, offline",
    "modernrank export Alibaba-NLP/gte-reranker-modernbert-base --out artifacts/gte-int8 --precision int8": (
        "test_int8.py, on folders"
    ),
    "modernrank export Alibaba-NLP/gte-reranker-modernbert-base --out artifacts/gte-fp16 --precision fp16": (
        "test_half.py, on folders"
    ),
    "modernrank verify artifacts/gte-fp16 --against Alibaba-NLP/gte-reranker-modernbert-base": "make parity",
    "modernrank tensorrt artifacts/gte-fp16 --profile short=1x64:16x512:64x512 --profile long=1x576:2x2048:4x8192": (
        "make engines-check, in .ci/run"
    ),
    "make gpu-check LIKE=CHECKPOINT": "make parity runs the same module on the processor",
    "modernrank bench peers CHECKPOINT artifacts/gte-reranker-modernbert-base --pairs pairs.jsonl --out peers.json": (
        "make peers-check, in .ci/run"
    ),
    "modernrank verify artifacts/gte --against Alibaba-NLP/gte-reranker-modernbert-base": "make parity, on folders",
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    return [line.split("#")[0].strip() for block in blocks("sh") for line in block.splitlines() if line.strip()]


@pytest.fixture
def folder(artifacts: Path, some_of_the_evaluation: Path, tmp_path: Path) -> Path:
    """A folder in which the README's relative paths exist, with the tiny artifact under the real one's name."""
    shutil.copytree(artifacts / "tiny", tmp_path / ARTIFACT)
    shutil.copytree(some_of_the_evaluation, tmp_path / "evaluation")
    (tmp_path / "documents.txt").write_text("Beijing\nParis\nRome\n")
    (tmp_path / "pairs.jsonl").write_text('{"query": "a", "document": "b", "id": 1}\n')
    shutil.copyfile(MEASURED, tmp_path / "before.json")
    return tmp_path


@pytest.mark.parametrize("command", [c for c in commands() if c not in ELSEWHERE])
def test_commands_run(folder: Path, command: str) -> None:
    assert command.startswith("modernrank ")
    line = f"{sys.executable} -m {command}"
    done = subprocess.run(line, shell=True, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("example", blocks("python"))
def test_examples_run(folder: Path, example: str) -> None:
    done = subprocess.run([sys.executable, "-c", example], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2


def test_what_runs_elsewhere_is_still_in_the_readme() -> None:
    assert set(ELSEWHERE) <= set(commands())


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
