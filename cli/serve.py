"""``modernrank serve``: the settings of the server as flags, and the server itself."""

from __future__ import annotations

import argparse
import os
from dataclasses import fields
from typing import Any

from modernrank.server.settings import Settings

from .base import Command


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("artifacts", nargs="*", metavar="ARTIFACT", help="folder of an artifact, or NAME=FOLDER")
    parser.add_argument("--config", metavar="FILE", help="TOML file of settings")
    parser.add_argument("--print-settings", action="store_true", help="print all settings and where they come from")
    for entry in fields(Settings):
        if entry.name == "artifacts":
            continue
        flag, text = f"--{entry.name.replace('_', '-')}", entry.metadata["help"]
        if isinstance(entry.default, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=text)
        else:
            shown = "" if entry.default is None else f" (default: {entry.default})"
            parser.add_argument(flag, metavar=entry.metadata["unit"], help=f"{text}{shown}")


def _run(args: argparse.Namespace) -> int:
    from modernrank.server.run import run
    from modernrank.server.settings_sources import read_settings

    own = {"command", "verbose", "print_settings"}
    flags: dict[str, Any] = {name: value for name, value in vars(args).items() if name not in own}
    flags["artifacts"] = args.artifacts or None
    sourced = read_settings(flags, os.environ)
    if args.print_settings:
        print("\n".join(sourced.lines()))
        return 0
    return run(sourced.settings)


SERVE = Command(
    "serve", "Serve rerank requests over HTTP, in the wire of every client.", _add_options, _run, "cpu,serve"
)
