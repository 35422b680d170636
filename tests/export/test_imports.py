"""Inside ``export``: the graph writer knows no model, and no modules import each other in a circle."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

from support.layout import ROOT

FOLDER = ROOT / "export"
PACKAGE = "modernrank.export"


def name_of(path: Path) -> str:
    parts = path.relative_to(FOLDER).with_suffix("").parts
    return ".".join([PACKAGE, *(part for part in parts if part != "__init__")])


MODULES = {name_of(path): path for path in FOLDER.rglob("*.py")}


def imports_of(module: str) -> set[str]:
    """The modules of ``export`` that a module imports when it is imported itself."""
    path = MODULES[module]
    names: set[str] = set()
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.parse(path.read_text()).body:
        if not isinstance(node, ast.ImportFrom):
            continue
        base = node.module or ""
        if node.level:
            parts = package.split(".")
            base = ".".join([*parts[: len(parts) - node.level + 1], *([node.module] if node.module else [])])
        names |= {name for name in (base, *(f"{base}.{alias.name}" for alias in node.names)) if name in MODULES}
    return names - {module, PACKAGE}


def test_no_modules_import_each_other_in_a_circle() -> None:
    imports = {module: imports_of(module) for module in MODULES}
    order = list(TopologicalSorter(imports).static_order())  # raises CycleError
    assert set(order) == set(MODULES)


def test_the_graph_writer_and_the_checkpoint_know_no_model() -> None:
    for module in MODULES:
        if module.startswith((f"{PACKAGE}.graph", f"{PACKAGE}.checkpoint")):
            assert not [name for name in imports_of(module) if name.startswith(f"{PACKAGE}.models")], module


def test_precisions_know_no_model_by_name() -> None:
    for module in MODULES:
        if module.startswith(f"{PACKAGE}.precision"):
            assert not [name for name in imports_of(module) if name.startswith(f"{PACKAGE}.models.modernbert")], module
