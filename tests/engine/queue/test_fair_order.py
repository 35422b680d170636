"""The order in which calls are served: fair by tokens, urgent classes first, and no call starves."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from modernrank.queue.call import Call
from modernrank.queue.fair_order import RUNS_PER_LESS_URGENT, FairOrder
from modernrank.queue.urgency import Urgency
from support.calls import call_of

QUANTUM = 300
COSTS = st.lists(st.integers(1, 1000), min_size=1, max_size=20)
CALLS = st.lists(COSTS, min_size=2, max_size=6)
DEADLINES = st.lists(st.sampled_from([1.0, 2.0, math.inf]), min_size=6, max_size=6)
PRIORITIES = st.lists(st.integers(0, 3), min_size=6, max_size=6)


class Served:
    """Calls with batches of these costs, served one batch after the other."""

    def __init__(
        self, costs: Sequence[Sequence[int]], deadlines: Sequence[float] = (), priorities: Sequence[int] = ()
    ) -> None:
        self.order = FairOrder(QUANTUM)
        self.calls: list[Call] = []
        self.tokens: list[int] = []
        self.share = 0.0  # what a call would have had that has waited from the beginning, if all had the same
        self.share_before: list[float] = []
        for of_call, deadline, priority in zip(
            costs,
            itertools.chain(deadlines, itertools.repeat(math.inf)),
            [*priorities, *[0] * len(costs)],
            strict=False,
        ):
            self.add(of_call, Urgency(priority, 1.0, deadline))

    def add(self, costs: Sequence[int], urgency: Urgency) -> None:
        self.calls.append(call_of(*costs, urgency=urgency))
        self.tokens.append(0)
        self.share_before.append(self.share)
        self.order.add(self.calls[-1])

    def serve(self) -> int:
        """Serve the next batch; the number of its call."""
        call = next(self.order.candidates())
        number = self.calls.index(call)
        self.share += call.batches.peek().tokens / len(self.waiting())  # type: ignore[union-attr]
        tokens = call.batches.take().tokens
        self.order.serve(call, tokens)
        self.tokens[number] += tokens
        if not call.batches:
            self.order.remove(call)
        return number

    def lacks(self, number: int) -> float:
        """The tokens that a call has had less than its equal share."""
        return self.share - self.share_before[number] - self.tokens[number]

    def waiting(self) -> list[int]:
        """The numbers of the calls that wait."""
        return [number for number, call in enumerate(self.calls) if call.batches]


@given(CALLS, DEADLINES, PRIORITIES)
def test_every_batch_is_served(costs: list[list[int]], deadlines: list[float], priorities: list[int]) -> None:
    served = Served(costs, deadlines, priorities)
    numbers = [served.serve() for _ in range(sum(map(len, costs)))]
    assert [numbers.count(number) for number in range(len(costs))] == list(map(len, costs))
    assert len(served.order) == 0


@given(CALLS, DEADLINES, COSTS)
def test_no_call_lacks_more_than_a_round_and_two_batches_of_its_share(
    costs: list[list[int]], deadlines: list[float], late: list[int]
) -> None:
    served = Served(costs, deadlines)
    longest = max(max(of_call) for of_call in [*costs, late])
    for run in itertools.count():
        if run == len(costs):
            served.add(late, Urgency())
        if not len(served.order):
            return
        served.serve()
        assert max((served.lacks(number) for number in served.waiting()), default=0) <= QUANTUM + 2 * longest


@given(st.integers(1, 200), st.integers(0, 199), st.integers(1, 1000))
def test_a_short_call_is_served_before_the_next_batch_of_a_list(batches: int, before: int, cost: int) -> None:
    served = Served([[1000] * batches])
    for _ in range(min(before, batches - 1)):
        served.serve()
    served.add([min(cost, QUANTUM)], Urgency())
    assert served.serve() == 1


@given(CALLS, PRIORITIES)
def test_the_most_urgent_class_has_all_but_every_eighth_run(costs: list[list[int]], priorities: list[int]) -> None:
    served = Served(costs, priorities=priorities)
    less_urgent = 0
    for run in itertools.count(1):
        waiting = [priorities[number] for number in served.waiting()]
        if not waiting:
            return
        less_urgent += priorities[served.serve()] > min(waiting)
        assert less_urgent <= run / RUNS_PER_LESS_URGENT


@given(st.integers(1, 5), st.integers(1, 3))
def test_no_call_starves(less_urgent: int, urgent: int) -> None:
    """Endless urgent calls: each of n less urgent ones has a run at least once in 8 n runs."""
    endless = [10] * 500
    served = Served(
        [endless] * (less_urgent + urgent), priorities=[1 + i % 2 for i in range(less_urgent)] + [0] * urgent
    )
    runs = [served.serve() for _ in range(10 * RUNS_PER_LESS_URGENT * less_urgent)]
    bound = RUNS_PER_LESS_URGENT * less_urgent
    for number in range(less_urgent):
        at = [-1, *(run for run, name in enumerate(runs) if name == number)]
        assert max(b - a for a, b in itertools.pairwise(at)) <= bound


@given(st.integers(1, 20), st.integers(1, QUANTUM))
def test_no_stream_of_new_calls_keeps_a_list_back(others: int, cost: int) -> None:
    """Whenever a short call ends, another one comes: the list still gets its share of the tokens."""
    served = Served([[100] * 100, *[[cost]] * others])
    for _ in range(300):
        number = served.serve()
        if number != 0:
            served.add([cost], Urgency())
    assert served.tokens[0] >= min(100 * 100, sum(served.tokens) / (others + 1) - QUANTUM - 2 * QUANTUM)


def test_the_earliest_deadline_of_a_round_goes_first() -> None:
    served = Served([[100, 100, 100]] * 3, deadlines=[math.inf, 2.0, 1.0])
    assert [served.serve() for _ in range(9)] == [2, 2, 2, 1, 1, 1, 0, 0, 0]


@given(st.integers(1, 3))
def test_new_calls_of_a_less_urgent_class_do_not_starve_the_older_ones(arrivals: int) -> None:
    served = Served([[10] * 500, [10] * 500], priorities=[0, 1])
    since = 0
    for run in range(400):
        if run % RUNS_PER_LESS_URGENT < arrivals:
            served.add([10], Urgency(1))
        less_urgent = sum(served.calls[number].urgency.priority for number in served.waiting())
        since = 0 if served.serve() == 1 else since + 1
        assert since <= RUNS_PER_LESS_URGENT * less_urgent


@given(st.floats(1, 60))
def test_a_short_call_with_the_timeout_of_a_list_goes_before_it(timeout: float) -> None:
    served = Served([[100] * 50])
    served.serve()
    served.add([100] * 50, Urgency.of(timeout=timeout))
    served.add([50], Urgency.of(timeout=timeout))
    assert served.serve() == 2


def test_of_a_round_short_calls_go_before_lists_and_end_in_the_order_of_their_arrival() -> None:
    lists, middle, short = [[400, 300]], [[100, 90], [100, 80]], [[60], [50]]
    served = Served(lists + middle + short)
    assert [served.serve() for _ in range(8)] == [3, 4, 1, 1, 2, 2, 0, 0]


def test_a_list_with_an_early_deadline_does_not_keep_others_waiting() -> None:
    served = Served([[100] * 100, [100] * 100], deadlines=[1.0, math.inf])
    assert [served.serve() for _ in range(10)] == [0, 0, 0, 0, 0, 0, 1, 0, 1, 0]  # the other lacks a round, QUANTUM


def test_a_class_keeps_its_own_time() -> None:
    """A list of another class that has been served much does not put new calls of this one behind the old ones."""
    served = Served([[1000] * 50, [10] * 100], priorities=[1, 0])
    for _ in range(40):
        served.serve()
    served.add([5], Urgency())
    assert 2 in [served.serve() for _ in range(3)]


def test_a_call_that_is_removed_is_not_served() -> None:
    served = Served([[5, 5], [5, 5, 5]])
    served.serve()
    served.order.remove(served.calls[0])
    assert list(served.order) == [served.calls[1]]
