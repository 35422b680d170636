"""What the project's own source files import and how long they are, read as text: nothing is imported."""

from __future__ import annotations

import ast
import functools
import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .layout import ROOT, files_of, package_folders

FOLDERS = {folder: package for package, folder in package_folders().items()}
NOT_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


@dataclass(frozen=True)
class Import:
    """One import of a module of ours, and whether it happens only when a function is called."""

    path: Path
    module: str
    is_deferred: bool


def modules(folder: str) -> list[Path]:
    """The modules of a folder, without ``__main__``: that one starts the command line, wherever it is."""
    return [path for path in files_of(folder, "*.py") if path.name != "__main__.py"]


def name_of(path: Path) -> str:
    """The dotted name of a module."""
    folder = max((f for f in FOLDERS if path.is_relative_to(ROOT / f)), key=len)
    parts = [FOLDERS[folder], *path.relative_to(ROOT / folder).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def folder_of(module: str) -> str:
    """The folder that holds a module of ours."""
    longest = max((p for p in package_folders() if f"{module}.".startswith(f"{p}.")), key=len)
    return package_folders()[longest]


@functools.cache
def imports(path: Path) -> tuple[Import, ...]:
    """The imports of our own modules in a file."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[Import]:
    tree = ast.parse(path.read_text())
    deferred = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.walk(node)
        if child is not node
    }
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [_resolved(path, node)]
        for name in names:
            if name.partition(".")[0] in FOLDERS or any(f"{name}.".startswith(f"{ours}.") for ours in FOLDERS.values()):
                yield Import(path, name, node in deferred)


def _resolved(path: Path, node: ast.ImportFrom) -> str:
    """The absolute module that a ``from`` import names; of ``from package import module`` the module."""
    base = node.module or ""
    if node.level:
        package = name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]
        parts = package.split(".")
        base = ".".join([*parts[: len(parts) - node.level + 1], *([node.module] if node.module else [])])
    submodule = f"{base}.{node.names[0].name}"
    return submodule if submodule in _all_modules() else base


@functools.cache
def _all_modules() -> frozenset[str]:
    return frozenset(name_of(path) for folder in FOLDERS for path in modules(folder))


def code_lines(source: str) -> set[int]:
    """Numbers of the lines that hold code: no blank lines, comments or docstrings."""
    tree = ast.parse(source)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        line
        for node in ast.walk(tree)
        if isinstance(node, documented) and ast.get_docstring(node) is not None
        for line in range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)
    }
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NOT_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    return lines - docstrings
