"""The package as a whole: its public names, its examples, and which module may import which."""

import ast
import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import modernrank
from support.layout import ROOT, package_folders

PACKAGES = {folder: package for package, folder in package_folders().items()}
# The direction of the design: a folder may import these, and nothing else of ours.
MAY_IMPORT: dict[str, set[str]] = {
    "engine": set(),
    "evaluation": {"engine"},
    "export": {"engine", "evaluation"},
    "benchmarks": {"engine", "evaluation", "export"},
    "cli": {"engine", "evaluation", "export", "benchmarks"},
}


def modules(folder: str) -> list[Path]:
    """A ``__main__`` starts the command line, and so is a part of it wherever it lies."""
    return sorted(path for path in (ROOT / folder).rglob("*.py") if path.name != "__main__.py")


def imported(path: Path) -> list[str]:
    """The absolute names that a module imports, also inside functions."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(resolved(path, node))
    return names


def resolved(path: Path, node: ast.ImportFrom) -> str:
    """The absolute name that a `from` import reaches, relative ones too."""
    if node.level == 0:
        return node.module or ""
    folder, *inner = path.relative_to(ROOT).parts[:-1]
    parts = [*PACKAGES[folder].split("."), *inner]
    base = parts[: len(parts) - (node.level - 1)]
    return ".".join([*base, *([node.module] if node.module else [alias.name for alias in node.names[:1]])])


def folder_of(name: str) -> str | None:
    """Which of our folders a module's name belongs to."""
    if name.split(".")[0] != "modernrank":
        return None
    others = (folder for folder in PACKAGES if folder != "engine" and f"{name}.".startswith(f"{PACKAGES[folder]}."))
    return next(others, "engine")


def test_the_public_names_are_these() -> None:
    assert sorted(modernrank.__all__) == [
        *("ArtifactError", "InputError", "ModernRankError", "ProfileError", "ProviderError"),
        *("RankedDocument", "Reranker"),
        *("SessionInfo", "Stages", "Truncation", "TruncationWarning", "__version__"),
    ]
    assert all(hasattr(modernrank, name) for name in modernrank.__all__)


@pytest.mark.parametrize("folder", PACKAGES)
def test_imports_follow_the_direction_of_the_design(folder: str) -> None:
    for path in modules(folder):
        for name in imported(path):
            assert name.split(".")[0] not in PACKAGES, f"{path} imports {name}: the packages are called modernrank.*"
            if folder_of(name) not in (None, folder):
                assert folder_of(name) in MAY_IMPORT[folder], f"{path} imports {name}"


def test_importing_the_package_brings_in_no_runtime_and_no_torch() -> None:
    heavy = ("onnx", "onnxruntime", "torch", "transformers", "safetensors", "huggingface_hub", "tqdm")
    code = f"import modernrank, sys; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


WITH_EXAMPLES = (
    *("activations", "host", "reranker", "timing", "text.encoder"),
    *("batching.packing", "batching.prefetch", "batching.schedule"),
    *("backends.profiles", "backends.onnxruntime.provider_options", "evaluation.metrics"),
    *("export.precision.fp16", "export.graph.float_types", "export.graph.linear"),
)


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_the_examples_in_docstrings_run(module: str, artifacts: Path) -> None:
    loaded = importlib.import_module(f"modernrank.{module}")
    found = doctest.testmod(loaded, extraglobs={"TINY": artifacts / "tiny"})
    assert found.attempted > 0
    assert found.failed == 0


@pytest.mark.parametrize("folder", PACKAGES)
def test_files_stay_readable(folder: str) -> None:
    """At most 400 lines a file and 60 a function, docstring included: past that, think again."""
    for path in modules(folder):
        text = path.read_text()
        assert len(text.splitlines()) <= 400, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 60, f"{path}: {node.name}"
