"""``export_checkpoint``: a checkpoint goes in, an artifact comes out, whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from modernrank import __version__
from modernrank.artifact.folder import Artifact
from modernrank.artifact.hashing import sha256_of
from modernrank.artifact.json_records import read_json_object
from modernrank.artifact.manifest import FILE_NAME, FileRecord, Manifest, Model, OnnxGraph, Source, Tokenizer
from modernrank.errors import ArtifactError, InputError
from modernrank.evaluation.formats import QUERIES
from modernrank.export.checkpoint.weights import DEFAULT_MODEL, Checkpoint, Origin, license_of, locate, origin_hashes
from modernrank.export.graph.dialects import DIALECTS, OPSET
from modernrank.export.models.modernbert.config import ModernBertConfig
from modernrank.export.models.modernbert.graph import write_graph
from modernrank.text.encoder import PairEncoder

from .quality_gate import FOLDER, Material, measure_quality, read_material

REFERENCE = "reference"
GRAPHS = (*DIALECTS, REFERENCE)
# The dialects that each precision can be written in, the default first.
GRAPHS_OF = {
    "fp32": ("ort-cpu", "standard", "ort-cuda", "tensorrt", "tensorrt-decomposed", REFERENCE),
    "fp16": ("tensorrt", "tensorrt-decomposed", "ort-cuda"),
    "int8": ("ort-cpu",),
}
PRECISIONS = tuple(GRAPHS_OF)
TOOLS = ("numpy", "onnx", "onnxruntime", "safetensors", "tokenizers", "transformers", "optimum", "optimum-onnx")


def export_checkpoint(
    checkpoint: str | Path = DEFAULT_MODEL,
    out: str | Path = "artifacts/gte-reranker-modernbert-base",
    *,
    graph: str | None = None,
    precision: str | Sequence[str] = "fp32",
    revision: str | None = None,
    calibration: str | Path | None = None,
    evaluation: str | Path | None = None,
    force: bool = False,
    report: Callable[[str], None] = lambda message: None,
) -> Manifest:
    """Write the artifact of ``checkpoint`` to the folder ``out``.

    Args:
        checkpoint: a folder or a hub id, with a ModernBERT sequence classifier in safetensors.
        out: the artifact's folder. It appears when everything is written, and not before.
        graph: ``"ort-cpu"`` (fastest in ONNX Runtime on CPUs), ``"standard"`` (pure ONNX operators), ``"ort-cuda"``,
            ``"tensorrt"`` (from 10.15), ``"tensorrt-decomposed"`` (older ones), or ``"reference"`` (what optimum
            exports; needs ``modernrank[reference]``). By default ``"tensorrt"`` for fp16, else ``"ort-cpu"``.
        precision: ``"fp32"``, ``"fp16"`` for GPUs or ``"int8"`` for processors, or several of them; the last two need
            ``modernrank[cpu]`` too, to run the model on pairs.
        revision: of a hub id: a commit, tag or branch.
        calibration: for fp16 and int8, JSON lines of pairs like those that will be scored; by default a small set that
            ships.
        evaluation: for fp16 and int8, a folder in BEIR's layout with ``candidates.run``, to measure what they lose on;
            by default the folder ``evaluation`` in that of the checkpoint, or where there is none, pairs of the shipped
            texts.
            What is lost decides whether ``precision="auto"`` may take them (see ``gate``).
        force: replace an artifact that is there.
        report: called with a line for each step.

    Raises:
        InputError: an unknown ``graph`` or ``precision``, or pairs or judgements that cannot be used.
        ArtifactError: a checkpoint that is not such a classifier or is damaged; ``out`` exists or cannot be written.
    """
    precisions = [precision] if isinstance(precision, str) else list(dict.fromkeys(precision))
    graphs = _check_choice(graph, precisions, calibration, evaluation)
    out = Path(out).resolve()
    _check_target(out, force)
    origin = locate(str(checkpoint), revision)
    config = ModernBertConfig.read(origin.folder / "config.json")
    tokenizer = _read_tokenizer(origin.folder, config)
    material = _material(graphs, origin.folder, evaluation)
    with Checkpoint(origin.folder, config) as weights, _replacing(out, force) as folder:
        shutil.copyfile(origin.folder / tokenizer.file, folder / tokenizer.file)
        calibration = None if calibration is None else Path(calibration)
        made = {
            name: _write_model(name, dialect, weights, config, folder, calibration, report)
            for name, dialect in graphs.items()
        }
        report("hashing")
        manifest = _manifest(out.name, origin, weights.files, config, tokenizer, [g for g, _ in made.values()], folder)
        if material:
            quality = measure_quality(Artifact(folder, manifest), weights, config, material, report)
            manifest = replace(manifest, quantisation={n: how for n, (_, how) in made.items() if how}, quality=quality)
        (folder / FILE_NAME).write_text(manifest.to_json(), encoding="utf-8")
    return manifest


def _check_choice(
    graph: str | None, precisions: list[str], calibration: str | Path | None, evaluation: str | Path | None
) -> dict[str, str]:
    """The dialect to write each precision in, by default its first."""
    if not precisions:
        raise InputError(f"no precision was asked for; choose one or more of {', '.join(PRECISIONS)}")
    if graph is not None and graph not in GRAPHS:
        raise InputError(f"graph {graph!r} is unknown; choose one of {', '.join(GRAPHS)}")
    for precision in precisions:
        if precision not in PRECISIONS:
            raise InputError(f"precision {precision!r} is unknown; choose one of {', '.join(PRECISIONS)}")
        possible = GRAPHS_OF[precision]
        if graph is not None and graph not in possible:
            raise InputError(f"{precision} is written as {' or '.join(possible)}, not as {graph!r}; leave graph out")
    for name, value in (("calibration", calibration), ("evaluation", evaluation)):
        if value is not None and precisions == ["fp32"]:
            raise InputError(f"{name} is for fp16 and int8, not for fp32; leave it out")
    return {precision: graph or GRAPHS_OF[precision][0] for precision in precisions}


def _material(precisions: Iterable[str], checkpoint: Path, evaluation: str | Path | None) -> Material | None:
    """What precisions but float32 are measured on: the set that is given, else the checkpoint's own, else texts."""
    if all(precision == "fp32" for precision in precisions):
        return None
    own = checkpoint / FOLDER
    return read_material(Path(evaluation) if evaluation is not None else (own if (own / QUERIES).is_file() else None))


