"""The package as a whole: its public names, what importing it costs, its examples, the size of its files."""

from __future__ import annotations

import ast
import doctest
import importlib
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import modernrank
from support.layout import ROOT
from support.source import FOLDERS, code_lines, modules, name_of

MAX_MODULES = 9  # in a folder
MAX_FILE = 300  # lines of code
MAX_FUNCTION = 40  # lines of code


def test_the_public_names_are_these() -> None:
    assert sorted(modernrank.__all__) == [
        *(
            "ActivationChoice",
            "ArtifactError",
            "AsyncReranker",
            "BackendError",
            "BackendInfo",
            "CallReport",
            "ClosedError",
            "CpuOptions",
        ),
        *(
            "DeadlineError",
            "DocumentPart",
            "EncodedPair",
            "GpuOptions",
            "InputError",
            "LabelScore",
            "LoadOptions",
            "LongDocuments",
            "Manifest",
            "Metrics",
            "ModernRankError",
        ),
        *(
            "OverloadedError",
            "Pair",
            "PairEncoder",
            "Plan",
            "PrecisionChoice",
            "ProfileError",
            "ProviderChoice",
            "ProviderError",
        ),
        *("RankedDocument", "Reranker", "Scorer", "StageTimes", "TextLimits", "Truncation", "TruncationChoice"),
        *("TruncationWarning", "__version__"),
    ]


@pytest.mark.parametrize("name", modernrank.__all__)
def test_every_public_name_exists(name: str) -> None:
    assert hasattr(modernrank, name)


def test_importing_the_package_imports_no_runtime_and_no_torch() -> None:
    heavy = ("onnx", "onnxruntime", "torch", "transformers", "safetensors", "huggingface_hub", "tqdm", "filelock")
    code = f"import modernrank, sys; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_the_folders_own_name_is_refused() -> None:
    """From the root of a checkout, `import engine` would give a second copy of every class."""
    done = subprocess.run([sys.executable, "-c", "import engine"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "import modernrank" in done.stderr


# Those of the integrations run in the environments of their frameworks.
WITH_EXAMPLES = [
    name_of(path)
    for folder in FOLDERS
    if not folder.startswith("integrations")
    for path in modules(folder)
    if ">>> " in path.read_text()
]


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_the_examples_in_docstrings_run(module: str, artifacts: Path) -> None:
    loaded = importlib.import_module(module)
    result = doctest.testmod(loaded, extraglobs={"TINY": artifacts / "tiny"})
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("folder", FOLDERS)
def test_files_and_functions_stay_readable(folder: str) -> None:
    """Counted in lines of code: docstrings and comments are free."""
    for path in modules(folder):
        source = path.read_text()
        lines = code_lines(source)
        assert len(lines) <= MAX_FILE, path
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                length = len(lines & set(range(node.lineno, (node.end_lineno or 0) + 1)))
                assert length <= MAX_FUNCTION, f"{path}: {node.name} has {length} lines of code"


def test_a_folder_can_be_seen_at_a_glance() -> None:
    counts = Counter(path.parent for folder in FOLDERS for path in modules(folder) if not path.name.startswith("_"))
    assert {folder: count for folder, count in counts.items() if count > MAX_MODULES} == {}
