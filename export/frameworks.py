"""Files that let a framework load an artifact as a model of its own: ``modernrank export --with NAME``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from modernrank import __version__
from modernrank.artifact.manifest import Model, Tokenizer
from modernrank.errors import InputError

from .checkpoint.activation import CLASSES
from .checkpoint.modules import MODULES, SENTENCE_TRANSFORMERS

MODULE = "modernrank.integrations.sentence_transformers.module.ModernRank"
REASON = "It runs this model: pip install 'modernrank[cpu]'."


def _sentence_transformers(model: Model, tokenizer: Tokenizer) -> dict[str, Any]:
    """The two files from which ``CrossEncoder`` of sentence-transformers 6 builds a model, by name."""
    settings = {
        "model_type": "CrossEncoder",
        "__version__": {"modernrank": __version__},
        "requirements": {"modernrank": {"specifier": f">={__version__}", "reason": REASON}},
        "prompts": tokenizer.prompts,
        "default_prompt_name": tokenizer.default_prompt,
        "activation_fn": CLASSES.get(model.activation, model.activation),
    }
    return {MODULES: [{"idx": 0, "name": "0", "path": "", "type": MODULE}], SENTENCE_TRANSFORMERS: settings}


FRAMEWORKS: dict[str, Callable[[Model, Tokenizer], dict[str, Any]]] = {"sentence-transformers": _sentence_transformers}


def check_frameworks(names: Iterable[str]) -> tuple[str, ...]:
    """The names, if all are known.

    Raises:
        InputError: one is not.
    """
    checked = tuple(names)
    for name in checked:
        if name not in FRAMEWORKS:
            raise InputError(
                f"framework {name!r} is unknown; choose one of {', '.join(FRAMEWORKS)}",
                argument="frameworks",
                value=name,
                choices=tuple(FRAMEWORKS),
            )
    return checked


def write_framework_files(folder: Path, frameworks: Iterable[str], model: Model, tokenizer: Tokenizer) -> None:
    """Write the files of each framework to the artifact's ``folder``."""
    for name in frameworks:
        for file, content in FRAMEWORKS[name](model, tokenizer).items():
            (folder / file).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
