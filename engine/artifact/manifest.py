"""``manifest.json``: the only hand-over between ``export`` and the runtime.

Schema version 1 (``docs/manifest.md`` says more of each field):

    schema_version   1
    name             the artifact's name, by default its folder's
    created          UTC time, ISO 8601
    source           model_id (hub id or null), revision (null for a local folder), files {name: SHA-256}
    license          SPDX id from the model card, or "unknown"
    model            architecture, layers, hidden_size, vocabulary, pooling, labels, max_length (tokens)
    tokenizer        file, pad_token_id, truncation_side, max_length (tokens)
    graphs           a list: precision, dialect, layout ("packed" or "padded"), opset, file, data, providers
    engines          a list of TensorRT engines: graph, graph_sha256, precision, file, library, version,
                     compute_capability, profiles, slots, options; empty until `modernrank tensorrt` ran
    files            {name: {size (bytes), sha256}} of every file but the manifest
    parity           {precision: figures of `modernrank verify`}, empty until it ran
    quantisation     {precision: how it was made}: calibration pairs, what stayed in float32, errors by layer
    quality          {precision: what it loses beside float32, and whether `precision="auto"` may take it}
    tools            {package: version} that the export ran with
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from modernrank.errors import ArtifactError

from .hashing import read_json_object

SCHEMA_VERSION = 1
FILE_NAME = "manifest.json"
LAYOUTS = ("packed", "padded")


@dataclass(frozen=True)
class Source:
    """Where the weights came from. ``files`` maps each checkpoint file to its SHA-256."""

    model_id: str | None
    revision: str | None
    files: dict[str, str]


@dataclass(frozen=True)
class Model:
    """The architecture, as far as the runtime and a reader need it. ``max_length`` counts tokens."""

    architecture: str
    layers: int
    hidden_size: int
    vocabulary: int
    pooling: str
    labels: list[str]
    max_length: int


@dataclass(frozen=True)
class Tokenizer:
    """What encoding needs besides ``tokenizer.json``. ``max_length`` is the tokenizer's own limit in tokens."""

    file: str
    pad_token_id: int
    truncation_side: str
    max_length: int


@dataclass(frozen=True)
class Graph:
    """One ONNX graph of the artifact and the providers it was made for."""

    precision: str
    dialect: str
    layout: str
    opset: int
    file: str
    data: str | None
    providers: list[str]


@dataclass(frozen=True)
class Profile:
    """An optimisation profile: the shapes ``[rows, tokens]`` that an engine takes, each as least, best and most."""

    name: str
    rows: list[int]
    tokens: list[int]

    def __str__(self) -> str:
        shapes = [f"{rows}x{tokens}" for rows, tokens in zip(self.rows, self.tokens, strict=True)]
        return f"{self.name}={':'.join(shapes)}"


@dataclass(frozen=True)
class Engine:
    """One engine that TensorRT built from a graph of the artifact.

    graph, graph_sha256: the graph's file and its hash when the engine was built.
    library:  ``"tensorrt"`` or ``"tensorrt-rtx"``; ``version`` is the library's.
    compute_capability: of the GPU that it was built on, ``"9.0"``; ``"any"`` where the library compiles at first use.
    slots:    most pairs in a row, which is fixed in an engine.
    options:  ``"version_compatible"``, ``"hardware_compatible"``.
    """

    graph: str
    graph_sha256: str
    precision: str
    file: str
    library: str
    version: str
    compute_capability: str
    profiles: list[Profile]
    slots: int
    options: list[str]


