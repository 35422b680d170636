"""``modernrank info``: what an artifact is, and what this machine would run it on."""

from __future__ import annotations

import argparse

from modernrank.artifact.folder import Artifact
from modernrank.backends.onnxruntime.int8_kernel import int8_kernel
from modernrank.backends.open import auto_precision, usable_providers
from modernrank.backends.registry import PROVIDERS, providers_of
from modernrank.host import available_threads

Rows = list[tuple[str, str]]


def info(args: argparse.Namespace) -> int:
    """Print it, or with ``--json`` the manifest."""
    artifact = Artifact.open(args.artifact)
    manifest = artifact.manifest
    if args.json:
        print(manifest.to_json(), end="")
        return 0
    model, source = manifest.model, manifest.source
    origin = source.model_id or "a local folder"
    rows = [
        ("artifact", f"{manifest.name}, made {manifest.created} by modernrank {manifest.tools.get('modernrank')}"),
        ("source", f"{origin}{f' at {source.revision}' if source.revision else ''}, licence {manifest.license}"),
        ("model", f"{model.architecture}, {model.layers} layers of {model.hidden_size}, {model.pooling} pooling"),
        ("labels", ", ".join(model.labels)),
        ("longest pair", f"{min(model.max_length, manifest.tokenizer.max_length):,} tokens"),
    ]
    rows += _graphs(artifact)
    rows += _machine(artifact)
    for name, text in rows:
        print(f"{name:>13}  {text}")
    return 0


def _graphs(artifact: Artifact) -> Rows:
    """What was written, how it was made, and what is known of its scores."""
    manifest = artifact.manifest
    rows = []
    for graph in manifest.graphs:
        size = sum(manifest.files[name].size for name in (graph.file, graph.data) if name) / 1e6
        rows.append(
            ("graph", f"{graph.precision}, {graph.dialect}, for {', '.join(providers_of(graph))}: {size:,.0f} MB")
        )
    for precision, parity in manifest.parity.items():
        rows.append(("parity", f"{precision}: {parity.get('verdict')} (against {parity.get('against')})"))
    if not manifest.parity:
        rows.append(("parity", "not measured yet: modernrank verify ARTIFACT --against CHECKPOINT"))
    for precision, made in manifest.quantisation.items():
        rows.append(("quantisation", f"{precision}: {made.get('summary')}"))
    for graph in manifest.graphs:
        if graph.precision != "fp32":
            rows.append(("quality", f"{graph.precision}: {artifact.quality_of(graph.precision)}"))
    for engine in manifest.engines:
        rows.append(("engine", f"{engine.library} {engine.version}, {', '.join(map(str, engine.profiles))}"))
    return rows


def _machine(artifact: Artifact) -> Rows:
    """The machine and each provider: whether it can run here, or why not and what to do."""
    usable, automatic = usable_providers(artifact), usable_providers(artifact, "auto")
    rows = [("this machine", f"{available_threads()} threads, int8 kernel {int8_kernel()}")]
    best = True
    for name in PROVIDERS:
        reason = PROVIDERS[name].why_not()
        if reason:
            text = f"cannot run: {reason}"
        elif name not in usable:
            text = "can run here, but the artifact has no graph or engine for it"
        elif name not in automatic:
            text = "runs, in a precision that is named: none that it has passed its quality gate"
        elif best:
            text, best = f"runs, and is what provider 'auto' takes, in {auto_precision(artifact, name)}", False
        else:
            text = "runs"
        rows.append((name, text))
    return rows
