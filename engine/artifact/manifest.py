"""``manifest.json``: the only interface between ``export`` and the runtime.

``docs/artifact-format.md`` describes each field:

    schema_version   1, or 2 if texts are changed before they are tokenised, which version 1 did not know
    name             the artifact's name, by default its folder's
    created          UTC time, ISO 8601
    source           model_id (hub id or null), revision (null for a local folder), files {name: SHA-256}
    license          SPDX id from the model card, or "unknown"
    model            architecture, layers, hidden_size, vocabulary, pooling, labels, max_length (tokens), activation,
                     problem_type
    tokenizer        file, pad_token_id, truncation_side, max_length (tokens), splits_special_tokens,
                     prompts {name: text}, default_prompt
    graphs           a list: precision, dialect, layout ("packed" or "padded"), opset, file, data, short, saturates
    engines          a list of TensorRT engines: graph, graph_sha256, precision, file, library, version,
                     compute_capability, profiles, slots, options, gpu, multiprocessors; empty until
                     `modernrank build-engine` has run
    files            {name: {size (bytes), sha256}} of every file but the manifest
    parity           {precision: figures of `modernrank verify`}, empty until it has run
    quantisation     {precision: how it was made}: calibration pairs, what stayed in float32, errors by layer
    quality          {precision: what it loses compared with float32, and whether `precision="auto"` may take it}
    tools            {package: version} that the export ran with
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modernrank.errors import ArtifactError
from modernrank.options import EXACT, PRECISIONS, PrecisionName
from modernrank.text.truncation import SIDES

from .json_records import read_json_object, record

SCHEMA_VERSION = 2  # the newest that is read
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
    """The architecture, as far as the runtime and a reader need it. ``max_length`` counts tokens.

    ``activation`` is the one that the checkpoint's own files ask for: ``"logit"``, ``"sigmoid"``, ``"softmax"``, or
    another name that ``activation="model"`` then refuses; "" in artifacts of versions that did not record it.
    ``problem_type`` is that of config.json, None if it has none; "" in artifacts of versions that did not record it.
    """

    architecture: str
    layers: int
    hidden_size: int
    vocabulary: int
    pooling: str
    labels: list[str]
    max_length: int
    activation: str = ""
    problem_type: str | None = ""


@dataclass(frozen=True)
class Tokenizer:
    """What encoding needs besides ``tokenizer.json``.

    max_length:     the tokenizer's own limit in tokens.
    splits_special_tokens: whether the text of a special token inside a query or a document is tokenised like any other
                    text; False in artifacts of versions that did not record it.
    prompts:        texts that may be put before a query, by name.
    default_prompt: the name of the one that is used unless a call chooses; None for none.
    """

    file: str
    pad_token_id: int
    truncation_side: str
    max_length: int
    splits_special_tokens: bool = False
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt: str | None = None

    @property
    def prompt(self) -> str:
        """The text of the default prompt; ``""`` for none."""
        return "" if self.default_prompt is None else self.prompts[self.default_prompt]


@dataclass(frozen=True)
class OnnxGraph:
    """One ONNX graph of the artifact. Its dialect decides which providers can run it.

    data:  the file of its weights, where they are separate.
    short: a second graph of the same model that is faster for short rows, where the dialect has one; it reads the same
           weights.
    saturates: whether its int8 weights can saturate the fastest product of processors without a dot-product
           instruction; True in artifacts of versions that did not record it. It means nothing in other precisions.
    """

    precision: str
    dialect: str
    layout: str
    opset: int
    file: str
    data: str | None
    short: str | None = None
    saturates: bool = True

    @property
    def files(self) -> list[str]:
        """The graph's file, and those of its weights and of the second graph where there are such."""
        return [self.file, *(name for name in (self.data, self.short) if name)]


@dataclass(frozen=True)
class Profile:
    """An optimisation profile: minimum, optimum and maximum of the shapes ``[rows, tokens]`` that an engine accepts."""

    name: str
    rows: list[int]
    tokens: list[int]

    def __str__(self) -> str:
        shapes = [f"{rows}x{tokens}" for rows, tokens in zip(self.rows, self.tokens, strict=True)]
        return f"{self.name}={':'.join(shapes)}"


