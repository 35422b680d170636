"""``modernrank eval``: artifacts side by side on queries with judgements."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modernrank.backends.registry import PROVIDERS
from modernrank.errors import InputError
from modernrank.options import PRECISIONS, LongDocuments, names_of
from modernrank.reranker import Reranker

if TYPE_CHECKING:  # the command line reads this file on every start
    from modernrank.evaluation.formats import EvaluationSet
    from modernrank.evaluation.trec_run import Ranking

FOUND = "as found"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``modernrank eval``."""
    parser.add_argument("artifact", type=Path, nargs="+", help="side by side, if several")
    parser.add_argument(
        "--beir", type=Path, metavar="FOLDER", help="queries, corpus, qrels and candidates in one folder"
    )
    parser.add_argument("--queries", type=Path, metavar="FILE", help='JSON lines {"_id", "text"}, or ID <tab> TEXT')
    parser.add_argument(
        "--candidates",
        type=Path,
        metavar="FILE",
        help='a TREC run, or JSON lines {"query_id", "document_id", "document"}',
    )
    parser.add_argument("--qrels", type=Path, metavar="FILE", help="judgements of TREC, or .tsv of BEIR")
    parser.add_argument("--corpus", type=Path, metavar="FILE", help='JSON lines {"_id", "title", "text"}')
    parser.add_argument("--runs", type=Path, metavar="FOLDER", help="keep TREC runs here, and go on with those begun")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    parser.add_argument(
        "--precision", action="append", choices=("auto", *PRECISIONS), help="may be repeated, side by side (auto)"
    )
    parser.add_argument("--provider", default="auto", choices=("auto", *PROVIDERS), help="(%(default)s)")
    parser.add_argument("--max-length", type=int, metavar="TOKENS", help="longest pair (all that the model allows)")
    parser.add_argument("--long-documents", default="truncate", choices=names_of(LongDocuments), help="(%(default)s)")


def run(args: argparse.Namespace) -> int:
    """Score, compare, print."""
    from modernrank.evaluation.metrics import by_query
    from modernrank.evaluation.report import as_json, rows, table

    data = _read(args)
    for note in data.notes:
        print(f"note: {note}")
    contenders = [(artifact, precision) for artifact in args.artifact for precision in args.precision or ["auto"]]
    names = [FOUND, *(_name(args, *contender) for contender in contenders)]  # before any work
    for name in names:
        if names.count(name) > 1:
            raise InputError(
                f"two contenders are called {name!r}; give each artifact and precision once, and folders "
                "different names"
            )
    rankings: dict[str, dict[str, list[str]]] = {FOUND: data.candidates}
    for name, contender in zip(names[1:], contenders, strict=True):
        found = _score(args, *contender, data)
        rankings[name] = {query: [document for document, _ in scored] for query, scored in found.items()}
    measured = rows({name: by_query(data, ranking) for name, ranking in rankings.items()})
    print(table(measured, len(data.judged)))
    if args.json:
        figures = {
            "queries": len(data.judged),
            "sha256": data.sha256,
            "notes": data.notes,
            "results": as_json(measured),
        }
        args.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


def _read(args: argparse.Namespace) -> EvaluationSet:
    from modernrank.evaluation.formats import read_files, read_folder

    if args.beir:
        if args.queries or args.qrels or args.corpus:
            raise InputError("--beir brings queries, corpus and qrels; of the other files it takes --candidates only")
        return read_folder(args.beir, args.candidates)
    missing = [f"--{name}" for name in ("queries", "candidates", "qrels") if getattr(args, name) is None]
    if missing:
        raise InputError(f"{', '.join(missing)} missing; give queries, candidates and qrels, or a folder with --beir")
    return read_files(args.queries, args.candidates, args.qrels, args.corpus)


def _load(args: argparse.Namespace, folder: Path, precision: Any) -> Reranker:
    return Reranker.load(folder, provider=args.provider, precision=precision, max_length=args.max_length)


def _name(args: argparse.Namespace, folder: Path, precision: str) -> str:
    with _load(args, folder, precision) as reranker:
        return _named(reranker)


def _named(reranker: Reranker) -> str:
    return f"{reranker.manifest.name} {reranker.info.precision}"


def _score(args: argparse.Namespace, folder: Path, precision: str, data: EvaluationSet) -> dict[str, Ranking]:
    """The contender's rankings."""
    from tqdm import tqdm

    from modernrank.evaluation.rank_candidates import rerank
    from modernrank.evaluation.trec_run import RunFile

    with _load(args, folder, precision) as reranker:
        name, keep = _named(reranker), None
        if args.runs:
            file = args.runs / f"{name.replace(' ', '-')}.run"
            keep = RunFile(file, _made_of(reranker, data, args.long_documents))
        total = sum(len(names) for query, names in data.candidates.items() if query in data.qrels)
        with tqdm(total=total, unit=" pairs", desc=name) as bar:
            return rerank(data, reranker, keep, args.long_documents, bar.update)


def _made_of(reranker: Reranker, data: EvaluationSet, long_documents: str) -> dict[str, Any]:
    """What scores depend on."""
    info = reranker.info
    return {
        "evaluation": data.sha256,
        "artifact": {name: record.sha256 for name, record in reranker.manifest.files.items()},
        "precision": info.precision,
        "provider": info.provider,
        "runtime": info.runtime,
        "max_length": reranker.max_length,
        "long_documents": long_documents,
    }
