"""The queue by itself, without threads: what is taken, refused, given back, and counted."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modernrank import ClosedError, DeadlineError, InputError, OverloadedError
from modernrank.backends.profiles import default_profiles, policy_of
from modernrank.queue.call import Call, Run
from modernrank.queue.run_queue import CallCancelledError, RunQueue
from modernrank.queue.urgency import MAX_PRIORITY, Urgency
from modernrank.timing import StageTimes
from support.calls import call_of, compute, logits_of, processor_policy

GPU = policy_of(default_profiles(8192), slots=32, workers=2)


def queue_of(limit: int | None = None, workers: int = 2, budget: int = 1) -> RunQueue:
    return RunQueue(processor_policy(workers, budget), limit)


def waits(queue: RunQueue) -> tuple[int, int]:
    """The calls and tokens that wait."""
    metrics = queue.metrics(StageTimes())
    return metrics.waiting_calls, metrics.waiting_tokens


def take(queue: RunQueue) -> Run:
    run = queue.take()
    assert run is not None
    return run


def do(queue: RunQueue) -> Run:
    """Take a run, and carry it out."""
    run = take(queue)
    compute(run)
    queue.finish(run, 0.001)
    return run


@given(st.lists(st.lists(st.integers(1, 90), min_size=1, max_size=20), min_size=1, max_size=6), st.booleans())
def test_every_call_gets_its_own_results(lists: list[list[int]], on_gpu: bool) -> None:
    policy = GPU if on_gpu else processor_policy(2, budget=100)
    queue = RunQueue(policy)
    calls = [call_of(*lengths, policy=policy) for lengths in lists]
    ends: list[Call] = []
    for call in calls:
        call.on_end = lambda call=call: ends.append(call)  # type: ignore[misc]
        queue.submit(call)
    runs = 0
    while queue.metrics(StageTimes()).waiting_calls:
        do(queue)
        runs += 1
    assert sorted(map(id, ends)) == sorted(map(id, calls))
    for call, lengths in zip(calls, lists, strict=True):
        assert call.error is None
        assert call.logits.tolist() == logits_of(tuple(lengths))
    metrics = queue.metrics(StageTimes())
    assert (metrics.completed, metrics.pairs, metrics.runs) == (len(calls), sum(map(len, lists)), runs)
    assert metrics.pair_tokens == sum(map(sum, lists)) <= metrics.computed_tokens
    assert sum(metrics.wait_counts) == len(calls)


def test_a_short_call_does_not_wait_for_a_long_list() -> None:
    queue = queue_of()
    long, short = call_of(*[9] * 300), call_of(9)
    queue.submit(long)
    do(queue)
    queue.submit(short)
    do(queue)
    assert short.ended and not long.ended


def test_batches_of_equal_width_are_joined_on_a_processor() -> None:
    queue = queue_of(budget=100)
    first, second, third = call_of(30), call_of(30, 20), call_of(30)
    for call in (first, second, third):
        queue.submit(call)
    run = do(queue)
    assert [len(row) for row in run.planned.rows] == [1, 1, 1]
    assert run.planned.width == 30
    assert first.ended and third.ended and not second.ended
    assert queue.metrics(StageTimes()).joined_runs == 1


def test_calls_of_other_classes_are_not_joined() -> None:
    queue = queue_of(budget=100)
    for priority in (0, 1):
        queue.submit(call_of(30, urgency=Urgency(priority)))
    assert len(do(queue).parts) == 1


def test_the_only_call_gets_all_threads_for_its_odd_batch() -> None:
    queue = queue_of()
    odd = call_of(9, 9, 9)
    assert odd.batches.run_alone
    queue.submit(odd)
    first = take(queue)
    assert not first.shares_threads
    other = call_of(9)
    queue.submit(other)
    assert take(queue).parts[0][0] is other  # the rest of the list waits until its batch with all threads has ended
    queue.finish(first, 0.001)
    assert take(queue).parts[0][0] is odd


def test_one_long_batch_runs_at_a_time_and_leaves_a_worker_for_short_ones() -> None:
    queue = queue_of()
    long = [call_of(2000), call_of(2000)]
    for call in long:
        queue.submit(call)
    first = take(queue)
    assert not first.shares_threads  # only long ones wait
    short = call_of(9)
    queue.submit(short)
    second = take(queue)
    assert second.parts[0][0] is short and second.shares_threads
    queue.finish(second, 0.001)
    queue.finish(first, 0.001)
    third = take(queue)
    assert third.parts[0][0] is long[1]


def test_a_caller_runs_alone_only_while_nothing_else_runs_or_waits() -> None:
    queue = queue_of()
    first, second = call_of(9), call_of(9)
    run = queue.take_alone(first)
    assert run is not None and not run.shares_threads
    assert queue.take_alone(second) is None
    queue.submit(second)
    assert take(queue).shares_threads


@pytest.mark.parametrize(("limit", "taken"), [(100, 8), (1000, 80)])
def test_a_full_queue_refuses_at_once_with_the_figures(limit: int, taken: int) -> None:
    """Each list counts with an eighth of the limit, so eight long ones fill the queue."""
    queue = queue_of(limit)
    for _ in range(8):
        queue.submit(call_of(*[1] * limit))
    with pytest.raises(OverloadedError) as caught:
        queue.submit(call_of(7))
    details = caught.value.details
    assert (details["waiting_tokens"], details["tokens"], details["limit"]) == (
        taken * limit // taken // 8 * 8,
        7,
        limit,
    )
    assert details["retry_after"] is None  # nothing has run
    assert queue.metrics(StageTimes()).refused == 1


def test_a_refusal_estimates_the_wait() -> None:
    queue = queue_of(100)
    for _ in range(8):
        queue.submit(call_of(*[1] * 100))
    for _ in range(4):
        run = take(queue)
        queue.finish(run, 0.010)
    with pytest.raises(OverloadedError) as caught:
        queue.submit(call_of(7))
    assert caught.value.details["estimated_wait"] == pytest.approx(796 * 0.010 / 2, rel=0.1)
    assert 0 < caught.value.details["retry_after"] < caught.value.details["estimated_wait"]


def test_a_later_window_of_a_list_waits_for_room_instead() -> None:
    queue = queue_of(8)
    held = [call_of(1, 1) for _ in range(8)]
    for call in held:
        queue.submit(call)
    later = call_of(5)
    queue.submit(later, continues=True)
    assert queue.metrics(StageTimes()).entering_calls == 1
    with pytest.raises(OverloadedError):
        queue.submit(call_of(1))
    while queue.metrics(StageTimes()).waiting_calls:
        do(queue)
    assert later.logits.tolist() == [[5.0]]
    queue.submit(call_of(1))


def test_a_withdrawn_call_computes_nothing_more_and_gives_its_place_back() -> None:
    queue = queue_of(64)
    calls = [call_of(*[8] * 8) for _ in range(8)]
    for call in calls:
        queue.submit(call)
    ends: list[str] = []
    calls[0].on_end = lambda: ends.append("ended")
    run = take(queue)
    assert run.parts[0][0] is calls[0]
    assert queue.withdraw(calls[0], CallCancelledError())
    assert not queue.withdraw(calls[0], CallCancelledError())  # twice: nothing happens
    compute(run)
    queue.finish(run, 0.001)
    assert ends == ["ended"]
    queue.submit(call_of(8))
    while queue.metrics(StageTimes()).waiting_calls:
        assert calls[0] not in [call for call, _ in do(queue).parts]
    assert queue.metrics(StageTimes()).cancelled == 1


def test_a_call_that_was_withdrawn_before_it_came_is_refused() -> None:
    queue = queue_of()
    call = call_of(9)
    queue.withdraw(call, ClosedError("its owner was closed"))
    with pytest.raises(ClosedError, match="its owner"):
        queue.submit(call)
    assert waits(queue) == (0, 0)


def test_closing_waits_for_the_runs_of_other_threads_only() -> None:
    queue = queue_of()
    assert queue.take_alone(call_of(9)) is not None
    queue.close()  # in the thread that has the run: it returns
    queue = queue_of()
    call = call_of(9)
    with ThreadPoolExecutor(1) as other:
        run = other.submit(queue.take_alone, call).result()
        assert run is not None
        closing = threading.Thread(target=queue.close)
        closing.start()
        closing.join(0.05)
        assert closing.is_alive()
        compute(run)
        queue.finish(run, 0.001)
        closing.join(10)
        assert not closing.is_alive()
    assert call.error is None and call.logits.tolist() == [[9.0]]


def test_an_overdue_call_is_not_run() -> None:
    queue = queue_of()
    late = call_of(9, urgency=Urgency.of(timeout=0.001))
    queue.submit(late)
    time.sleep(0.002)
    other = call_of(9)
    queue.submit(other)
    assert take(queue).parts[0][0] is other
    assert isinstance(late.error, DeadlineError)
    assert late.error.details["timeout"] == 0.001
    with pytest.raises(DeadlineError):
        queue.submit(call_of(9, urgency=late.urgency))


def test_the_earliest_deadline_is_served_first() -> None:
    queue = queue_of()
    calls = [call_of(9, urgency=Urgency.of(timeout=timeout)) for timeout in (None, 60, 30)]
    for call in calls:
        queue.submit(call)
    assert take(queue).parts[0][0] is calls[2]


def test_an_error_is_that_of_its_calls() -> None:
    queue = queue_of()
    failing, other = call_of(9, 8, 7), call_of(9, 9, 9, 9)
    for call in (failing, other):
        queue.submit(call)
    run = take(queue)
    queue.finish(run, 0.001, {failing: ValueError("this run")})
    assert isinstance(failing.error, ValueError)
    while not other.ended:
        do(queue)
    assert other.error is None and other.ended
    assert waits(queue) == (0, 0)


def test_a_closed_queue_ends_what_waits_and_refuses_more() -> None:
    queue = queue_of(8)
    waiting, entering = call_of(8), call_of(8)
    queue.submit(waiting)
    for _ in range(8):
        queue.submit(entering, continues=True)
        break
    queue.close()
    assert isinstance(waiting.error, ClosedError)
    assert isinstance(entering.error, ClosedError)
    assert queue.take() is None
    for use in (queue.submit, queue.take_alone):
        with pytest.raises(ClosedError):
            use(call_of(9))


@given(st.data())
def test_the_limit_holds_and_nothing_leaks(data: st.DataObject) -> None:
    """Whatever comes, is taken, is withdrawn or fails: the queue never holds more, and in the end it is empty."""
    limit = 64
    queue = queue_of(limit, budget=16)
    calls: list[Call] = []
    running: list[Run] = []
    for step in data.draw(
        st.lists(st.sampled_from(["submit", "continue", "take", "finish", "fail", "leave"]), max_size=60)
    ):
        if step in ("submit", "continue"):
            call = call_of(*data.draw(st.lists(st.integers(1, 20), min_size=1, max_size=8)))
            try:
                queue.submit(call, continues=step == "continue")
                calls.append(call)
            except OverloadedError:
                assert step == "submit"
        elif step == "take" and waits(queue)[0] and len(running) < 2:
            running.append(take(queue))
        elif step in ("finish", "fail") and running:
            run = running.pop()
            compute(run)
            queue.finish(run, 0.001, {call: ValueError() for call, _ in run.parts} if step == "fail" else None)
        elif step == "leave" and calls:
            queue.withdraw(data.draw(st.sampled_from(calls)), CallCancelledError())
        assert 0 <= queue._counted_tokens <= limit
    for run in running:
        compute(run)
        queue.finish(run, 0.001)
    while waits(queue)[0]:
        do(queue)
    assert waits(queue) == (0, 0)
    assert queue._counted_tokens == 0
    assert all(call.ended for call in calls)
    for call in calls:
        if call.error is None:
            assert call.logits[:, 0].tolist() == [float(len(ids)) for ids in call.token_ids]


@pytest.mark.parametrize("priority", [-1, MAX_PRIORITY + 1, 1.5, "0", None, True])
def test_a_priority_outside_its_range_is_refused(priority: object) -> None:
    with pytest.raises(InputError) as caught:
        Urgency.of(priority=priority)
    assert caught.value.details["argument"] == "priority"


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), "1", True])
def test_a_timeout_that_is_not_a_time_is_refused(timeout: object) -> None:
    with pytest.raises(InputError) as caught:
        Urgency.of(timeout=timeout)
    assert caught.value.details["argument"] == "timeout"


def test_numbers_of_numpy_are_taken() -> None:
    urgency = Urgency.of(np.int64(3), np.float32(2.5))
    assert (urgency.priority, urgency.timeout) == (3, 2.5)
