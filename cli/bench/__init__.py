"""``modernrank bench run | peers | versions | serve | report | compare``: measure artifacts, and show results."""

from __future__ import annotations

import argparse

from ..base import Command
from . import measure, results, serving

COMMANDS = (
    ("run", measure.run, measure.add_run_options, "Measure an artifact in one or more scenarios."),
    (
        "peers",
        measure.peers,
        measure.add_peers_options,
        "Measure artifacts and other runtimes on the same checkpoint, in turns.",
    ),
    ("versions", measure.versions, measure.add_versions_options, "Measure this version and earlier commits, in turns."),
    ("serve", serving.run, serving.add_options, "Measure servers under load, in turns with the model alone."),
    ("report", results.report, results.add_report_options, "Show results as a Markdown table, and as plots."),
    (
        "compare",
        results.compare,
        results.add_compare_options,
        "List what became faster or slower; exit with 1 if any is slower.",
    ),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The subcommands of ``modernrank bench``."""
    commands = parser.add_subparsers(dest="bench", required=True, metavar="COMMAND")
    for name, run, add, text in COMMANDS:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        add(command)


BENCH = Command(
    "bench",
    "Measure artifacts, alone or beside others, and show results.",
    add_options,
    lambda args: int(args.run(args)),  # of its own commands
    "bench",
)
