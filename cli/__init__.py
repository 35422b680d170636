"""The command line: ``modernrank export | verify | tensorrt | info | score | rank | plan | eval | bench``.

Exit codes: 0; 1 for a refused input or a failed verification, with one line on standard error; 2 for usage.

This module joins the packages: it alone in ``engine/`` imports ``modernrank.export`` and ``modernrank.benchmarks``,
inside the commands that need them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from modernrank import __version__
from modernrank.backends.profiles import parse_profile
from modernrank.backends.registry import PROVIDERS
from modernrank.errors import InputError, ModernRankError
from modernrank.options import PRECISIONS, ActivationChoice, LongDocuments, TruncationChoice, names_of
from modernrank.reranker import RankedDocument, Reranker
from modernrank.text import jsonl
from modernrank.text.checks import check_text

from .evaluate import add_options as add_eval_options
from .evaluate import run as evaluate
from .info import info

BAR = 10  # characters of a score's bar
# Modules that a command may lack, and the extra that brings them.
EXTRAS = {
    "onnx": "export",
    "safetensors": "export",
    "ml_dtypes": "export",
    "huggingface_hub": "export",
    "torch": "verify",
    "scipy": "eval",
    "matplotlib": "bench",
    "transformers": "verify",
    "ir_measures": "eval",
    "optimum": "reference",
    "onnxruntime": "cpu",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    args = _parser().parse_args(arguments)
    try:
        sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]  # JSON lines are, in every locale
        code = int(args.run(args))
        sys.stdout.flush()  # here, where a closed pipe is still ours to handle
        return code
    except ModernRankError as error:
        return _fail(str(error))
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        return _fail(
            f"`modernrank {args.command}` needs {error.name}, which is not installed: pip install 'modernrank[{extra}]'"
        )
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:  # the reader of our output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13  # SIGPIPE, which Windows has no name for
    except OSError as error:
        return _fail(f"{error.filename or 'input or output'}: {error.strerror}")


def _fail(message: str) -> int:
    print(f"modernrank: {' '.join(message.split())}", file=sys.stderr)
    return 1


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
        force=args.force,
        report=_note,
    )
    megabytes = sum(record.size for record in manifest.files.values()) / 1e6
    written = [graph.precision for graph in manifest.graphs]
    named = "" if {*written} & {*manifest.auto_precisions()} else f" --precision {written[0]}"
    _note(f"wrote {args.out} ({megabytes:,.0f} MB); next:")
    _note(f"modernrank rank {args.out}{named} --query QUERY --documents FILE")
    return 0


def _verify(args: argparse.Namespace) -> int:
    from modernrank.export.verification.verify import verify_artifact

    result = verify_artifact(
        args.artifact,
        args.against,
        longest=args.longest,
        precision=args.precision,
        provider=args.provider,
        pairs_file=args.pairs,
        report=_note,
    )
    print(result.table())
    return 0 if result.passed else _fail(f"{args.artifact} does not agree with {args.against}: {result.verdict()}")


def _tensorrt(args: argparse.Namespace) -> int:
    from modernrank.export.tensorrt import build_engine

    manifest = build_engine(
        args.artifact,
        library=args.library,
        precision=args.precision,
        profiles=[parse_profile(text) for text in args.profile] if args.profile else None,
        workspace=args.workspace * 2**20 if args.workspace else None,
        version_compatible=args.version_compatible,
        hardware_compatible=args.hardware_compatible,
        device=args.device,
        report=_note,
    )
    engine = manifest.engines[-1]
    size = manifest.files[engine.file].size / 1e6
    _note(f"wrote {args.artifact / engine.file} ({size:,.0f} MB) for {', '.join(map(str, engine.profiles))}")
    return 0


def _score(args: argparse.Namespace) -> int:
    if args.output != jsonl.STANDARD and os.path.realpath(args.output) == os.path.realpath(args.input):
        raise InputError(f"--output {args.output} is the input; give it another name")
    with _load(args) as reranker, jsonl.reading(args.input) as lines, jsonl.writing(args.output) as write:
        records = jsonl.PairReader(lines, args.input)
        cuts: dict[int, dict[str, int]] = {}
        scores = reranker.score_iter(
            records,
            activation=args.activation,
            window=args.window,
            on_truncate=lambda t: cuts.update(
                {t.index: {"query_tokens_cut": t.query_tokens_cut, "document_tokens_cut": t.document_tokens_cut}}
            ),
        )
        for index, score in enumerate(scores):
            write({**records.other_fields(index), "score": score.tolist(), **cuts.pop(index, {})})
    return 0


def _rank(args: argparse.Namespace) -> int:
    check_text(args.query, "--query")
    with _load(args) as reranker, jsonl.reading(args.documents) as lines:
        documents = jsonl.read_documents(lines, args.documents)
        ranking = reranker.rank(
            args.query, documents, args.top_k, activation=args.activation, long_documents=args.long_documents
        )
    if args.json:
        for place in ranking:
            cut = {"tokens_cut": place.tokens_cut} if place.tokens_cut else {}
            print(
                json.dumps(
                    {"index": place.index, "score": place.score, "document": place.document, **cut}, ensure_ascii=False
                )
            )
    else:
        _print_ranking(ranking)
    return 0


def _plan(args: argparse.Namespace) -> int:
    with _load(args) as reranker, jsonl.reading(args.input) as lines:
        print(reranker.plan(jsonl.PairReader(lines, args.input)))
    return 0


def _print_ranking(ranking: list[RankedDocument]) -> None:
    """A table as wide as the terminal; the bars run from the lowest score that is shown to the highest."""
    print(f"{'rank':>4}  {'score':>8}  {'':{BAR}}  {'index':>5}  document")
    room = max(20, shutil.get_terminal_size((100, 24)).columns - len(f"rank  12345678  {'':{BAR}}  index  "))
    low, high = ranking[-1].score, ranking[0].score
    for rank, place in enumerate(ranking, start=1):
        note = f"  ({place.tokens_cut} tokens cut)" if place.tokens_cut else ""
        shown = textwrap.shorten(place.document, room - len(note), placeholder="…")
        filled = round(BAR * (place.score - low) / (high - low)) if high > low else BAR
        bar = "█" * filled + "·" * (BAR - filled)
        print(f"{rank:>4}  {place.score:>8.4f}  {bar}  {place.index:>5}  {shown}{note}")


def _load(args: argparse.Namespace) -> Reranker:
    return Reranker.load(
        args.artifact,
        provider=args.provider,
        precision=args.precision,
        threads=args.threads,
        workers=args.workers,
        max_length=args.max_length,
        truncation=args.truncation,
    )


def _note(message: str) -> None:
    print(message, file=sys.stderr)


class _Parser(argparse.ArgumentParser):
    """Answers a wrong usage with one line and the way to the help, not with the whole usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    from .bench import add_options as add_bench_options  # light: it imports what it runs

    parser = _Parser(prog="modernrank", description="Score (query, document) pairs with ModernBERT rerankers.")
    parser.add_argument("--version", action="version", version=f"modernrank {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, run, add_options, text in (
        ("export", _export, _add_export_options, "Write the artifact of a checkpoint."),
        ("verify", _verify, _add_verify_options, "Compare an artifact with transformers, and record the result."),
        ("tensorrt", _tensorrt, _add_tensorrt_options, "Build a TensorRT engine of an artifact for this machine."),
        ("info", info, _add_info_options, "Show what an artifact is and what this machine would run it on."),
        ("score", _score, _add_score_options, 'Score JSON lines {"query", "document"}; other fields come through.'),
        ("rank", _rank, _add_rank_options, "Sort documents by their score for a query, best first."),
        ("plan", _plan, _add_plan_options, "Show how pairs would be placed in runs, and what runs side by side."),
        ("eval", evaluate, add_eval_options, "Measure rankings on queries with judgements: nDCG@10, MRR@10, MAP."),
        ("bench", None, add_bench_options, "Measure artifacts, alone or beside others, and show results."),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        add_options(command)
    return parser


def _add_export_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint",
        nargs="?",
        help="a folder or a hub id (Alibaba-NLP/gte-reranker-modernbert-base at its pinned revision)",
    )
    parser.add_argument("--out", type=Path, required=True, help="the artifact's folder")
    parser.add_argument("--precision", action="append", choices=PRECISIONS, help="may be repeated (fp32)")
    parser.add_argument(
        "--evaluation",
        type=Path,
        metavar="FOLDER",
        help="for fp16 and int8: BEIR's layout with candidates.run, to measure what they lose (the checkpoint's own)",
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="FILE",
        help="for fp16 and int8: JSON lines of pairs like those to be scored (a small set that ships)",
    )
    parser.add_argument(
        "--graph",
        choices=("ort-cpu", "standard", "ort-cuda", "tensorrt", "tensorrt-decomposed", "reference"),
        help="for whom the graph is written (ort-cpu, or tensorrt for fp16); reference is as optimum exports it",
    )
    parser.add_argument("--revision", help="of a hub id: a commit, tag or branch")
    parser.add_argument("--force", action="store_true", help="replace an artifact that is there")


