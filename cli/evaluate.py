"""``modernrank eval``: artifacts side by side on queries with judgements."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    from modernrank.evaluation.compare import Row
    from modernrank.evaluation.formats import EvaluationSet


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``modernrank eval``."""
    parser.add_argument(
        "artifact", type=Path, nargs="+", help="a folder that `modernrank export` wrote; several are compared"
    )
    parser.add_argument(
        "--beir",
        type=Path,
        action="append",
        metavar="FOLDER",
        help="queries, corpus, judgements and candidates in one folder; may be given several times",
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
    from modernrank.evaluation.report import as_json, mean_as_json, mean_table, table

    check_out(args.out)
    sets = _read(args)
    compared: dict[str, list[Row]] = {}
    for name, data in sets.items():
        if not args.json:
            for line in ([name] if len(sets) > 1 else []) + [f"note: {note}" for note in data.notes]:
                print(line)
        compared[name] = _compare(args, data, name if len(sets) > 1 else None)
        if not args.json:
            print(table(data, compared[name]))
    figures: dict[str, Any] = {name: as_json(data, compared[name]) for name, data in sets.items()}
    if len(sets) == 1:
        (figures,) = figures.values()
    else:
        figures = {"sets": figures, "mean": mean_as_json(compared)}
        if not args.json:
            print(mean_table(compared))
    text = json.dumps(figures, indent=1, allow_nan=False)
    if args.json:
        print(text)
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")
    return 0


def _compare(args: argparse.Namespace, data: EvaluationSet, name: str | None) -> list[Row]:
    """The rows of one evaluation set. Of several, each has a folder of runs of its own."""
    from modernrank.evaluation.compare import compare_artifacts

    return compare_artifacts(
        data,
        args.artifact,
        precisions=args.precision or ["auto"],
        long_documents=args.long_documents,
        runs=args.runs / name if args.runs and name else args.runs,
        show_progress=True,
        max_length=args.max_length,
        **running_options(args),
    )


def _read(args: argparse.Namespace) -> dict[str, EvaluationSet]:
    """Each evaluation set by name. All are read before anything is scored, so that none fails after hours."""
    from modernrank.evaluation.formats import read_files, read_folder

    if args.beir:
        _check_folders(args)
        return {folder.resolve().name: read_folder(folder, args.candidates) for folder in args.beir}
    missing = [f"--{name}" for name in ("queries", "candidates", "qrels") if getattr(args, name) is None]
    if missing:
        raise InputError(
            f"eval also requires {', '.join(missing)}; give queries, candidates and qrels, or one folder with --beir",
            argument=missing[0],
        )
    return {args.queries.name: read_files(args.queries, args.candidates, args.qrels, args.corpus)}


def _check_folders(args: argparse.Namespace) -> None:
    """The folders of ``--beir``, and what may stand beside them."""
    excess = [f"--{name}" for name in ("queries", "qrels", "corpus") if getattr(args, name) is not None]
    if excess:
        raise InputError(
            f"--beir cannot be combined with {', '.join(excess)}, which its folder holds; remove one or the other",
            argument="--beir",
        )
    if len(args.beir) > 1 and args.candidates is not None:
        raise InputError(
            f"--candidates gives the candidates of one folder, and --beir gives {len(args.beir)}; put a candidates.run "
            "into each folder instead",
            argument="--candidates",
        )
    names = [folder.resolve().name for folder in args.beir]
    for name in names:
        if names.count(name) > 1:
            raise InputError(
                f"two folders of --beir have the name {name!r}; give each once, and rename one of two different ones",
                argument="--beir",
                value=name,
            )


EVAL = Command(
    "eval", "Measure rankings on queries with judgements: nDCG@10, MRR@10, MAP.", add_options, run, "cpu,eval"
)
