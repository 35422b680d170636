"""Options that several commands share. Each is defined once, so it means the same everywhere.

--out FILE or FOLDER   where the result goes
--json                 print the result as JSON
--max-length TOKENS    maximum number of tokens in a pair
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from modernrank.errors import InputError
from modernrank.options import (
    PRECISIONS,
    ActivationChoice,
    LongDocuments,
    PrecisionChoice,
    ProviderChoice,
    TruncationChoice,
    names_of,
)

MEBIBYTE = 2**20


def positive_int(text: str) -> int:
    """A whole number of at least 1, for ``add_argument(type=..)``."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return value


def positive_number(text: str) -> float:
    """A finite number above 0, for ``add_argument(type=..)``."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def check_out(out: Path | None) -> None:
    """Refuse a file that cannot be written, before the work whose result it is to hold.

    Raises:
        InputError: ``out`` is a folder, or there is no folder for it.
    """
    if out is None:
        return
    if out.is_dir():
        raise InputError(f"cannot write {out}: it is a folder; name a file", argument="--out", value=str(out))
    if not out.parent.is_dir():
        raise InputError(
            f"cannot write {out}: there is no folder {out.parent}; create it first", argument="--out", value=str(out)
        )


def add_artifact(parser: argparse.ArgumentParser, content: str = "a folder that `modernrank export` wrote") -> None:
    """The artifact's folder. ``content`` says what else is taken."""
    parser.add_argument("artifact", type=Path, help=content)


def add_out(parser: argparse.ArgumentParser, content: str, required: bool = False) -> None:
    """``--out``: the file or folder to write. ``content`` says what goes there."""
    parser.add_argument("--out", type=Path, required=required, metavar="PATH", help=content)


def add_json(parser: argparse.ArgumentParser, content: str) -> None:
    """``--json``: print JSON. ``content`` says what is printed."""
    parser.add_argument("--json", action="store_true", help=f"print {content} as JSON")


def add_precision(parser: argparse.ArgumentParser, several: bool = False) -> None:
    """``--precision``: one of the artifact's precisions, or several side by side."""
    if several:
        parser.add_argument(
            "--precision",
            action="append",
            choices=names_of(PrecisionChoice),
            help="repeat it to compare several (default: auto)",
        )
    else:
        parser.add_argument(
            "--precision",
            default="auto",
            choices=names_of(PrecisionChoice),
            help="precision of the graph (default: %(default)s)",
        )


def add_exported_precisions(parser: argparse.ArgumentParser) -> None:
    """``--precision`` of ``export``: what to write, the most exact one first."""
    parser.add_argument(
        "--precision", action="append", choices=PRECISIONS[::-1], help="repeat it for several (default: fp32)"
    )


def add_provider(parser: argparse.ArgumentParser) -> None:
    """``--provider``: what runs the model."""
    parser.add_argument(
        "--provider",
        default="auto",
        choices=names_of(ProviderChoice),
        help="provider that runs the model (default: %(default)s)",
    )


def add_running_options(parser: argparse.ArgumentParser) -> None:
    """How a model is loaded: provider, processor and GPUs. ``running_options`` reads them."""
    add_provider(parser)
    parser.add_argument("--threads", type=positive_int, help="number of threads (default: the cores that are granted)")
    parser.add_argument(
        "--workers",
        type=positive_int,
        help="number of batches side by side on these threads (default: one for each thread)",
    )
    parser.add_argument(
        "--device",
        type=int,
        action="append",
        metavar="N",
        help="number of a GPU; repeat it for several (default: the first)",
    )
    parser.add_argument(
        "--cuda-graphs",
        action=argparse.BooleanOptionalAction,
        help="replay small shapes that recur as CUDA graphs (default: engines do, provider cuda does not)",
    )
    parser.add_argument(
        "--gpu-memory-limit",
        type=positive_int,
        metavar="MIB",
        help="for provider cuda: maximum memory (default: no limit)",
    )


def running_options(args: argparse.Namespace) -> dict[str, Any]:
    """Arguments of ``Reranker.load`` from ``add_running_options``."""
    limit = args.gpu_memory_limit
    return {
        "provider": args.provider,
        "threads": args.threads,
        "workers": args.workers,
        "devices": args.device,
        "cuda_graphs": args.cuda_graphs,
        "gpu_memory_limit": None if limit is None else limit * MEBIBYTE,
    }


def add_max_length(parser: argparse.ArgumentParser) -> None:
    """``--max-length``: a lower limit than the artifact's."""
    parser.add_argument(
        "--max-length",
        type=positive_int,
        metavar="TOKENS",
        help="maximum number of tokens in a pair (default: the artifact's limit)",
    )


def add_truncation(parser: argparse.ArgumentParser) -> None:
    """``--truncation``: what happens to longer pairs."""
    parser.add_argument(
        "--truncation",
        default="longest_first",
        choices=names_of(TruncationChoice),
        help="what happens to a longer pair (default: %(default)s)",
    )


def add_activation(parser: argparse.ArgumentParser) -> None:
    """``--activation``: from logits to scores."""
    parser.add_argument(
        "--activation",
        default="logit",
        choices=names_of(ActivationChoice),
        help="scale of the scores (default: %(default)s)",
    )


def add_long_documents(parser: argparse.ArgumentParser) -> None:
    """``--long-documents``: what happens to a document that exceeds the limit."""
    parser.add_argument(
        "--long-documents",
        default="truncate",
        choices=names_of(LongDocuments),
        help="cut what exceeds --max-length, or score overlapping parts and take the best (default: %(default)s)",
    )