def _add_verify_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--against", required=True, metavar="CHECKPOINT", help="the checkpoint that it was made from")
    parser.add_argument(
        "--longest", type=_positive, default=8192, metavar="TOKENS", help="leave out longer pairs (%(default)s)"
    )
    parser.add_argument("--precision", default="auto", choices=("auto", *PRECISIONS), help="(%(default)s)")
    parser.add_argument(
        "--provider", default="cpu", choices=tuple(PROVIDERS), help="what runs it (%(default)s, which emulates fp16)"
    )
    parser.add_argument(
        "--pairs", type=Path, metavar="FILE", help="for fp16 and int8: JSON lines to measure the fidelity on"
    )


def _add_tensorrt_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("artifact", type=Path)
    parser.add_argument(
        "--profile",
        action="append",
        metavar="NAME=ROWSxTOKENS",
        help="shapes to be ready for, as NAME=LEAST:BEST:MOST or the most alone; may be repeated (short and long)",
    )
    parser.add_argument("--library", default="auto", choices=("auto", "tensorrt", "tensorrt-rtx"), help="(%(default)s)")
    parser.add_argument("--precision", default="auto", choices=("auto", *PRECISIONS), help="(%(default)s)")
    parser.add_argument("--workspace", type=_positive, metavar="MIB", help="most scratch memory of a kernel")
    parser.add_argument("--version-compatible", action="store_true", help="for later versions of TensorRT too")
    parser.add_argument("--hardware-compatible", action="store_true", help="for GPUs from compute capability 8.0 on")
    parser.add_argument("--device", type=int, default=0, help="number of the GPU (%(default)s)")


