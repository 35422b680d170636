"""The schedule: every batch once, long ones alone, no slower than the two simple ways."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modernrank.batching.policy import SERIAL_SHARE, SchedulePolicy
from modernrank.batching.schedule import schedule

TOKENS = st.lists(st.integers(1, 2000), max_size=40)
WORKERS = st.integers(1, 9)


@given(TOKENS, WORKERS)
def test_every_batch_is_scheduled_exactly_once(tokens: list[int], workers: int) -> None:
    scheduled = schedule(tokens, SchedulePolicy(workers, 1024))
    assert sorted(scheduled.alone + scheduled.side_by_side) == list(range(len(tokens)))


@given(TOKENS, WORKERS)
def test_long_batches_have_all_threads(tokens: list[int], workers: int) -> None:
    assert all(tokens[batch] <= 1024 for batch in schedule(tokens, SchedulePolicy(workers, 1024)).side_by_side)


@given(TOKENS, WORKERS)
def test_it_is_no_slower_than_one_after_the_other(tokens: list[int], workers: int) -> None:
    all_alone = sum(tokens) * (SERIAL_SHARE + (1 - SERIAL_SHARE) / workers)
    if len(tokens) <= workers:
        assert schedule(tokens, SchedulePolicy(workers, 10_000)).cost <= all_alone + 1e-6


@given(TOKENS, WORKERS)
def test_batches_side_by_side_come_longest_first(tokens: list[int], workers: int) -> None:
    side_by_side = [tokens[batch] for batch in schedule(tokens, SchedulePolicy(workers, 1024)).side_by_side]
    assert side_by_side == sorted(side_by_side, reverse=True)


@pytest.mark.parametrize(
    ("tokens", "alone"),
    [([100], 1), ([100] * 2, 0), ([100] * 3, 1), ([100] * 100, 0), ([100] * 101, 1), ([600, 90, 80], 1), ([], 0)],
)
def test_odd_batches_have_all_threads(tokens: list[int], alone: int) -> None:
    assert len(schedule(tokens, SchedulePolicy(2, 1024)).alone) == alone
