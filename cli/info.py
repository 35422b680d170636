"""``modernrank info``: what an artifact is, and what this machine would run; or what a checkpoint is."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from modernrank.artifact.folder import Artifact, is_artifact, is_hub_id
from modernrank.backends.cuda.driver import device_name, find_driver
from modernrank.backends.onnxruntime.int8_kernel import FAST, int8_kernel
from modernrank.backends.open import auto_precision, usable_providers, why_no_engine_fits
from modernrank.backends.registry import PROVIDERS, providers_of
from modernrank.errors import InputError
from modernrank.host import available_threads
from modernrank.options import EXACT

from .base import Command
from .options import add_artifact, add_json

if TYPE_CHECKING:
    from modernrank.export.inspection import Inspection

Rows = list[tuple[str, str]]


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_artifact(parser, "an artifact's folder, or a checkpoint: a folder or a hub id")
    add_json(parser, "the manifest, or what is known of the checkpoint,")
    parser.add_argument("--revision", help="commit, tag or branch of a hub id")


def _info(args: argparse.Namespace) -> int:
    if _is_checkpoint(args.artifact):
        return _checkpoint(args)
    if args.revision is not None:
        raise InputError(
            f"--revision {args.revision} is for hub ids, and {args.artifact} is a path; leave it out",
            argument="revision",
            value=args.revision,
        )
    artifact = Artifact.open(args.artifact)
    if args.json:
        print(artifact.manifest.to_json(), end="")
        return 0
    _print([*_origin(artifact), *_contents(artifact), *_machine(artifact)])
    return 0


def _is_checkpoint(path: Path) -> bool:
    """Whether a path is not that of an artifact: it is a folder with a config, or has the form of a hub id."""
    if path.is_dir():
        return (path / "config.json").is_file() and not is_artifact(path)
    return is_hub_id(path.as_posix()) and not path.parent.exists()


def _print(rows: Rows) -> None:
    for name, text in rows:
        print(f"{name:>13}  {text}")


def _checkpoint(args: argparse.Namespace) -> int:
    """Show what a checkpoint is; returns 1 if it cannot be exported."""
    from modernrank.export.inspection import inspect_checkpoint

    found = inspect_checkpoint(args.artifact.as_posix(), args.revision)
    if args.json:
        print(json.dumps(found.as_json(), indent=2, ensure_ascii=False))
        return 0 if found.can_be_exported else 1
    revision = f" at {found.revision}" if found.revision else ""
    _print([("checkpoint", f"{found.checkpoint}{revision}, licence {found.license}")])
    _print([("contents", ", ".join(found.described) or "not known")])
    if found.family:
        _print(_model(found))
    _print([("warning", text) for text in found.warnings])
    if found.can_be_exported:
        _print([("export", f"possible: modernrank export {found.checkpoint} --out ARTIFACT")])
        return 0
    _print([("export", "not possible"), *(("because", text) for text in found.obstacles)])
    return 1


def _model(found: Inspection) -> Rows:
    """What is known of a checkpoint that a family takes."""
    millions = found.parameters / 1e6
    return [
        ("family", f"{found.family}; {found.reference} is its reference"),
        (
            "model",
            f"{found.layers} layers of {found.hidden_size}, {millions:,.1f} million parameters, a vocabulary of "
            f"{found.vocabulary:,}, {found.pooling} pooling",
        ),
        ("labels", ", ".join(found.labels)),
        ("activation", f"{found.activation or 'not known'} (activation='model')"),
        ("prompts", _prompts(found.prompts, found.default_prompt)),
        ("longest pair", f"{found.max_length:,} tokens"),
        ("precisions", ", ".join(found.precisions)),
        ("weights", found.weights),
    ]


def _origin(artifact: Artifact) -> Rows:
    manifest = artifact.manifest
    model, source = manifest.model, manifest.source
    revision = f" at {source.revision}" if source.revision else ""
    return [
        ("artifact", f"{manifest.name}, exported {manifest.created} by modernrank {manifest.tools.get('modernrank')}"),
        ("source", f"{source.model_id or 'a local folder'}{revision}, licence {manifest.license}"),
        ("model", f"{model.architecture}, {model.layers} layers of {model.hidden_size}, {model.pooling} pooling"),
        ("labels", ", ".join(model.labels)),
        ("activation", f"{model.activation or 'not recorded'} (activation='model')"),
        ("prompts", _prompts(manifest.tokenizer.prompts, manifest.tokenizer.default_prompt)),
        ("longest pair", f"{manifest.max_length:,} tokens"),
    ]


def _prompts(prompts: Mapping[str, str], default: str | None) -> str:
    """The prompts by name, and which of them is put before every query."""
    known = ", ".join(f"{name!r} ({text!r})" for name, text in prompts.items()) or "none"
    return known if default is None else f"{known}; the default is {default!r}"


def _contents(artifact: Artifact) -> Rows:
    """The graphs and engines, how they were made, and how well their scores agree."""
    manifest = artifact.manifest
    rows = []
    for graph in manifest.graphs:
        size = sum(manifest.files[name].size for name in graph.files) / 1e6
        providers = ", ".join(providers_of(graph)) or "no provider of this version"
        rows.append(("graph", f"{graph.precision}, {graph.dialect}, for {providers}: {size:,.0f} MB"))
    for precision, parity in manifest.parity.items():
        rows.append(("parity", f"{precision}: {parity.get('verdict')} (against {parity.get('against')})"))
    if not manifest.parity:
        rows.append(("parity", "not measured yet: modernrank verify ARTIFACT --against CHECKPOINT"))
    for precision, made in manifest.quantisation.items():
        rows.append(("quantisation", f"{precision}: {made.get('summary')}"))
    for graph in manifest.graphs:
        if graph.precision != EXACT:
            rows.append(("quality", f"{graph.precision}: {artifact.quality_of(graph.precision)}"))
    for engine in manifest.engines:
        rows.append(("engine", f"{engine.library} {engine.version}, {', '.join(map(str, engine.profiles))}"))
    return rows


def _machine(artifact: Artifact) -> Rows:
    """The machine and each provider: whether it can run here, or why not and what to do."""
    usable, automatic = usable_providers(artifact), usable_providers(artifact, "auto")
    rows = [("this machine", f"{available_threads()} threads"), *_int8(artifact), *_gpus()]
    is_best = True
    for name, provider in PROVIDERS.items():
        reason = provider.why_not()
        if reason:
            text = f"cannot run: {reason}"
        elif name not in usable:
            text = "can run on this machine, but the artifact has no graph or engine for it"
        elif name not in automatic:
            text = "available, but only with an explicit precision: none passed the quality gate"
        elif reason := why_no_engine_fits(artifact, provider):
            text = f"can run on this machine, but {reason}"
        elif is_best:
            text, is_best = f"available; provider 'auto' chooses it, in {auto_precision(artifact, name)}", False
        else:
            text = "available"
        rows.append((name, text))
    return rows


def _int8(artifact: Artifact) -> Rows:
    """The kernel that multiplies int8 here, and how to get a faster one."""
    rows = []
    for graph in artifact.manifest.graphs:
        if graph.precision == "int8":
            kernel = int8_kernel(graph.saturates)
            remedy = "" if kernel == FAST else ", slower, because its weights can saturate the fastest; export it again"
            rows.append(("int8 kernel", f"{kernel}{remedy}"))
    return rows


def _gpus() -> Rows:
    """Each GPU with its compute capability, which decides what can run on it."""
    installed = find_driver()
    if installed is None:
        return []
    known = [installed.compute_capability(number) or "unknown" for number in range(installed.gpus)]
    return [("GPU", f"{i}: {device_name(i)}, compute capability {capability}") for i, capability in enumerate(known)]


INFO = Command(
    "info",
    "Show what an artifact is and what this machine would run, or whether a checkpoint can be exported.",
    _add_options,
    _info,
    "cpu,export",
)
