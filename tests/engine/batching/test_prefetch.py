"""Windows of a stream, and work one window ahead: in order, lazily, with errors where their result would come."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modernrank.batching.prefetch import growing_windows, prefetch, windows


def test_windows_read_a_stream_only_as_far_as_they_are_requested() -> None:
    numbers = itertools.count()
    stream = windows(numbers, 3)
    assert next(stream).items == [0, 1, 2]
    assert next(stream).start == 3
    assert next(numbers) == 6


def test_windows_of_nothing_are_none() -> None:
    assert list(windows([], 3)) == []


def test_results_come_in_order() -> None:
    assert list(prefetch(lambda number: number * 2, range(20))) == [number * 2 for number in range(20)]


def test_the_next_item_is_worked_on_while_a_result_is_used() -> None:
    second_began = threading.Event()

    def work(number: int) -> int:
        if number == 1:
            second_began.set()
        return number

    results = prefetch(work, range(3))
    assert next(results) == 0
    assert second_began.wait(10)  # nobody has requested it yet
    assert list(results) == [1, 2]


def test_no_more_than_one_item_is_read_ahead() -> None:
    numbers = itertools.count()
    results = prefetch(lambda number: number, numbers)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    results.close()  # type: ignore[attr-defined]
    assert next(numbers) <= 5


def test_an_error_of_the_work_comes_where_its_result_would() -> None:
    results = prefetch(lambda number: 1 // (2 - number), range(4))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_an_error_of_the_stream_comes_after_the_results_before_it() -> None:
    def stream() -> Iterator[int]:
        yield 1
        raise KeyError

    results = prefetch(lambda number: number, stream())
    assert next(results) == 1
    with pytest.raises(KeyError):
        next(results)


def test_the_thread_ends_with_the_iterator() -> None:
    results = prefetch(lambda number: number, itertools.count())
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("modernrank-prefetch")]


def test_a_window_may_be_larger_than_any_list() -> None:
    assert [window.items for window in windows(range(3), 10**30)] == [[0, 1, 2]]


@given(st.integers(0, 500), st.integers(1, 40), st.integers(1, 200))
def test_growing_windows_hold_every_item_once_and_in_order(items: int, first: int, size: int) -> None:
    cut = list(growing_windows(range(items), first, size))
    assert [item for window in cut for item in window.items] == list(range(items))
    assert [window.start for window in cut] == [window.items[0] for window in cut]
    lengths = [len(window.items) for window in cut]
    assert all(length <= size for length in lengths)
    small = [last for before, last in itertools.pairwise(lengths) if 2 * last < before]
    assert not small or lengths[-2] == size  # only what full windows leave over


def test_an_error_of_the_stream_comes_after_what_was_read_before_it() -> None:
    def stream() -> Iterator[int]:
        yield from range(40)
        raise ValueError("broken")

    read: list[int] = []
    with pytest.raises(ValueError, match="broken"):
        read.extend(item for window in growing_windows(stream(), first=32, size=64) for item in window.items)
    assert read == list(range(40))


def test_growing_windows_read_little_ahead() -> None:
    """A stream may be endless, and its items may be made on demand."""
    read = iter(range(1000))
    next(growing_windows(read, first=8, size=64))
    assert next(read) <= 8 + 4 + 1