@dataclass(frozen=True)
class TensorRtEngineRecord:
    """One engine that TensorRT built from a graph of the artifact.

    graph, graph_sha256: the graph's file, and its hash when the engine was built.
    library:  ``"tensorrt"`` or ``"tensorrt-rtx"``; ``version`` is the library's.
    compute_capability: of the GPU on which it was built, ``"9.0"``; ``"any"`` if the library compiles at first use.
    slots:    maximum number of pairs in a row, which is fixed in an engine.
    options:  ``"version_compatible"``, ``"hardware_compatible"``, ``"allow_tf32"``.
    gpu, multiprocessors: name of the GPU on which its kernels were timed, and the number of its multiprocessors; "" and
              0 for tensorrt-rtx, which times none, and in artifacts of versions that did not record them.
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
    gpu: str = ""
    multiprocessors: int = 0


@dataclass(frozen=True)
class FileRecord:
    """Size in bytes and SHA-256 of one file."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The whole manifest; the module's docstring describes each field."""

    name: str
    created: str
    source: Source
    license: str
    model: Model
    tokenizer: Tokenizer
    graphs: list[OnnxGraph]
    files: dict[str, FileRecord]
    tools: dict[str, str]
    parity: dict[str, dict[str, Any]] = field(default_factory=dict)
    quantisation: dict[str, dict[str, Any]] = field(default_factory=dict)
    quality: dict[str, dict[str, Any]] = field(default_factory=dict)
    engines: list[TensorRtEngineRecord] = field(default_factory=list)

    @property
    def schema_version(self) -> int:
        """The lowest version whose readers score this artifact rightly."""
        return 2 if self.tokenizer.prompt or self.tokenizer.splits_special_tokens else 1

    @property
    def max_length(self) -> int:
        """The maximum number of tokens in a pair: the lower of the model's and the tokenizer's limits."""
        return min(self.model.max_length, self.tokenizer.max_length)

    @property
    def limited_by(self) -> str:
        """What sets ``max_length``, in words: the model's positions, or a lower limit of the tokenizer."""
        if self.tokenizer.max_length < self.model.max_length:
            return "model_max_length of its tokenizer_config.json"
        return "max_position_embeddings of its config.json"

    def auto_precisions(self) -> list[PrecisionName]:
        """Precisions that ``precision="auto"`` may use, fastest first: those that passed, and the exact one."""
        return [name for name in PRECISIONS if name == EXACT or self.quality.get(name, {}).get("passed") is True]

    def to_json(self) -> str:
        """The text of ``manifest.json``."""
        return manifest_text({"schema_version": self.schema_version, **dataclasses.asdict(self)})

    @staticmethod
    def read(folder: Path) -> Manifest:
        """Read ``folder/manifest.json``.

        Raises:
            ArtifactError: it is missing, it is not valid, or its schema is newer than this version reads.
        """
        path = folder / FILE_NAME
        if not path.is_file():
            raise ArtifactError(
                f"{folder} is not an artifact: it has no {FILE_NAME}; "
                f"make one with `modernrank export CHECKPOINT --out {folder}`",
                path=folder,
            )
        return _parse(read_json_object(path), path)


def manifest_text(content: dict[str, Any]) -> str:
    """The text of ``manifest.json`` with this content."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _parse(data: dict[str, Any], path: Path) -> Manifest:
    version = data.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise ArtifactError(
            f"{path} has schema version {version}, but this modernrank reads versions up to {SCHEMA_VERSION}; "
            "upgrade modernrank, or export the artifact again with this version",
            path=path,
            schema_version=version,
        )
    if not isinstance(version, int) or version < 1:
        raise ArtifactError(
            f"{path} has no schema_version from 1 to {SCHEMA_VERSION} (it has {version!r}); export the artifact again",
            path=path,
            schema_version=version,
        )
    try:
        fields = {
            **data,
            "source": record(Source, data["source"]),
            "model": record(Model, data["model"]),
            "tokenizer": record(Tokenizer, data["tokenizer"]),
            "graphs": [record(OnnxGraph, graph) for graph in data["graphs"]],
            "engines": [_engine(engine) for engine in data.get("engines", [])],
            "files": {name: record(FileRecord, entry) for name, entry in data["files"].items()},
        }
        manifest = record(Manifest, fields)
    except (KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(
            f"{path} is incomplete or has a field of the wrong type ({type(error).__name__}: {error}); "
            "export the artifact again",
            path=path,
        ) from error
    _check_files(manifest, path)
    _check_ranges(manifest, path)
    for graph in manifest.graphs:
        if graph.layout not in LAYOUTS:
            raise ArtifactError(
                f"{path}: layout {graph.layout!r} is not one of {', '.join(LAYOUTS)}; export again", path=path
            )
    return manifest


def _check_ranges(manifest: Manifest, path: Path) -> None:
    """Refuse values that no export writes; a reader would otherwise meet them as errors of another kind."""
    model, tokenizer = manifest.model, manifest.tokenizer
    counts = {
        "model.max_length": model.max_length,
        "model.vocabulary": model.vocabulary,
        "tokenizer.max_length": tokenizer.max_length,
    }
    wrong: dict[str, object] = {name: value for name, value in counts.items() if value < 1}
    if not 0 <= tokenizer.pad_token_id < model.vocabulary:
        wrong["tokenizer.pad_token_id"] = tokenizer.pad_token_id
    if tokenizer.default_prompt is not None and tokenizer.default_prompt not in tokenizer.prompts:
        wrong["tokenizer.default_prompt"] = tokenizer.default_prompt
    if tokenizer.truncation_side not in SIDES:
        wrong["tokenizer.truncation_side"] = tokenizer.truncation_side
    if wrong:
        name, value = next(iter(wrong.items()))
        raise ArtifactError(
            f"{path}: {name} is {value!r}, which no export writes; export the artifact again",
            path=path,
            field=name,
            value=value,
        )


def _check_files(manifest: Manifest, path: Path) -> None:
    """Check that every file in use has a recorded hash, and that none lies outside the folder."""
    used = [manifest.tokenizer.file, *(engine.file for engine in manifest.engines)]
    used += [name for graph in manifest.graphs for name in graph.files]
    for name in (*manifest.files, *used):
        if Path(name).name != name:
            raise ArtifactError(
                f"{path} names a file outside its folder: {name!r}; do not load this artifact", path=path, file=name
            )
        if name not in manifest.files:
            raise ArtifactError(
                f"{path} uses {name!r} but records no hash of it; export the artifact again", path=path, file=name
            )


def _engine(data: dict[str, Any]) -> TensorRtEngineRecord:
    return record(TensorRtEngineRecord, {**data, "profiles": [record(Profile, entry) for entry in data["profiles"]]})
