"""``export_checkpoint``: a checkpoint goes in, an artifact comes out, whole or not at all."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from modernrank import __version__
from modernrank.artifact.folder import Artifact
from modernrank.artifact.hashing import sha256_of
from modernrank.artifact.manifest import FILE_NAME, FileRecord, Manifest, Model, Source
from modernrank.errors import InputError
from modernrank.options import EXACT, PrecisionName

from .checkpoint.activation import read_activation
from .checkpoint.description import Description
from .checkpoint.hub import DEFAULT_MODEL, license_of, locate, origin_hashes
from .checkpoint.tokenizer import read_tokenizer
from .checkpoint.weights import Checkpoint
from .companions import copy_companions
from .frameworks import check_frameworks, write_framework_files
from .models.architecture import Architecture
from .models.registry import architecture_of
from .output_folder import check_target, replacing
from .precision.job import GraphJob, GraphSource, WrittenGraph
from .precision.registry import GRAPHS, PRECISIONS
from .quality_gate import Material, evaluation_of, measure_quality, read_material
from .report import Report, silent

logger = logging.getLogger(__name__)

TOOLS = ("numpy", "onnx", "onnxruntime", "safetensors", "tokenizers", "transformers", "optimum", "optimum-onnx")


@dataclass(frozen=True)
class ExportOptions:
    """The options of an export, validated.

    dialects:    the dialect to write each precision in.
    revision:    commit, tag or branch of a hub id.
    calibration: JSON lines of pairs; None for those that ship.
    evaluation:  a folder in BEIR's layout; None for the checkpoint's own, or pairs of the shipped texts.
    frameworks:  names of those that shall load the artifact as a model of their own.
    force:       whether an artifact may be replaced.
    report:      called with a line for each step.
    """

    dialects: Mapping[PrecisionName, str]
    revision: str | None = None
    calibration: Path | None = None
    evaluation: Path | None = None
    frameworks: tuple[str, ...] = ()
    force: bool = False
    report: Report = silent

    def __post_init__(self) -> None:
        if list(self.dialects) != [EXACT]:
            return
        for name, value in (("calibration", self.calibration), ("evaluation", self.evaluation)):
            if value is not None:
                others = " and ".join(other for other in PRECISIONS if other != EXACT)
                raise InputError(
                    f"{name} applies to {others} only, not to {EXACT}; leave it out", argument=name, value=value
                )


def export_checkpoint(
    checkpoint: str | Path = DEFAULT_MODEL,
    out: str | Path = "artifacts/gte-reranker-modernbert-base",
    *,
    graph: str | None = None,
    precision: str | Sequence[str] = EXACT,
    revision: str | None = None,
    calibration: str | Path | None = None,
    evaluation: str | Path | None = None,
    frameworks: Sequence[str] = (),
    force: bool = False,
    report: Report = silent,
) -> Manifest:
    """Write the artifact of ``checkpoint`` to the folder ``out``.

    Args:
        checkpoint: a folder or a hub id, with a ModernBERT sequence classifier in safetensors.
        out: the artifact's folder. It appears when everything is written, and not before.
        graph: ``"ort-cpu"`` (fastest in ONNX Runtime on CPUs), ``"standard"`` (pure ONNX operators), ``"ort-cuda"``,
            ``"tensorrt"`` (from 10.15), ``"tensorrt-decomposed"`` (older ones), ``"padded"`` (``input_ids`` and
            ``attention_mask`` in opset 17, for other runtimes), or ``"reference"`` (what optimum exports; requires
            ``modernrank[reference]``). By default ``"tensorrt"`` for fp16, otherwise ``"ort-cpu"``.
        precision: ``"fp32"``, ``"fp16"`` for GPUs or ``"int8"`` for processors, or several of them; the last two
            require ``modernrank[cpu]`` too, to run the model on pairs.
        revision: commit, tag or branch of a hub id.
        calibration: for fp16 and int8, JSON lines of pairs like those that will be scored; by default a small set that
            the package ships.
        evaluation: for fp16 and int8, a folder in BEIR's layout with ``candidates.run``, to measure their loss of
            quality; by default the checkpoint's own folder ``evaluation``, or if it has none, pairs of the shipped
            texts. ``quality_gate.py`` decides from the loss whether ``precision="auto"`` may take them.
        frameworks: ``"sentence-transformers"`` adds the files with which ``CrossEncoder(out, trust_remote_code=True)``
            loads the artifact and runs modernrank.
        force: replace an existing artifact.
        report: called with a line for each step.

    Returns:
        The manifest that was written.

    Raises:
        InputError: ``graph``, ``precision`` or a framework is unknown, or pairs or judgements cannot be used.
        ArtifactError: the checkpoint is not such a classifier or is damaged, or ``out`` exists or cannot be written.
    """
    options = ExportOptions(
        choose_dialects(graph, [precision] if isinstance(precision, str) else precision),
        revision,
        None if calibration is None else Path(calibration),
        None if evaluation is None else Path(evaluation),
        check_frameworks(frameworks),
        force,
        report,
    )
    return _export(str(checkpoint), Path(out).resolve(), options)


def choose_dialects(graph: str | None, precisions: Sequence[str]) -> dict[PrecisionName, str]:
    """The dialect to write each precision in: ``graph``, or the precision's default.

    Raises:
        InputError: a name is unknown, or a precision cannot be written in this dialect.
    """
    if not precisions:
        raise InputError(
            f"no precision was given; choose one or more of {', '.join(PRECISIONS)}",
            argument="precision",
            choices=tuple(PRECISIONS),
        )
    if graph is not None and graph not in GRAPHS:
        raise InputError(
            f"graph {graph!r} is unknown; choose one of {', '.join(GRAPHS)}",
            argument="graph",
            value=graph,
            choices=GRAPHS,
        )
    dialects: dict[PrecisionName, str] = {}
    for name in precisions:
        if name not in PRECISIONS:
            raise InputError(
                f"precision {name!r} is unknown; choose one of {', '.join(PRECISIONS)}",
                argument="precision",
                value=name,
                choices=tuple(PRECISIONS),
            )
        chosen = PRECISIONS[name]
        if graph is not None and graph not in chosen.dialects:
            raise InputError(
                f"{name} can be written as {' or '.join(chosen.dialects)}, not as {graph!r}; leave graph out",
                argument="graph",
                value=graph,
                choices=chosen.dialects,
            )
        dialects[chosen.name] = graph or chosen.dialects[0]
    return dialects


def _export(checkpoint: str, out: Path, options: ExportOptions) -> Manifest:
    started = time.perf_counter()
    check_target(out, options.force)
    origin = locate(checkpoint, options.revision)
    description = Description.read(origin.folder)
    architecture = architecture_of(description)
    activation = read_activation(origin.folder, len(architecture.facts.labels))
    facts = architecture.facts
    tokenizer = read_tokenizer(
        description, rows=facts.vocabulary, pad_token_id=facts.pad_token_id, max_length=facts.max_length
    )
    material = _read_material(origin.folder, options)
    with Checkpoint(origin.folder, architecture.expected_tensors()) as weights, replacing(out, options.force) as folder:
        source = GraphSource(origin.folder, architecture, weights, tokenizer)
        shutil.copyfile(origin.folder / tokenizer.file, folder / tokenizer.file)
        graphs = [_write(source, name, folder, options) for name in options.dialects]
        if any(written.graph.layout == "padded" for written in graphs):
            copy_companions(origin.folder, folder, options.report)
        model = _model(architecture, activation)
        write_framework_files(folder, options.frameworks, model, tokenizer)
        options.report("hashing")
        manifest = Manifest(
            name=out.name,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            source=Source(origin.model_id, origin.revision, origin_hashes(origin)),
            license=license_of(origin.folder),
            model=model,
            tokenizer=tokenizer,
            graphs=[written.graph for written in graphs],
            files={path.name: FileRecord(path.stat().st_size, sha256_of(path)) for path in sorted(folder.iterdir())},
            tools={"modernrank": __version__, **_installed(TOOLS)},
            quantisation={written.graph.precision: written.made for written in graphs if written.made},
        )
        if material is not None:
            quality = measure_quality(Artifact(folder, manifest), source, material, options.report)
            manifest = replace(manifest, quality=quality)
        (folder / FILE_NAME).write_text(manifest.to_json(), encoding="utf-8")
    logger.info("exported %s to %s in %.1f s", checkpoint, out, time.perf_counter() - started)
    return manifest


def _write(source: GraphSource, precision: PrecisionName, folder: Path, options: ExportOptions) -> WrittenGraph:
    job = GraphJob(source, precision, options.dialects[precision], folder, options.calibration, options.report)
    return PRECISIONS[precision].write(job)


def _read_material(checkpoint: Path, options: ExportOptions) -> Material | None:
    """What inexact precisions are measured on: the given set, the checkpoint's own set, or the shipped texts."""
    if all(PRECISIONS[name].is_exact for name in options.dialects):
        return None
    return read_material(options.evaluation or evaluation_of(checkpoint))


def _model(architecture: Architecture, activation: str) -> Model:
    facts = architecture.facts
    return Model(
        architecture=architecture.name,
        layers=facts.layers,
        hidden_size=facts.hidden_size,
        vocabulary=facts.vocabulary,
        pooling=facts.pooling,
        labels=list(facts.labels),
        max_length=facts.max_length,
        activation=activation,
        problem_type=facts.problem_type,
    )


def _installed(packages: Sequence[str]) -> dict[str, str]:
    versions = {d.metadata["Name"].lower(): d.version for d in metadata.distributions() if d.metadata["Name"]}
    return {name: versions[name] for name in packages if name in versions}
