"""``modernrank export``, ``verify`` and ``build-engine``: make artifacts and verify them."""

from __future__ import annotations

import argparse
from pathlib import Path

from modernrank.backends.profiles import parse_profile
from modernrank.options import ProviderName, names_of

from .base import Command, fail, note
from .options import MEBIBYTE, add_artifact, add_exported_precisions, add_out, add_precision, positive_int

DIALECTS = (
    *("ort-cpu", "standard", "ort-cuda", "tensorrt", "tensorrt-half-sums", "tensorrt-decomposed"),
    *("padded", "reference"),
)
FRAMEWORKS = ("sentence-transformers",)


def _add_export_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint",
        nargs="?",
        help="a folder or a hub id (default: Alibaba-NLP/gte-reranker-modernbert-base at its pinned revision)",
    )
    add_out(parser, "the artifact's folder", required=True)
    add_exported_precisions(parser)
    parser.add_argument(
        "--evaluation",
        type=Path,
        metavar="FOLDER",
        help="for fp16 and int8: BEIR folder with candidates.run, to measure the loss (default: the checkpoint's own)",
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="FILE",
        help="for fp16 and int8: JSON lines of pairs like those to be scored (default: a small set that ships)",
    )
    parser.add_argument(
        "--graph",
        choices=DIALECTS,
        help="dialect of the graph (default: ort-cpu, or tensorrt for fp16); padded is for other "
        "runtimes, reference is optimum's export",
    )
    parser.add_argument(
        "--with",
        action="append",
        dest="frameworks",
        choices=FRAMEWORKS,
        help="add the files with which this framework loads the artifact as a model of its own",
    )
    parser.add_argument("--revision", help="commit, tag or branch of a hub id")
    parser.add_argument("--force", action="store_true", help="replace an existing artifact")


def _export(args: argparse.Namespace) -> int:
    from modernrank.export import DEFAULT_MODEL, export_checkpoint

    manifest = export_checkpoint(
        args.checkpoint or DEFAULT_MODEL,
        args.out,
        graph=args.graph,
        precision=args.precision or "fp32",
        revision=args.revision,
        calibration=args.calibration,
        evaluation=args.evaluation,
        frameworks=args.frameworks or (),
        force=args.force,
        report=note,
    )
    megabytes = sum(record.size for record in manifest.files.values()) / 1e6
    written = [graph.precision for graph in manifest.graphs]
    precision = "" if {*written} & {*manifest.auto_precisions()} else f" --precision {written[0]}"
    note(f"wrote {args.out} ({megabytes:,.0f} MB); next:")
    if len(manifest.model.labels) == 1:
        note(f"modernrank rank {args.out}{precision} --query QUERY --documents FILE")
    else:  # several labels give no order
        note(f"modernrank score {args.out}{precision} --input PAIRS --out SCORES")
    return 0


def _add_verify_options(parser: argparse.ArgumentParser) -> None:
    add_artifact(parser)
    parser.add_argument(
        "--against", required=True, metavar="CHECKPOINT", help="the checkpoint from which the artifact was exported"
    )
    parser.add_argument(
        "--longest", type=positive_int, default=8192, metavar="TOKENS", help="skip longer pairs (default: %(default)s)"
    )
    add_precision(parser)
    parser.add_argument(
        "--provider",
        default="cpu",
        choices=names_of(ProviderName),
        help="provider that runs the artifact (default: %(default)s, which emulates fp16)",
    )
    parser.add_argument(
        "--transformers-device",
        default="cpu",
        help="torch's name of the device on which transformers runs, such as cuda (default: %(default)s)",
    )
    parser.add_argument(
        "--pairs", type=Path, metavar="FILE", help="for fp16 and int8: JSON lines of pairs on which to measure fidelity"
    )


def _verify(args: argparse.Namespace) -> int:
    from modernrank.export.verification.verify import record_parity, verify_artifact

    parity = verify_artifact(
        args.artifact,
        args.against,
        longest=args.longest,
        precision=args.precision,
        provider=args.provider,
        transformers_device=args.transformers_device,
        pairs_file=args.pairs,
        record=False,
        report=note,
    )
    print(parity.table())  # before it is recorded, which fails in a read-only folder
    record_parity(args.artifact, parity)
    if not parity.passed:
        return fail(f"{args.artifact} does not agree with {args.against}: {parity.verdict()}")
    return 0


def _add_build_engine_options(parser: argparse.ArgumentParser) -> None:
    add_artifact(parser)
    parser.add_argument(
        "--profile",
        action="append",
        metavar="NAME=ROWSxTOKENS",
        help="shapes to support, as NAME=MINIMUM:OPTIMUM:MAXIMUM or the maximum alone; repeat it for several "
        "(default: short and long)",
    )
    parser.add_argument(
        "--library",
        default="auto",
        choices=("auto", "tensorrt", "tensorrt-rtx"),
        help="library that builds the engine (default: %(default)s)",
    )
    add_precision(parser)
    parser.add_argument("--workspace", type=positive_int, metavar="MIB", help="maximum scratch memory of a kernel")
    parser.add_argument(
        "--version-compatible", action="store_true", help="make the engine run on later versions of TensorRT too"
    )
    parser.add_argument(
        "--hardware-compatible",
        action="store_true",
        help="make the engine run on other GPUs of compute capability 8.0 or higher too",
    )
    parser.add_argument(
        "--allow-tf32",
        action="store_true",
        help="let products of float32 round their inputs to 10 bits: faster, but scores differ from transformers",
    )
    parser.add_argument("--device", type=int, default=0, metavar="N", help="number of the GPU (default: %(default)s)")


def _build_engine(args: argparse.Namespace) -> int:
    from modernrank.export.tensorrt import build_engine

    manifest = build_engine(
        args.artifact,
        library=args.library,
        precision=args.precision,
        profiles=[parse_profile(text) for text in args.profile] if args.profile else None,
        workspace=args.workspace * MEBIBYTE if args.workspace else None,
        version_compatible=args.version_compatible,
        hardware_compatible=args.hardware_compatible,
        allow_tf32=args.allow_tf32,
        device=args.device,
        report=note,
    )
    engine = manifest.engines[-1]
    size = manifest.files[engine.file].size / 1e6
    note(f"wrote {args.artifact / engine.file} ({size:,.0f} MB) for {', '.join(map(str, engine.profiles))}")
    return 0


EXPORT = Command("export", "Write the artifact of a checkpoint.", _add_export_options, _export, "cpu,export")
VERIFY = Command(
    "verify",
    "Compare an artifact with transformers, and record the result.",
    _add_verify_options,
    _verify,
    "cpu,export,verify",
)
BUILD_ENGINE = Command(
    "build-engine",
    "Build a TensorRT engine of an artifact for this machine.",
    _add_build_engine_options,
    _build_engine,
    "export,tensorrt",
)
