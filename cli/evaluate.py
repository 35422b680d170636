"""``modernrank eval``: artifacts side by side on queries with judgements."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from modernrank.errors import InputError

from .base import Command
from .options import (
    add_json,
    add_long_documents,
    add_max_length,
    add_out,
    add_precision,
    add_running_options,
    check_out,
    running_options,
)

if TYPE_CHECKING:  # the command line reads this file on every start
    from modernrank.evaluation.formats import EvaluationSet


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``modernrank eval``."""
    parser.add_argument(
        "artifact", type=Path, nargs="+", help="a folder that `modernrank export` wrote; several are compared"
    )
    parser.add_argument(
        "--beir", type=Path, metavar="FOLDER", help="queries, corpus, judgements and candidates in one folder"
    )
    parser.add_argument("--queries", type=Path, metavar="FILE", help='JSON lines {"_id", "text"}, or ID <tab> TEXT')
    parser.add_argument(
        "--candidates",
        type=Path,
        metavar="FILE",
        help='candidates of a first stage: a TREC run, or JSON lines {"query_id", "document_id", "document"}',
    )
    parser.add_argument(
        "--qrels", type=Path, metavar="FILE", help="judgements in TREC's format, or in BEIR's with the ending .tsv"
    )
    parser.add_argument("--corpus", type=Path, metavar="FILE", help='JSON lines {"_id", "title", "text"}')
    parser.add_argument(
        "--runs", type=Path, metavar="FOLDER", help="write the rankings here as TREC runs, and resume from them"
    )
    add_precision(parser, several=True)
    add_running_options(parser)
    add_max_length(parser)
    add_long_documents(parser)
    add_json(parser, "the figures")
    add_out(parser, "write the figures as JSON to this file")


def run(args: argparse.Namespace) -> int:
    """Compare, and print the table or the JSON."""
    from modernrank.evaluation.compare import compare_artifacts
    from modernrank.evaluation.report import as_json, table

    check_out(args.out)
    data = _read(args)
    if not args.json:
        for note in data.notes:
            print(f"note: {note}")
    rows = compare_artifacts(
        data,
        args.artifact,
        precisions=args.precision or ["auto"],
        long_documents=args.long_documents,
        runs=args.runs,
        show_progress=True,
        max_length=args.max_length,
        **running_options(args),
    )
    figures = json.dumps(as_json(data, rows), indent=1, allow_nan=False)
    print(figures if args.json else table(data, rows))
    if args.out:
        args.out.write_text(figures + "\n", encoding="utf-8")
    return 0


def _read(args: argparse.Namespace) -> EvaluationSet:
    from modernrank.evaluation.formats import read_files, read_folder

    if args.beir:
        excess = [f"--{name}" for name in ("queries", "qrels", "corpus") if getattr(args, name) is not None]
        if excess:
            raise InputError(
                f"--beir cannot be combined with {', '.join(excess)}, which its folder holds; remove one or the other",
                argument="--beir",
            )
        return read_folder(args.beir, args.candidates)
    missing = [f"--{name}" for name in ("queries", "candidates", "qrels") if getattr(args, name) is None]
    if missing:
        raise InputError(
            f"eval also requires {', '.join(missing)}; give queries, candidates and qrels, or one folder with --beir",
            argument=missing[0],
        )
    return read_files(args.queries, args.candidates, args.qrels, args.corpus)


EVAL = Command(
    "eval", "Measure rankings on queries with judgements: nDCG@10, MRR@10, MAP.", add_options, run, "cpu,eval"
)
