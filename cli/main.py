"""The command line: ``modernrank export | verify | build-engine | info | score | rank | plan | classify | serve |
mcp | eval | bench``.

Exit codes: 0; 1 for a refused input or a failed verification, with one line on standard error; 2 for wrong usage; 130
for Ctrl-C and 141 for a closed pipe.

This package joins all others. A command is one entry of COMMANDS; it imports what it needs when it runs.
"""

from __future__ import annotations

import argparse
import errno
import io
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from modernrank import ModernRankError, __version__

from . import artifacts, bench, evaluate, info, mcp, scoring, serve
from .base import Command, fail

COMMANDS = (
    artifacts.EXPORT,
    artifacts.VERIFY,
    artifacts.BUILD_ENGINE,
    info.INFO,
    scoring.SCORE,
    scoring.RANK,
    scoring.PLAN,
    scoring.CLASSIFY,
    serve.SERVE,
    mcp.MCP,
    evaluate.EVAL,
    bench.BENCH,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code.

    Args:
        arguments: what follows ``modernrank``; by default those of the process.
    """
    args = _parser().parse_args(arguments)
    command: Command = args.command
    _log_to_standard_error(args.verbose)
    try:
        _prepare_standard_output()
        code = command.run(args)
        sys.stdout.flush()  # flush here, where a closed pipe is still handled
        return code
    except ModernRankError as error:
        return fail(str(error))
    except ModuleNotFoundError as error:
        if (error.name or "modernrank").partition(".")[0] == "modernrank":
            raise
        return fail(
            f"`modernrank {command.name}` requires {error.name}, which is not installed: "
            f"pip install 'modernrank[{command.extra}]'"
        )
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:  # the reader of our output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13  # SIGPIPE, for which Windows has no name
    except OSError as error:
        return fail(f"{error.filename or 'input or output'}: {error.strerror}")


class _ClosedOutput(io.TextIOBase):
    """Replaces a standard output that was closed before Python started. Writing to it is an error."""

    def write(self, text: str) -> int:
        raise OSError(errno.EBADF, "it is closed; redirect it to a file", "standard output")


def _prepare_standard_output() -> None:
    if sys.stdout is None:
        sys.stdout = _ClosedOutput()
    elif isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # JSON lines are UTF-8 in every locale


def _log_to_standard_error(verbosity: int) -> None:
    if verbosity:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
        logger = logging.getLogger("modernrank")
        logger.addHandler(handler)
        logger.setLevel(logging.INFO if verbosity == 1 else logging.DEBUG)


class _Parser(argparse.ArgumentParser):
    """Answers wrong usage with one line and a pointer to the help; takes no abbreviated options."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{**options, "allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="modernrank", description="Score (query, document) pairs with ModernBERT rerankers.")
    parser.add_argument("--version", action="version", version=f"modernrank {__version__}")
    parser.add_argument(
        "-v", "--verbose", action="count", default=0, help="log decisions and times to standard error; -vv for details"
    )
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        subparser = subparsers.add_parser(command.name, help=command.help, description=command.help)
        subparser.set_defaults(command=command)
        command.add_options(subparser)
    return parser
