"""Arguments by the names and at the positions that earlier versions of sentence-transformers gave them."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R")


def accepts_older_names(
    positional: int | None = None, then: Sequence[str] = (), **renamed: str | None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function accept arguments as earlier versions did, with a ``FutureWarning``.

    Args:
        positional: number of arguments that are given by position today; None for any.
        then: names of those that could be given by position behind them.
        renamed: today's name of each older one; None for an argument that has no effect any more. An argument that is
            given by both names has the value of today's.

    >>> @accepts_older_names(sentences="inputs", num_workers=None)
    ... def count(inputs: list[str]) -> int:
    ...     return len(inputs)
    >>> with warnings.catch_warnings(action="ignore"):
    ...     count(sentences=["a", "b"], num_workers=4)
    2
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> R:
            by_position = dict(zip(then, args[positional:], strict=False)) if positional is not None else {}
            if by_position:
                args = (*args[:positional], *args[len(by_position) + (positional or 0) :])
                _warn(f"{', '.join(by_position)} by position is deprecated; name them")
                kwargs = by_position | kwargs
            for older in renamed.keys() & kwargs.keys():
                value, name = kwargs.pop(older), renamed[older]
                advice = "it has no effect" if name is None else f"it is called {name} now"
                _warn(f"the argument {older} is deprecated: {advice}")
                if name is not None:
                    kwargs.setdefault(name, value)
            return function(*args, **kwargs)

        return cast(Callable[P, R], called)

    return decorate


def _warn(message: str) -> None:
    warnings.warn(f"CrossEncoder: {message}", FutureWarning, stacklevel=3)
