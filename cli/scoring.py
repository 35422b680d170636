"""``modernrank score``, ``rank``, ``plan`` and ``classify``: pairs, documents or texts in, scores out."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import stat
import sys
import textwrap

from modernrank import InputError, RankedDocument, Reranker, Truncation
from modernrank.options import ActivationChoice, names_of
from modernrank.text import jsonl
from modernrank.text.checks import check_text

from .base import Command
from .options import (
    add_activation,
    add_artifact,
    add_json,
    add_long_documents,
    add_max_length,
    add_precision,
    add_running_options,
    add_truncation,
    positive_int,
    running_options,
)

BAR_WIDTH = 10  # characters


def _add_load_options(parser: argparse.ArgumentParser) -> None:
    add_artifact(parser)
    add_precision(parser)
    add_running_options(parser)
    add_max_length(parser)
    add_truncation(parser)


def _load(args: argparse.Namespace) -> Reranker:
    return Reranker.load(
        args.artifact,
        precision=args.precision,
        max_length=args.max_length,
        truncation=args.truncation,
        **running_options(args),
    )


def _add_input(parser: argparse.ArgumentParser, fields: str = '{"query", "document"}') -> None:
    parser.add_argument(
        "--input",
        default=jsonl.STANDARD,
        metavar="FILE",
        help=f"JSON lines {fields}; - for standard input (default: %(default)s)",
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", default=jsonl.STANDARD, metavar="PATH", help="JSON lines; - for standard output (default: %(default)s)"
    )
    parser.add_argument(
        "--window",
        type=positive_int,
        default=1024,
        help="number of lines read ahead and scored together (default: %(default)s)",
    )


def _check_output(args: argparse.Namespace) -> None:
    if _is_input(args.out, args.input):
        raise InputError(f"--out {args.out} is the input; give it another name", argument="out")


def _add_score_options(parser: argparse.ArgumentParser) -> None:
    _add_load_options(parser)
    add_activation(parser)
    _add_input(parser)
    _add_output(parser)


def _score(args: argparse.Namespace) -> int:
    _check_output(args)
    with _load(args) as reranker, jsonl.reading(args.input) as lines, jsonl.writing(args.out) as write:
        records = jsonl.PairReader(lines, args.input)
        cuts: dict[int, dict[str, int]] = {}

        def remember(cut: Truncation) -> None:
            cuts[cut.index] = {
                "query_tokens_cut": cut.query_tokens_cut,
                "document_tokens_cut": cut.document_tokens_cut,
            }

        scores = reranker.score_iter(records, activation=args.activation, window=args.window, on_truncate=remember)
        for index, score in enumerate(scores):
            write({**records.other_fields(index), "score": score.tolist(), **cuts.pop(index, {})})
    return 0


def _add_classify_options(parser: argparse.ArgumentParser) -> None:
    _add_load_options(parser)
    parser.add_argument(
        "--activation",
        choices=names_of(ActivationChoice),
        help="scale of the scores (default: as transformers' pipeline applies it)",
    )
    parser.add_argument(
        "--top-k",
        type=positive_int,
        default=1,
        metavar="K",
        help="number of labels of each text, the highest score first (default: %(default)s)",
    )
    _add_input(parser, '{"text"}')
    _add_output(parser)


def _classify(args: argparse.Namespace) -> int:
    _check_output(args)
    with _load(args) as reranker, jsonl.reading(args.input) as lines, jsonl.writing(args.out) as write:
        records = jsonl.TextReader(lines, args.input)
        cuts: dict[int, dict[str, int]] = {}

        def remember(cut: Truncation) -> None:
            cuts[cut.index] = {"tokens_cut": cut.document_tokens_cut}

        labelled = reranker.classify_iter(
            records, top_k=args.top_k, activation=args.activation, window=args.window, on_truncate=remember
        )
        for index, labels in enumerate(labelled):
            scores = [{"label": label.label, "score": label.score} for label in labels]
            write({**records.other_fields(index), "labels": scores, **cuts.pop(index, {})})
    return 0


def _is_input(out: str, source: str) -> bool:
    """Whether writing ``out`` would destroy the input, by whatever name or redirection it is read."""
    try:
        read = os.fstat(sys.stdin.fileno()) if source == jsonl.STANDARD else os.stat(source)
        written = os.fstat(sys.stdout.fileno()) if out == jsonl.STANDARD else os.stat(out)
    except (OSError, ValueError, AttributeError):  # one does not exist, or a stream is closed
        return False
    return stat.S_ISREG(read.st_mode) and os.path.samestat(read, written)


def _add_rank_options(parser: argparse.ArgumentParser) -> None:
    _add_load_options(parser)
    add_activation(parser)
    parser.add_argument("--query", required=True, help="text of the query")
    parser.add_argument(
        "--documents",
        required=True,
        metavar="FILE",
        help='one document per line, or .jsonl with {"document": ..}; - for standard input',
    )
    add_long_documents(parser)
    parser.add_argument(
        "--max-parts",
        type=positive_int,
        metavar="N",
        help="with --long-documents chunk: maximum number of parts of a document",
    )
    parser.add_argument("--top-k", type=positive_int, metavar="K", help="show the best K documents")
    add_json(parser, "one document per line")


def _rank(args: argparse.Namespace) -> int:
    query = check_text(_as_typed(args.query), "--query")
    with _load(args) as reranker, jsonl.reading(args.documents) as lines:
        ranking = reranker.rank(
            query,
            jsonl.read_documents(lines, args.documents),
            args.top_k,
            activation=args.activation,
            long_documents=args.long_documents,
            max_parts=args.max_parts,
        )
    if args.json:
        for place in ranking:
            cut = {"tokens_cut": place.tokens_cut} if place.tokens_cut else {}
            record = {"index": place.index, "score": place.score, "document": place.document, **cut}
            print(json.dumps(record, ensure_ascii=False))
    else:
        _print_ranking(ranking)
    return 0


def _as_typed(argument: str) -> str:
    """An argument in UTF-8, even if the locale made Python decode it as something else (``LC_ALL=C``)."""
    try:
        return os.fsencode(argument).decode("utf-8")
    except UnicodeError:
        return argument


def _print_ranking(ranking: list[RankedDocument]) -> None:
    """A table as wide as the terminal; the bars run from the lowest score shown to the highest."""
    print(f"{'rank':>4}  {'score':>8}  {'':{BAR_WIDTH}}  {'index':>5}  document")
    columns = shutil.get_terminal_size((100, 24)).columns
    room = max(20, columns - len(f"rank  12345678  {'':{BAR_WIDTH}}  index  "))
    low, high = ranking[-1].score, ranking[0].score
    for rank, place in enumerate(ranking, start=1):
        cut = f"  ({place.tokens_cut} tokens cut)" if place.tokens_cut else ""
        shown = textwrap.shorten(place.document, max(2, room - len(cut)), placeholder="…")
        filled = round(BAR_WIDTH * (place.score - low) / (high - low)) if high > low else BAR_WIDTH
        bar = "█" * filled + "·" * (BAR_WIDTH - filled)
        print(f"{rank:>4}  {place.score:>8.4f}  {bar}  {place.index:>5}  {shown}{cut}")


def _add_plan_options(parser: argparse.ArgumentParser) -> None:
    _add_load_options(parser)
    _add_input(parser)


def _plan(args: argparse.Namespace) -> int:
    with _load(args) as reranker, jsonl.reading(args.input) as lines:
        print(reranker.plan(jsonl.PairReader(lines, args.input)))
    return 0


SCORE = Command("score", 'Score JSON lines {"query", "document"}; other fields are kept.', _add_score_options, _score)
CLASSIFY = Command("classify", 'Label JSON lines {"text"}; other fields are kept.', _add_classify_options, _classify)
RANK = Command("rank", "Sort documents by their score for a query, best first.", _add_rank_options, _rank)
PLAN = Command("plan", "Show how pairs would be placed in batches. Nothing is scored.", _add_plan_options, _plan)
