"""The direction of imports: between the folders, and between the rooms of ``engine``. Nothing is an exception."""

from __future__ import annotations

import pytest

from support.source import FOLDERS, Import, folder_of, imports, modules, name_of

# A folder imports these, and nothing else of ours.
MAY_IMPORT: dict[str, set[str]] = {
    "engine": set(),
    "evaluation": {"engine"},
    "export": {"engine", "evaluation"},
    "server": {"engine"},
    "integrations": {"engine"},
    "integrations/haystack": {"engine", "integrations"},
    "benchmarks": {"engine", "evaluation", "export"},
    "cli": {"engine", "evaluation", "export", "server", "benchmarks", "integrations"},
}
# What only a call imports: `Reranker.from_checkpoint` exports a checkpoint.
MAY_IMPORT_WHEN_CALLED = {"engine": {"export"}}

# The same for the rooms of the engine: texts above token ids above backends above artifacts.
BASICS = {"arrays", "errors", "options"}
ENGINE_MAY_IMPORT: dict[str, set[str]] = {
    "arrays": set(),
    "errors": set(),
    "host": {"errors"},
    "timing": {"host"},
    "options": {"errors"},
    "activations": BASICS | {"artifact"},
    "text": BASICS | {"host"},
    "batching": {"arrays", "errors", "host"},
    "queue": {"arrays", "batching", "errors", "host", "timing"},
    "artifact": BASICS | {"text"},
    "backends": BASICS | {"artifact", "batching", "host"},
    "scorer": BASICS | {"artifact", "backends", "batching", "host", "queue", "timing"},
    "calls": BASICS | {"activations", "artifact", "batching", "host", "queue", "scorer", "text"},
    "reranker": BASICS | {"artifact", "backends", "batching", "calls", "queue", "scorer", "text", "timing"},
    "async_reranker": BASICS | {"backends", "calls", "queue", "reranker", "text"},
}
# And for those of the server: a wire knows no HTTP, and what carries a call out knows no wire's form.
SERVER_MAY_IMPORT: dict[str, set[str]] = {
    "wires": set(),
    "page": set(),
    "limits": set(),
    "models": set(),
    "settings": {"limits"},
    "settings_sources": {"settings"},
    "carry_out": {"limits", "wires"},
    "observing": {"models", "settings"},
    "http": {"carry_out", "limits", "models", "observing", "settings", "settings_sources", "wires"},
    "open_inference": {"carry_out", "http", "models", "observing", "wires"},
    "routes": {"http", "open_inference", "wires"},
    "openapi": {"routes", "wires"},
    "app": {"http", "models", "openapi", "page", "routes", "settings", "wires"},
    "run": {"app", "http", "models", "observing", "settings"},
}


def all_imports(folder: str) -> list[Import]:
    return [found for path in modules(folder) for found in imports(path)]


def room_of(module: str) -> str:
    """The room of a module of the engine: its first name below ``modernrank``."""
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("folder", FOLDERS)
def test_packages_are_imported_by_the_name_that_installs(folder: str) -> None:
    assert [found for found in all_imports(folder) if found.module.partition(".")[0] in FOLDERS] == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_folders_import_only_those_below_them(folder: str) -> None:
    for found in all_imports(folder):
        allowed = {folder} | MAY_IMPORT[folder]
        if found.is_deferred:
            allowed |= MAY_IMPORT_WHEN_CALLED.get(folder, set())
        assert folder_of(found.module) in allowed, found


def test_rooms_of_the_engine_import_only_those_below_them() -> None:
    for found in all_imports("engine"):
        room, target = room_of(name_of(found.path)), room_of(found.module)
        if room and target not in (room, "") and folder_of(found.module) == "engine":
            assert target in ENGINE_MAY_IMPORT[room], found


def test_every_room_of_the_engine_has_a_place_in_the_direction() -> None:
    rooms = {room_of(name_of(path)) for path in modules("engine")} - {"", "_version"}
    assert rooms == set(ENGINE_MAY_IMPORT)


def test_rooms_of_the_server_import_only_those_below_them() -> None:
    rooms = set()
    for found in all_imports("server"):
        room, target = (
            name.split(".")[2] if name.count(".") > 1 else "" for name in (name_of(found.path), found.module)
        )
        rooms.add(room)
        if room and target not in (room, "") and folder_of(found.module) == "server":
            assert target in SERVER_MAY_IMPORT[room], found
    assert rooms - {""} <= set(SERVER_MAY_IMPORT)


@pytest.mark.parametrize("folder", FOLDERS)
def test_modules_do_not_import_each_other_in_a_circle(folder: str) -> None:
    """While a module is being imported; what a function imports when it is called may point back."""
    graph: dict[str, set[str]] = {}
    for found in all_imports(folder):
        if not found.is_deferred:
            graph.setdefault(name_of(found.path), set()).add(found.module)
    for start in graph:
        reached: set[str] = set()
        waiting = [start]
        while waiting:
            for module in graph.get(waiting.pop(), set()) - reached:
                reached.add(module)
                waiting.append(module)
        assert start not in reached, f"{start} imports itself through others"
