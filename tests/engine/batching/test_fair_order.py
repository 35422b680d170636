"""The order of the batches of several calls: nothing lost, fair by tokens, no wait for another's whole list."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from modernrank.batching.fair_order import Call, FairOrder

COSTS = st.lists(st.integers(1, 1000), min_size=1, max_size=20)


def filled(order: FairOrder[tuple[int, int]], costs: Sequence[Sequence[int]]) -> list[Call[tuple[int, int]]]:
    """Calls with items (call, number)."""
    calls = [order.begin() for _ in costs]
    for name, (call, of_call) in enumerate(zip(calls, costs, strict=True)):
        for number, cost in enumerate(of_call):
            order.add(call, cost, (name, number))
    return calls


@given(st.lists(COSTS, min_size=1, max_size=6))
def test_every_item_is_taken_once_and_those_of_a_call_in_their_order(costs: list[list[int]]) -> None:
    order = FairOrder[tuple[int, int]]()
    filled(order, costs)
    taken = [item for item in iter(order.take, None) if item is not None]
    assert sorted(taken) == [(name, number) for name, of_call in enumerate(costs) for number in range(len(of_call))]
    for name in range(len(costs)):
        assert [number for call, number in taken if call == name] == list(range(len(costs[name])))


@given(st.lists(COSTS, min_size=2, max_size=6))
def test_calls_that_wait_are_served_equally(costs: list[list[int]]) -> None:
    """While two calls both wait, their tokens differ by at most one batch of each."""
    order = FairOrder[tuple[int, int]]()
    filled(order, costs)
    served, left = [0] * len(costs), [len(of_call) for of_call in costs]
    while (item := order.take()) is not None:
        call, number = item
        served[call] += costs[call][number]
        left[call] -= 1
        for a, b in itertools.combinations(range(len(costs)), 2):
            if left[a] and left[b]:
                assert abs(served[a] - served[b]) <= max(*costs[a], *costs[b])


@given(st.lists(COSTS, min_size=1, max_size=6), st.integers(0, 30), st.integers(1, 1000))
def test_a_new_call_waits_for_at_most_one_batch_of_each_other(costs: list[list[int]], before: int, cost: int) -> None:
    order = FairOrder[tuple[int, int]]()
    filled(order, costs)
    for _ in range(before):
        order.take()
    order.add(order.begin(), cost, (-1, 0))
    others = list(itertools.takewhile(lambda item: item != (-1, 0), iter(order.take, None)))
    names = [name for name, _ in others]
    assert len(names) == len(set(names))


def test_what_waits_of_a_call_that_has_ended_is_not_taken() -> None:
    order = FairOrder[tuple[int, int]]()
    first, _ = filled(order, [[5, 5, 5], [5]])
    assert order.take() == (0, 0)
    order.end(first)
    assert [order.take(), order.take()] == [(1, 0), None]
