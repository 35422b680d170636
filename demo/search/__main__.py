"""Search in two stages over the descriptions of software that ship with modernrank.

    python -m demo.search artifacts/demo find "play music in a terminal"
    python -m demo.search artifacts/demo measure
    python -m demo.search artifacts/demo serve

``find`` shows the first results of bm25 alone and of both stages. ``measure`` compares both on the judged queries.
``serve`` shows both in a browser. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
import time
from pathlib import Path

from modernrank import ModernRankError, Reranker
from modernrank.cli.options import positive_int
from modernrank.evaluation.compare import compare_rankings
from modernrank.evaluation.formats import EvaluationSet, read_folder
from modernrank.evaluation.report import table

from .text_index import TextIndex
from .two_stages import CANDIDATES, Found, TwoStages, rankings
from .web_page import serve

EVALUATION = Path(__file__).parents[1] / "model" / "evaluation"


def main() -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m demo.search", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("artifact", type=Path, help="folder that `modernrank export` wrote")
    parser.add_argument(
        "--beir", type=Path, default=EVALUATION, help="corpus, queries and judgements (those that ship)"
    )
    parser.add_argument(
        "--candidates",
        type=positive_int,
        default=CANDIDATES,
        help="documents that bm25 hands to the reranker (%(default)s)",
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    find = verbs.add_parser("find", help="search for one query")
    find.add_argument("query")
    find.add_argument("--top-k", type=positive_int, default=5, help="number of results (%(default)s)")
    verbs.add_parser("measure", help="nDCG@10, MRR@10 and MAP of both rankings")
    page = verbs.add_parser("serve", help="a page that shows both rankings")
    page.add_argument("--port", type=int, default=8090, help="port on 127.0.0.1; 0 for any free one (%(default)s)")
    args = parser.parse_args()
    try:
        data = read_folder(args.beir)
        with Reranker.load(args.artifact) as reranker:
            stages = TwoStages(TextIndex(data.documents.items()), reranker, args.candidates)
            if args.verb == "find":
                print_both(stages.find(args.query), args.top_k)
            elif args.verb == "measure":
                measure(stages, data)
            else:
                serve(stages, args.port)
    except ModernRankError as error:
        print(f"demo.search: {error}", file=sys.stderr)
        return 1
    return 0


def print_both(found: Found, top_k: int) -> None:
    """The best results of bm25 alone, and those of both stages with their ranks before."""
    by_words = sorted(found.results, key=lambda result: result.rank_before)
    room = max(40, shutil.get_terminal_size((100, 24)).columns) - 32
    print("bm25 alone")
    for result in by_words[:top_k]:
        text = textwrap.shorten(result.hit.text, room, placeholder="…")
        print(f"{result.rank_before:>3}        {result.hit.bm25:6.2f}  {result.hit.name[:18]:18}  {text}")
    print("then reranked (logit; rank before)")
    for rank, result in enumerate(found.results[:top_k], start=1):
        text = textwrap.shorten(result.hit.text, room, placeholder="…")
        print(f"{rank:>3} ({result.rank_before:>3})  {result.logit:6.2f}  {result.hit.name[:18]:18}  {text}")
    first, second = (f"{seconds * 1000:.1f} ms" for seconds in found.seconds)
    print(f"{len(found.results)} candidates; bm25 {first}, reranking {second}")


def measure(stages: TwoStages, data: EvaluationSet) -> None:
    """Print the figures of both rankings; progress goes to standard error."""
    start = time.perf_counter()

    def progress(done: int) -> None:
        print(f"\r{done} of {len(data.judged)} queries", end="", file=sys.stderr, flush=True)

    orders = rankings(stages, data, progress)
    print(file=sys.stderr)
    print(f"{len(stages.index):,} documents, at most {stages.candidates} candidates of bm25 for each query")
    print(table(data, compare_rankings(data, orders)))
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
