"""What the pages say holds: commands and examples run, links and paths lead somewhere, figures are measured."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
import shlex
import shutil
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from modernrank.cli import main
from modernrank.export import export_checkpoint
from support.checkpoints import checkpoint
from support.layout import ROOT

PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in (*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
                 *(ROOT / "docs").rglob("*.md"))
)  # fmt: skip
MAXIMUM_README_WORDS = 700
MEASURED = ROOT / "benchmarks" / "results" / "peers-passages-zen4-2cores.json"
HUB_MODEL = "Alibaba-NLP/gte-reranker-modernbert-base"
PROFILES = "--profile short=1x64:16x512:64x512 --profile long=1x576:2x2048:4x8192"
CURL = (
    "curl http://127.0.0.1:8080/rerank -H 'content-type: application/json' "
    '-d \'{"query": "capital of China", "documents": ["Beijing", "Paris"], "top_n": 1}\''
)
# Commands that need the hub, torch, a GPU or another environment, and the step of CI or the test that runs their like.
ELSEWHERE = {
    "make check": "make typecheck",
    "pip install '.[cpu,export]'": "make packaging",
    "modernrank export demo/model --out artifacts/demo --precision fp32 --precision int8": "make demo",
    f"modernrank export {HUB_MODEL} --out artifacts/gte": "make export",
    f"modernrank export {HUB_MODEL} --out artifacts/gte --precision fp32 --precision int8": "tests/export/test_int8.py",
    f"modernrank export {HUB_MODEL} --out artifacts/gte-fp16 --precision fp16": "tests/export/test_fp16.py",
    f"modernrank verify artifacts/gte --against {HUB_MODEL}": "make parity",
    f"modernrank verify artifacts/gte --against {HUB_MODEL} --precision int8 --pairs pairs.jsonl": "make parity",
    f"modernrank verify artifacts/gte-fp16 --against {HUB_MODEL}": "make parity",
    f"modernrank build-engine artifacts/gte-fp16 {PROFILES}": "make engines-check",
    "make gpu-check LIKE=CHECKPOINT": "make parity",
    "pip install '.[cpu,export,serve]'": "make packaging",
    "pip install '.[cpu,export,mcp]'": "tests/integrations/mcp/requirements.txt",
    "MODERNRANK_API_KEYS=secret modernrank serve artifacts/demo --host 0.0.0.0": "tests/server/test_lifecycle.py",
    "modernrank mcp artifacts/demo --files docs": "tests/integrations/mcp/test_mcp.py",
    "modernrank mcp artifacts/gte --files docs": "tests/integrations/mcp/test_mcp.py",
    'python -m demo.search artifacts/demo find "show dates of birth and events when I log in" --top-k 3': (
        "tests/repository/test_search_example.py"
    ),
    "python -m demo.search artifacts/demo measure": "tests/repository/test_search_example.py",
    "python -m demo.search artifacts/demo serve": "tests/repository/test_search_example.py",
    "modernrank serve artifacts/gte": "tests/server/test_lifecycle.py",
    "modernrank serve artifacts/demo": "tests/server/test_lifecycle.py",
    "modernrank serve artifacts/gte small=artifacts/demo": "tests/server/test_lifecycle.py",
    "modernrank serve --help": "tests/cli/test_artifacts.py",
    CURL: "tests/server/test_wires.py",
    "make gpu-bundle GPU_CC=9.0 GPU_PYTHON=3.12 BUNDLE=.gpu": "tests/benchmarks/test_gpu_bundle.py",
    "modernrank bench peers CHECKPOINT artifacts/gte --pairs pairs.jsonl --out peers.json": "make peers-check",
}


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def commands(page: str) -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", text_of(page), re.DOTALL | re.MULTILINE)
    return [line.partition(" #")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


def examples(page: str) -> list[tuple[str, str]]:
    """Each block of Python, at its line of the page, and the output in the ``text`` block right behind it, or ""."""
    text = text_of(page)
    fenced = re.finditer(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", text, re.DOTALL | re.MULTILINE)
    return [("\n" * text.count("\n", 0, block.start(1)) + block[1], block[2] or "") for block in fenced]


def steps_of_ci() -> set[str]:
    return set(re.findall(r"make ([\w-]+)", text_of(".ci/run")))


def run_by_ci(command: str) -> bool:
    words = command.split()
    return words[0] == "make" and words[1] in steps_of_ci()


# Options behind those of a page, which shorten what it measures.
QUICK = {"bench run": ["--seconds", "0.02", "--samples", "2", "--peak-seconds", "0.02"]}

COMMANDS = [(page, command) for page in PAGES for command in dict.fromkeys(commands(page))]
RUN_HERE = [(page, line) for page, line in COMMANDS if line not in ELSEWHERE and not run_by_ci(line)]


@pytest.fixture(scope="module")
def folder(some_of_the_evaluation: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the pages' relative paths exist, with a tiny artifact under the names of the large ones."""
    folder = tmp_path_factory.mktemp("pages")
    export_checkpoint(checkpoint("tiny"), folder / "artifacts" / "gte", precision=["fp32", "int8"])
    shutil.copytree(folder / "artifacts" / "gte", folder / "artifacts" / "demo")
    _export_nli(folder)
    for name in ("evaluation", "beir/SciFact", "beir/NFCorpus", "beir/FiQA2018"):
        shutil.copytree(some_of_the_evaluation, folder / name)
    (folder / "demo").symlink_to(ROOT / "demo")
    (folder / "documents.txt").write_text("Beijing\nParis\nRome\n")
    (folder / "texts.jsonl").write_text('{"text": "a", "id": 1}\n')
    (folder / "pairs.jsonl").write_text('{"query": "a", "document": "b", "id": 1}\n')
    return folder