@dataclass(frozen=True)
class FileRecord:
    """Size in bytes and SHA-256 of one file."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The whole manifest; see the module's text for each field."""

    name: str
    created: str
    source: Source
    license: str
    model: Model
    tokenizer: Tokenizer
    graphs: list[Graph]
    files: dict[str, FileRecord]
    tools: dict[str, str]
    parity: dict[str, dict[str, Any]] = field(default_factory=dict)
    quantisation: dict[str, dict[str, Any]] = field(default_factory=dict)
    quality: dict[str, dict[str, Any]] = field(default_factory=dict)
    engines: list[Engine] = field(default_factory=list)
    schema_version: int = SCHEMA_VERSION

    def auto_precisions(self) -> list[str]:
        """What ``precision="auto"`` may take, in this order: the faster ones where their quality passed, then fp32."""
        return [name for name in ("int8", "fp16") if self.quality.get(name, {}).get("passed") is True] + ["fp32"]

    def to_json(self) -> str:
        """The text of ``manifest.json``."""
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False) + "\n"

    @staticmethod
    def read(folder: Path) -> Manifest:
        """Read ``folder/manifest.json``.

        Raises:
            ArtifactError: there is none, it is not valid, or its schema is newer than this version reads.
        """
        path = folder / FILE_NAME
        if not path.is_file():
            raise ArtifactError(
                f"{folder} is not an artifact: it has no {FILE_NAME}; "
                f"make one with `modernrank export CHECKPOINT --out {folder}`"
            )
        return _parse(read_json_object(path), path)


def _parse(data: dict[str, Any], path: Path) -> Manifest:
    version = data.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise ArtifactError(
            f"{path} has schema version {version}, this modernrank reads up to {SCHEMA_VERSION}: "
            "upgrade modernrank, or export the artifact again with this version"
        )
    if version != SCHEMA_VERSION:
        raise ArtifactError(
            f"{path} has no schema_version {SCHEMA_VERSION} (found {version!r}); export the artifact again"
        )
    try:
        fields = {
            **data,
            "source": _record(Source, data["source"]),
            "model": _record(Model, data["model"]),
            "tokenizer": _record(Tokenizer, data["tokenizer"]),
            "graphs": [_record(Graph, graph) for graph in data["graphs"]],
            "engines": [_engine(engine) for engine in data.get("engines", [])],
            "files": {name: _record(FileRecord, entry) for name, entry in data["files"].items()},
        }
        manifest = _record(Manifest, fields)
    except (KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(
            f"{path} is incomplete or has a field of the wrong type ({type(error).__name__}: {error}); "
            "export the artifact again"
        ) from error
    _check_files(manifest, path)
    for graph in manifest.graphs:
        if graph.layout not in LAYOUTS:
            raise ArtifactError(f"{path}: layout {graph.layout!r} is none of {', '.join(LAYOUTS)}; export again")
    return manifest


def _check_files(manifest: Manifest, path: Path) -> None:
    """Every file that is used has a recorded hash, and none lies outside the folder."""
    used = [manifest.tokenizer.file, *(engine.file for engine in manifest.engines)]
    used += [name for graph in manifest.graphs for name in (graph.file, graph.data) if name]
    for name in (*manifest.files, *used):
        if Path(name).name != name:
            raise ArtifactError(f"{path} names a file outside its folder: {name!r}; do not load this artifact")
        if name not in manifest.files:
            raise ArtifactError(f"{path} uses {name!r} but records no hash of it; export the artifact again")


def _engine(data: dict[str, Any]) -> Engine:
    return _record(Engine, {**data, "profiles": [_record(Profile, profile) for profile in data["profiles"]]})


T = TypeVar("T")


def _record(kind: type[T], data: dict[str, Any]) -> T:
    """Build a dataclass from JSON, its types checked; unknown fields are a later minor addition and passed over."""
    types = get_type_hints(kind)
    known = {name: value for name, value in data.items() if name in types}
    for name, value in known.items():
        if not _is(value, types[name]):
            raise TypeError(f"{kind.__name__}.{name} is {value!r}")
    return kind(**known)


def _is(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotated type, of those that the manifest's fields have."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin is list:
        return isinstance(value, list) and all(_is(item, arguments[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(_is(item, arguments[1]) for item in value.values())
    if origin is UnionType:
        return any(_is(value, argument) for argument in arguments)
    return isinstance(value, hint) and not (hint is int and isinstance(value, bool))
