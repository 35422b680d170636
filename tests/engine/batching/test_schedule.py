"""The schedule: every run once, long ones alone, no slower than the two simple ways."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modernrank.batching.schedule import SERIAL_SHARE, schedule

TOKENS = st.lists(st.integers(1, 2000), max_size=40)
STREAMS = st.integers(1, 9)


@given(TOKENS, STREAMS)
def test_every_run_is_scheduled_exactly_once(tokens: list[int], streams: int) -> None:
    found = schedule(tokens, streams, 1024)
    assert sorted(found.alone + found.side_by_side) == list(range(len(tokens)))


@given(TOKENS, STREAMS)
def test_long_runs_have_all_threads(tokens: list[int], streams: int) -> None:
    assert all(tokens[run] <= 1024 for run in schedule(tokens, streams, 1024).side_by_side)


@given(TOKENS, STREAMS)
def test_it_is_no_slower_than_one_after_the_other(tokens: list[int], streams: int) -> None:
    all_alone = sum(tokens) * (SERIAL_SHARE + (1 - SERIAL_SHARE) / streams)
    if len(tokens) <= streams:
        assert schedule(tokens, streams, 10_000).cost <= all_alone + 1e-6


@given(TOKENS, STREAMS)
def test_side_by_side_runs_come_longest_first(tokens: list[int], streams: int) -> None:
    side = [tokens[run] for run in schedule(tokens, streams, 1024).side_by_side]
    assert side == sorted(side, reverse=True)


@pytest.mark.parametrize(
    ("tokens", "alone"),
    [([100], 1), ([100] * 2, 0), ([100] * 3, 1), ([100] * 100, 0), ([100] * 101, 1), ([600, 90, 80], 1), ([], 0)],
)
def test_what_is_left_over_has_all_threads(tokens: list[int], alone: int) -> None:
    assert len(schedule(tokens, 2, 1024).alone) == alone