def _write_model(
    precision: str,
    graph: str,
    weights: Checkpoint,
    config: ModernBertConfig,
    folder: Path,
    calibration: Path | None,
    report: Callable[[str], None],
) -> tuple[OnnxGraph, dict[str, Any]]:
    """Write the graph and its weights; returns their record, and unless it is float32 how it was made."""
    model = folder / f"model.{precision}.onnx"
    made: dict[str, Any] = {}
    dialect = DIALECTS.get(graph)
    opset = dialect.opset if dialect else OPSET
    if precision == "int8":
        from modernrank.export.precision.int8 import write_int8_graph

        made = write_int8_graph(weights, config, folder / "tokenizer.json", model, calibration, report)
    elif precision == "fp16":
        from modernrank.export.precision.fp16 import write_half_graph

        tokenizer = folder / "tokenizer.json"
        made = write_half_graph(weights, config, graph, tokenizer, model, calibration, report)
    elif graph == REFERENCE:
        from .optimum_graph import write_reference_graph

        report("exporting with optimum")
        opset = write_reference_graph(weights.folder, model)
    else:
        report(f"writing the {graph} graph of {len(config.layers)} layers")
        write_graph(weights, config, graph, model)
    data = model.with_name(model.name + ".data")
    layout = "padded" if graph == REFERENCE else "packed"
    record = OnnxGraph(precision, graph, layout, opset, model.name, data.name if data.is_file() else None)
    return record, made