def _export_nli(folder: Path) -> None:
    """A tiny model of three labels, with the names of natural language inference."""
    source = Path(shutil.copytree(checkpoint("tiny-cls"), folder / "nli"))
    config = json.loads((source / "config.json").read_text())
    config["id2label"] = {"0": "contradiction", "1": "neutral", "2": "entailment"}
    (source / "config.json").write_text(json.dumps(config))
    export_checkpoint(source, folder / "artifacts" / "nli")


@pytest.fixture
def in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process as a shell in that folder has it; what an example does to logging is undone."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MODERNRANK_CACHE", str(folder / "cache"))
    logger = logging.getLogger("modernrank")
    level, handlers = logger.level, list(logger.handlers)
    yield
    logger.setLevel(level)
    logger.handlers[:] = handlers


@pytest.mark.usefixtures("in_folder")
@pytest.mark.parametrize(("page", "command"), RUN_HERE)
def test_commands_run(page: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program, *arguments = shlex.split(command)
    assert program == "modernrank"
    if "<" in arguments:
        arguments, (_, source) = arguments[: arguments.index("<")], arguments[arguments.index("<") :]
        monkeypatch.setattr(sys, "stdin", open(source, encoding="utf-8"))  # noqa: SIM115 - lives as long as the test
    assert main([*arguments, *QUICK.get(" ".join(arguments[:2]), [])]) == 0


@pytest.mark.usefixtures("in_folder")
@pytest.mark.parametrize("page", [page for page in PAGES if examples(page)])
def test_examples_run_in_order_and_print_what_the_page_shows(page: str) -> None:
    names: dict[str, object] = {"__name__": "__main__"}
    for source, expected in examples(page):
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile(source, str(ROOT / page), "exec"), names)
        if expected:
            assert output.getvalue() == expected


def test_commands_that_run_elsewhere_are_on_a_page() -> None:
    assert set(ELSEWHERE) <= {command for _, command in COMMANDS}


@pytest.mark.parametrize("place", sorted(set(ELSEWHERE.values())))
def test_places_that_run_commands_exist(place: str) -> None:
    assert run_by_ci(place) or (ROOT / place).is_file()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text_of(page)):
        path = (ROOT / page).parent / target if target else ROOT / page
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path), f"{target}#{anchor}"


def anchors(path: Path) -> set[str]:
    """The anchors that a repository host gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [page for page in PAGES if page != "CHANGELOG.md"])
def test_files_that_a_page_names_exist(page: str) -> None:
    folders = "engine|evaluation|export|server|integrations|cli|benchmarks|tests|docs|demo"
    for name in re.findall(rf"`((?:{folders})/[\w./-]*)`", text_of(page)):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("page", PAGES)
def test_make_targets_that_a_page_names_exist(page: str) -> None:
    targets = set(re.findall(r"^([\w-]+):", text_of("Makefile"), re.MULTILINE))
    named = re.findall(r"(?:^|`)make ([\w-]+)", text_of(page), re.MULTILINE)
    assert set(named) <= targets


def test_the_readme_is_short() -> None:
    prose = re.sub(r"^```.*?^```", "", text_of("README.md"), flags=re.DOTALL | re.MULTILINE)
    words = [word for word in re.sub(r"\]\([^)]*\)", "]", prose).split() if re.search(r"\w", word)]
    assert len(words) <= MAXIMUM_README_WORDS


@pytest.mark.parametrize(
    ("row", "contender", "batch"),
    [
        ("sentence-transformers, float32", "sentence-transformers fp32", 32),
        ("**modernrank, float32**", "modernrank fp32", None),
        ("**modernrank, int8**", "modernrank int8", None),
    ],
)
def test_figures_of_the_readme_are_measured(row: str, contender: str, batch: int | None) -> None:
    shown = re.search(
        rf"^\| {re.escape(row)} \| ([\d.]+) \| \**([\d.]+)\** \| ([\d.]+) GB \|", text_of("README.md"), re.M
    )
    assert shown is not None
    speed, memory = measured(contender, batch)
    baseline, _ = measured("sentence-transformers fp32", 32)
    assert float(shown[1]) == round(speed, 1)
    assert float(shown[2]) == round(speed / baseline, 1)
    assert float(shown[3]) == round(memory, 1)


def measured(contender: str, batch: int | None) -> tuple[float, float]:
    """Median pairs a second and peak memory in GB of a contender in the results."""
    (entry,) = (
        entry
        for entry in json.loads(MEASURED.read_text())["measurements"]
        if entry["contender"] == contender and entry["parameters"].get("batch") == batch
    )
    seconds = entry["seconds"]
    return entry["pairs"] / len(seconds) / statistics.median(seconds), entry["peak_memory"] / 1e9
