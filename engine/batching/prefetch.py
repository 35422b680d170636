"""A stream in chunks, and work on the next chunk while the last one's result is used."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Chunk(Generic[T]):
    """Items of a stream, and the index of the first of them."""

    first: int
    items: list[T]


def chunked(stream: Iterable[T], size: int) -> Iterator[Chunk[T]]:
    """Cut a stream; nothing is read before it is asked for.

    >>> [(chunk.first, chunk.items) for chunk in chunked("abcde", 2)]
    [(0, ['a', 'b']), (2, ['c', 'd']), (4, ['e'])]
    """
    iterator = iter(stream)
    first = 0
    while items := list(itertools.islice(iterator, size)):
        yield Chunk(first, items)
        first += len(items)


def in_advance(work: Callable[[T], R], stream: Iterable[T]) -> Iterator[R]:
    """Like ``map``, one item ahead: while a result is used, ``work`` is done on the next item, in another thread.

    An error of ``work``, or of the stream, is raised where its result would have come.

    >>> list(in_advance(str.upper, "abc"))
    ['A', 'B', 'C']
    """
    iterator = iter(stream)
    with ThreadPoolExecutor(1, "modernrank-ahead") as pool:

        def next_result() -> list[R]:
            return [work(item) for item in itertools.islice(iterator, 1)]

        waiting = pool.submit(next_result)
        while found := waiting.result():
            waiting = pool.submit(next_result)
            yield found[0]