def rewrite_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace the manifest of an artifact in one step."""
    partial = folder / f".{FILE_NAME}.{os.getpid()}"
    try:
        partial.write_text(manifest.to_json(), encoding="utf-8")
        partial.replace(folder / FILE_NAME)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ArtifactError(f"cannot write {folder / FILE_NAME}: {error.strerror}") from error


def _manifest(
    name: str,
    origin: Origin,
    weight_files: list[Path],
    config: ModernBertConfig,
    tokenizer: Tokenizer,
    graphs: list[OnnxGraph],
    folder: Path,
) -> Manifest:
    return Manifest(
        name=name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        source=Source(origin.model_id, origin.revision, origin_hashes(origin, weight_files)),
        license=license_of(origin.folder),
        model=Model(
            architecture="ModernBertForSequenceClassification",
            layers=len(config.layers),
            hidden_size=config.hidden_size,
            vocabulary=config.vocab_size,
            pooling=config.classifier_pooling,
            labels=list(config.labels),
            max_length=config.max_position_embeddings,
        ),
        tokenizer=tokenizer,
        graphs=graphs,
        files={path.name: FileRecord(path.stat().st_size, sha256_of(path)) for path in sorted(folder.iterdir())},
        tools={"modernrank": __version__, **_installed(TOOLS)},
    )


def _installed(packages: tuple[str, ...]) -> dict[str, str]:
    there = {d.metadata["Name"].lower(): d.version for d in metadata.distributions() if d.metadata["Name"]}
    return {name: there[name] for name in packages if name in there}


def _read_tokenizer(folder: Path, config: ModernBertConfig) -> Tokenizer:
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise ArtifactError(
            f"{folder} has no tokenizer.json; save one with `AutoTokenizer.from_pretrained(..).save_pretrained(..)`"
        )
    settings_file = folder / "tokenizer_config.json"
    settings = read_json_object(settings_file) if settings_file.is_file() else {}
    limit, side = settings.get("model_max_length"), settings.get("truncation_side", "right")
    if limit is None:
        limit = config.max_position_embeddings
    if not isinstance(limit, int | float) or limit < 1:
        raise ArtifactError(f"{settings_file}: model_max_length = {limit!r} must be a number of tokens")
    limit = int(min(limit, config.max_position_embeddings))  # "no limit" is written as 1e30
    try:
        PairEncoder(file, limit, truncation_side=side, vocabulary=config.vocab_size)
    except InputError as error:
        raise ArtifactError(f"{settings_file}: {error}") from error
    return Tokenizer(file.name, config.pad_token_id, side, limit)


def _check_target(out: Path, force: bool) -> None:
    """Refuse to overwrite, and never delete what no export has written."""
    if not out.exists():
        return
    if not out.is_dir():
        raise ArtifactError(f"{out} exists and is not a folder; choose another --out")
    names = {path.name for path in out.iterdir()}
    if not names:
        return
    if FILE_NAME not in names:
        raise ArtifactError(f"{out} exists and is not an artifact; choose another --out")
    foreign = sorted(names - set(Manifest.read(out).files) - {FILE_NAME})
    if foreign:
        raise ArtifactError(
            f"{out} holds {foreign[0]}, which is no part of its artifact; move it, or choose another --out"
        )
    if not force:
        raise ArtifactError(f"{out} holds an artifact already; give --force to replace it, or choose another --out")


def _share(folder: Path) -> None:
    """Give a temporary folder and its files, which are private, the permissions of any other."""
    umask = os.umask(0)
    os.umask(umask)
    folder.chmod(0o777 & ~umask)
    for file in folder.iterdir():
        file.chmod(0o666 & ~umask)


@contextmanager
def _replacing(out: Path, force: bool) -> Iterator[Path]:
    """A temporary folder beside ``out`` that takes its place on success and vanishes on failure."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
    except OSError as error:
        raise ArtifactError(f"cannot write to {out.parent}: {error.strerror}; choose another --out") from error
    try:
        yield partial
        _share(partial)
        _check_target(out, force)
        _swap(partial, out)
    except OSError as error:
        free = shutil.disk_usage(out.parent).free
        raise ArtifactError(
            f"cannot write {out}: {error.strerror} ({free / 1e6:,.0f} MB are free there; "
            "an artifact needs about the checkpoint's size); nothing was kept"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _swap(partial: Path, out: Path) -> None:
    """Put ``partial`` at the place of ``out``; what was there comes back if that fails."""
    old = partial.with_suffix(".replaced")
    if out.exists():
        out.rename(old)
    try:
        partial.rename(out)
    except OSError:
        if old.exists():
            old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)
