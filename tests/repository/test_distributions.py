"""The wheel and the sdist: exactly what belongs in them, and working where nothing else is installed.

Run by ``make packaging``: it builds and installs, and so needs the package registry.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from support.layout import ROOT, files_of, package_folders
from support.source import modules, name_of

pytestmark = pytest.mark.packaging

FOLDERS = {folder: package.replace(".", "/") for package, folder in package_folders().items()}


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the sdist, as an index would be given it."""
    out = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "--outdir", str(out), str(ROOT)], check=True, capture_output=True)
    return out


@pytest.fixture(scope="module")
def bare(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The python of an environment with the wheel and what it requires, no extra."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    (wheel,) = dist.glob("*.whl")
    subprocess.run([python, "-m", "pip", "install", "--quiet", wheel], check=True)
    return python


def run(python: Path, code: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, cwd=python.parent, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def expected_modules() -> set[str]:
    """Every module of the folders, under its package's name."""
    return {
        f"{package}/{path.relative_to(ROOT / folder)}"
        for folder, package in FOLDERS.items()
        for path in files_of(folder, "*.py")
    }


def test_the_wheel_holds_exactly_the_packages(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    content = {name for name in names if ".dist-info/" not in name}
    assert content == expected_modules() | {
        "modernrank/py.typed",
        "haystack_integrations/components/rankers/modernrank/py.typed",
        "modernrank/export/precision/calibration.jsonl",
        "modernrank/benchmarks/unpack_gpu_bundle.sh",
        *(f"modernrank/server/page/page.{kind}" for kind in ("css", "html", "js", "svg")),
    }
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_sdist_holds_the_sources(dist: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    sources = {str(path.relative_to(ROOT)) for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    assert sources | {"engine/py.typed", "pyproject.toml", "setup.py", "README.md", "LICENSE"} <= names


def test_a_bare_installation_imports_quickly_and_says_what_is_missing(bare: Path) -> None:
    code = "import modernrank, sys; print(*(m for m in ('onnx', 'onnxruntime', 'torch') if m in sys.modules))"
    assert run(bare, code).strip() == ""
    timed = "import time; t = time.perf_counter(); import modernrank; print(time.perf_counter() - t)"
    assert min(float(run(bare, timed)) for _ in range(5)) < 0.3
    done = subprocess.run([bare.with_name("modernrank"), "export", "x", "--out", "y"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "pip install 'modernrank[cpu,export]'" in done.stderr


def test_every_module_of_the_runtime_imports_in_a_bare_installation(bare: Path) -> None:
    names = [name_of(path) for path in modules("engine")]
    run(bare, f"import importlib\nfor name in {names}: importlib.import_module(name)")


def test_the_ranker_of_haystack_is_in_its_namespace_and_says_what_is_missing(bare: Path) -> None:
    code = """
import haystack_integrations.components.rankers as namespace
print(namespace.__file__)
try:
    import haystack_integrations.components.rankers.modernrank
except ImportError as error:
    print(error)
"""
    file, message = run(bare, code).splitlines()
    assert file == "None"
    assert "pip install 'modernrank[cpu,haystack]'" in message


def test_without_onnx_runtime_loading_says_what_to_install(bare: Path, artifacts: Path) -> None:
    code = f"""
import modernrank
try:
    modernrank.Reranker.load({str(artifacts / "tiny")!r})
except modernrank.ProviderError as error:
    print(error)
"""
    assert "no ONNX Runtime at all" in run(bare, code)
    assert "pip install 'modernrank[cpu]'" in run(bare, code)


def test_the_wheel_scores_with_the_cpu_extra(bare: Path, dist: Path, artifacts: Path, tmp_path: Path) -> None:
    """Last: it adds ONNX Runtime to the bare environment."""
    (wheel,) = dist.glob("*.whl")
    subprocess.run([bare, "-m", "pip", "install", "--quiet", f"{wheel}[cpu]"], check=True)
    (tmp_path / "pairs.jsonl").write_text('{"query": "a", "document": "b"}\n')
    command = [bare.with_name("modernrank"), "score", artifacts / "tiny", "--input", tmp_path / "pairs.jsonl"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert '"score"' in done.stdout