def _add_info_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--json", action="store_true", help="print the manifest")


def _add_score_options(parser: argparse.ArgumentParser) -> None:
    _add_load_options(parser)
    parser.add_argument("--input", default="-", help="a file, or - for standard input (%(default)s)")
    parser.add_argument("--output", default="-", help="a file, or - for standard output (%(default)s)")
    parser.add_argument(
        "--window", type=_positive, default=1024, help="pairs read ahead and scored together (%(default)s)"
    )


def _add_plan_options(parser: argparse.ArgumentParser) -> None:
    _add_load_options(parser)
    parser.add_argument("--input", default="-", help="a file, or - for standard input (%(default)s)")


def _add_rank_options(parser: argparse.ArgumentParser) -> None:
    _add_load_options(parser)
    parser.add_argument("--query", required=True)
    parser.add_argument(
        "--documents",
        required=True,
        metavar="FILE",
        help='one a line, or .jsonl with {"document": ..}; - for standard input',
    )
    parser.add_argument(
        "--long-documents",
        default="truncate",
        choices=names_of(LongDocuments),
        help="cut what exceeds --max-length, or score it in overlapping parts and take the best (%(default)s)",
    )
    parser.add_argument("--top-k", type=_positive, metavar="K", help="show the best K")
    parser.add_argument("--json", action="store_true", help="print JSON lines")


def _add_load_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--provider", default="auto", choices=("auto", *PROVIDERS), help="(%(default)s)")
    parser.add_argument("--precision", default="auto", choices=("auto", *PRECISIONS), help="(%(default)s)")
    parser.add_argument("--threads", type=_positive, help="threads in all (the cores that are granted)")
    parser.add_argument("--workers", type=_positive, help="batches side by side on these threads (as many as threads)")
    parser.add_argument(
        "--max-length", type=_positive, metavar="TOKENS", help="longest pair (all that the model allows)"
    )
    parser.add_argument(
        "--truncation", default="longest_first", choices=names_of(TruncationChoice), help="(%(default)s)"
    )
    parser.add_argument("--activation", default="logit", choices=names_of(ActivationChoice), help="(%(default)s)")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return value
