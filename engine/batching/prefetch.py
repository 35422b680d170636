"""Cut a stream into windows, and work on the next window while the result of the previous one is used."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from .start import start

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Window(Generic[T]):
    """Consecutive items of a stream, and the index of the first of them."""

    start: int
    items: list[T]

    @property
    def indices(self) -> range:
        """The index of each item in the stream."""
        return range(self.start, self.start + len(self.items))


def windows(stream: Iterable[T], size: int) -> Iterator[Window[T]]:
    """Cut a stream into windows of ``size`` items. Each item is read only when its window is requested.

    >>> [(window.start, window.items) for window in windows("abcde", 2)]
    [(0, ['a', 'b']), (2, ['c', 'd']), (4, ['e'])]
    """
    iterator = iter(stream)
    size = min(size, sys.maxsize)
    start = 0
    while items := list(itertools.islice(iterator, size)):
        yield Window(start, items)
        start += len(items)


def growing_windows(stream: Iterable[T], first: int, size: int) -> Iterator[Window[T]]:
    """Cut a stream into windows of ``first`` items, then twice as many, and so on up to ``size``.

    The work on the first window begins early, and later ones are large. A window of fewer than ``size`` items takes up
    to half as many more if the stream then ends, so that the last one is not small. An error of the stream is raised
    after the windows of the items before it.

    >>> [len(window.items) for window in growing_windows(range(100), first=8, size=64)]
    [8, 16, 32, 44]
    """
    iterator = iter(stream)
    start, waiting, wanted = 0, list[T](), min(first, size)
    error: Exception | None = None
    while True:
        most = min(wanted + wanted // 2, size)
        try:
            for item in itertools.islice(iterator, max(0, most + 1 - len(waiting))):
                waiting.append(item)
        except Exception as failure:  # noqa: BLE001 - raised where its item would have come
            error, iterator = failure, iter(())
        if not waiting:
            if error is not None:
                raise error
            return
        taken = len(waiting) if len(waiting) <= most else wanted
        yield Window(start, waiting[:taken])
        start, waiting, wanted = start + taken, waiting[taken:], min(2 * wanted, size)


def prefetch(work: Callable[[T], R], stream: Iterable[T]) -> Iterator[R]:
    """Like ``map``, one item ahead: while a result is used, another thread does ``work`` on the next item.

    An error of ``work``, or of the stream, is raised where its result would have come.

    >>> list(prefetch(str.upper, "abc"))
    ['A', 'B', 'C']
    """
    iterator = iter(stream)
    with ThreadPoolExecutor(1, "modernrank-prefetch") as pool:

        def next_result() -> list[R]:
            return [work(item) for item in itertools.islice(iterator, 1)]

        pending = start(pool, next_result)
        while results := pending.result():
            pending = start(pool, next_result)
            yield results[0]
