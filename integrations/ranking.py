"""What the modules for frameworks have in common: a model from its name, and a ranking with its cuts reported."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from modernrank import AsyncReranker, InputError, RankedDocument, Reranker, TruncationWarning
from modernrank.artifact.folder import is_artifact
from modernrank.errors import counted


def load_model(name: str | Path, load_options: Mapping[str, Any]) -> Reranker:
    """Load a model that can rank.

    Args:
        name: the folder of an artifact; or a checkpoint, by its folder or hub id, which is exported once into the
            cache.
        load_options: further arguments of ``Reranker.load`` or ``Reranker.from_checkpoint``.

    Raises:
        InputError: the model has several labels, or an option is out of its range.
        ArtifactError, ProviderError: as ``Reranker.load`` and ``Reranker.from_checkpoint``.
        ModuleNotFoundError: a checkpoint requires ``modernrank[export]``.
    """
    load = Reranker.load if is_artifact(name) else Reranker.from_checkpoint
    with ExitStack() as opened:
        loaded = load(name, **load_options)
        opened.callback(loaded.close)
        checked_model(loaded)
        opened.pop_all()
    return loaded


def open_model(
    model: Reranker | AsyncReranker | str | Path, load_options: Mapping[str, Any]
) -> Reranker | AsyncReranker:
    """A loaded model itself, or the one of a name, loaded as ``load_model`` loads it.

    Raises:
        InputError: the model is of another type, has several labels, or is loaded already and has ``load_options``.
        ArtifactError, ProviderError, ModuleNotFoundError: as ``load_model``.
    """
    if isinstance(model, str | Path):
        return load_model(model, load_options)
    if load_options:
        raise InputError(
            f"{', '.join(load_options)} cannot be applied, because this model is loaded already; pass them to "
            "Reranker.load",
            argument=next(iter(load_options)),
        )
    return checked_model(model)


def checked_model(model: object) -> Reranker | AsyncReranker:
    """``model``, if it is a loaded model of one label.

    Raises:
        InputError: it is something else, or has several labels, of which none is the relevance.
    """
    if not isinstance(model, Reranker | AsyncReranker):
        raise InputError(
            f"model is {type(model).__name__}; pass a Reranker or an AsyncReranker, such as Reranker.load(folder)",
            argument="model",
        )
    labels = model.labels
    if len(labels) != 1:
        raise InputError(
            f"a ranking requires a model of one label, and this one has {len(labels)} ({', '.join(labels)}); load "
            "another one",
            argument="model",
            labels=labels,
        )
    return model


def in_threads(model: Reranker | AsyncReranker) -> Reranker:
    """The model for calls that block."""
    return model.reranker if isinstance(model, AsyncReranker) else model


def rank(
    model: Reranker | AsyncReranker, query: str, texts: Sequence[str], top_k: int | None, **options: Any
) -> list[RankedDocument]:
    """``Reranker.rank``, with a ``TruncationWarning`` if texts were cut: frameworks have no place for ``tokens_cut``.

    >>> from modernrank import Reranker
    >>> with Reranker.load(TINY) as reranker:                                    # an artifact's folder
    ...     len(rank(reranker, "capital of France?", ["Paris", "A baguette"], top_k=1))
    1
    """
    ranking = in_threads(model).rank(query, texts, top_k, **options)
    _warn_of_cuts(ranking)
    return ranking


async def arank(
    model: Reranker | AsyncReranker, query: str, texts: Sequence[str], top_k: int | None, **options: Any
) -> list[RankedDocument]:
    """The same without blocking the event loop. If the task is cancelled, nothing more is computed for it."""
    if isinstance(model, AsyncReranker):
        ranking = await model.rank(query, texts, top_k, **options)
    else:  # its threads must not outlive the call, since nobody would end them
        async with AsyncReranker(model) as reranker:
            ranking = await reranker.rank(query, texts, top_k, **options)
    _warn_of_cuts(ranking)
    return ranking


def _warn_of_cuts(ranking: Sequence[RankedDocument]) -> None:
    cut = [result for result in ranking if result.tokens_cut]
    if cut:
        warnings.warn(
            f"{counted(len(cut), 'document')} of the ranking lost {counted(sum(r.tokens_cut for r in cut), 'token')} "
            f"to max_length (document {cut[0].index} is one); long_documents='chunk' scores all parts of them",
            TruncationWarning,
            stacklevel=3,
        )
