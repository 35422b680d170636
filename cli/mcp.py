"""``modernrank mcp``: a tool server for assistants, over standard input and output."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

from .base import Command, note
from .options import (
    add_activation,
    add_artifact,
    add_max_length,
    add_precision,
    add_running_options,
    positive_int,
    running_options,
)


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_artifact(parser)
    parser.add_argument(
        "--files",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="let assistants rank the text files in this folder; repeat it for several (default: passages only)",
    )
    add_precision(parser)
    add_running_options(parser)
    add_max_length(parser)
    add_activation(parser)
    parser.set_defaults(activation="sigmoid")
    parser.add_argument(
        "--max-passages",
        type=positive_int,
        default=10_000,
        metavar="N",
        help="maximum number of passages of a call (default: %(default)s)",
    )
    parser.add_argument(
        "--max-parts",
        type=positive_int,
        default=256,
        metavar="N",
        help="maximum number of parts in which a long passage or file is scored (default: %(default)s)",
    )
    parser.add_argument(
        "--passage-tokens",
        type=positive_int,
        default=256,
        metavar="TOKENS",
        help="maximum number of tokens of the passage that is shown of a file (default: %(default)s)",
    )


def _run(args: argparse.Namespace) -> int:
    from modernrank import Reranker
    from modernrank.integrations.mcp import McpOptions, serve_stdio

    options = McpOptions(
        folders=tuple(args.files),
        activation=args.activation,
        max_passages=args.max_passages,
        max_parts=args.max_parts,
        passage_tokens=args.passage_tokens,
    )
    loaded = Reranker.load(args.artifact, precision=args.precision, max_length=args.max_length, **running_options(args))
    # The SDK reads standard input in a thread that nothing interrupts, so that Ctrl-C would wait for a further line.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with loaded as reranker:
        note(f"modernrank: {reranker.manifest.name} is ready for an MCP client on standard input")
        serve_stdio(reranker, options)
    return 0


MCP = Command("mcp", "Offer reranking to assistants as a tool server (MCP, over stdio).", _add_options, _run, "cpu,mcp")
