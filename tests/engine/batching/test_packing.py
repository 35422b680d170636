"""Packing: every token exactly once, no row above its width, order restored, waste bounded."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modernrank import InputError
from modernrank.batching.batch import assemble, unpack
from modernrank.batching.packing import Plan, plan
from modernrank.batching.policy import BatchPolicy, PackingPolicy, SchedulePolicy, TokenBudget


def policy_for(tokens: int, pairs_per_row: int | None = None, minimum_fill: float = 0.75) -> BatchPolicy:
    return BatchPolicy(PackingPolicy(TokenBudget(tokens), pairs_per_row, minimum_fill))


LENGTHS = st.lists(st.integers(1, 300), max_size=60)
POLICIES = st.builds(
    policy_for,
    tokens=st.integers(1, 1000),
    pairs_per_row=st.sampled_from([None, 1, 2]),
    minimum_fill=st.floats(0.0, 1.0),
)
PAD = -1


def token_ids(lengths: list[int]) -> list[np.ndarray]:
    """Ids that say which pair and which position they are, so that none can be mistaken for another."""
    return [pair * 1000 + np.arange(length) for pair, length in enumerate(lengths)]


def rows_of(planned: Plan) -> list[tuple[int, ...]]:
    return [row for batch in planned.batches for row in batch.rows]


@given(LENGTHS, POLICIES)
def test_every_pair_is_placed_exactly_once(lengths: list[int], policy: BatchPolicy) -> None:
    placed = [pair for row in rows_of(plan(lengths, policy)) for pair in row]
    assert sorted(placed) == list(range(len(lengths)))


@given(LENGTHS, POLICIES)
def test_no_row_and_no_batch_exceeds_its_limit(lengths: list[int], policy: BatchPolicy) -> None:
    for planned in plan(lengths, policy).batches:
        assert all(sum(lengths[pair] for pair in row) <= planned.width for row in planned.rows)
        assert all(len(row) <= (policy.packing.pairs_per_row or len(row)) for row in planned.rows)
        assert len(planned.rows) == 1 or planned.tokens <= policy.packing.shape.tokens  # type: ignore[attr-defined]


@given(LENGTHS, POLICIES)
def test_waste_is_reported_and_bounded(lengths: list[int], policy: BatchPolicy) -> None:
    planned = plan(lengths, policy)
    computed = sum(len(batch.rows) * batch.width for batch in planned.batches)
    assert planned.computed_tokens == computed
    assert planned.waste == (pytest.approx(1 - sum(lengths) / computed) if lengths else 0.0)
    assert planned.waste <= 1 - policy.packing.minimum_fill + 1e-9


@given(LENGTHS, POLICIES)
def test_batches_hold_every_token_once_with_its_position(lengths: list[int], policy: BatchPolicy) -> None:
    ids = token_ids(lengths)
    seen = []
    for planned in plan(lengths, policy).batches:
        batch = assemble(planned, ids, PAD)
        real = batch.segment_ids > 0
        assert (batch.input_ids[~real] == PAD).all()
        assert (batch.position_ids[real] == batch.input_ids[real] % 1000).all()
        for r, row in enumerate(planned.rows):
            for segment, pair in enumerate(row, start=1):
                assert (batch.input_ids[r, batch.segment_ids[r] == segment] == ids[pair]).all()
        seen.extend(batch.input_ids[real])
    assert sorted(seen) == sorted(np.concatenate(ids)) if ids else seen == []


@given(LENGTHS, POLICIES)
def test_unpack_restores_the_order(lengths: list[int], policy: BatchPolicy) -> None:
    out = np.full((len(lengths), 2), np.nan, np.float32)
    for planned in plan(lengths, policy).batches:
        logits = np.full((len(planned.rows), planned.slots, 2), np.nan, np.float32)
        for r, row in enumerate(planned.rows):
            logits[r, : len(row)] = [(pair, -pair) for pair in row]
        unpack(planned, logits, out)
    assert (out == [(pair, -pair) for pair in range(len(lengths))]).all() if lengths else out.size == 0


def test_pairs_of_equal_length_get_rows_of_their_own() -> None:
    planned = plan([128] * 8, policy_for(512))
    assert [batch.rows for batch in planned.batches] == [((0,), (1,), (2,), (3,)), ((4,), (5,), (6,), (7,))]
    assert planned.waste == 0


def test_short_pairs_fill_the_gaps_of_long_ones() -> None:
    planned = plan([300, 100, 100, 90, 290], policy_for(600))
    assert planned.batches[0].rows == ((0,), (4,))
    assert planned.waste < 0.25


def test_a_real_mix_wastes_little() -> None:
    lengths = np.random.default_rng(0).lognormal(4.4, 0.4, 100).astype(int).tolist()
    assert plan(lengths, BatchPolicy()).waste < 0.05


def test_no_pairs_need_no_batches() -> None:
    assert plan([], BatchPolicy()).batches == ()
    assert plan([], BatchPolicy()).waste == 0


def test_a_pair_without_tokens_is_refused() -> None:
    with pytest.raises(InputError, match=r"\b0\b"):
        plan([3, 0], BatchPolicy())


def test_a_plan_prints_its_batches_by_kind() -> None:
    planned = plan([9, 9, 4, 30], BatchPolicy(PackingPolicy(TokenBudget(18), 1, 1.0), SchedulePolicy(2)))
    summary, _, *kinds = str(planned).splitlines()
    assert re.findall(r"\d+(?:\.\d)?", summary) == ["4", "52", "3", "0.0"]
    assert [re.findall(r"\d+", kind) for kind in kinds] == [
        ["1", "1", "30", "1"],
        ["1", "2", "9", "2"],
        ["1", "1", "4", "1"],
    ]
    alone = sum(kind.endswith("all") for kind in kinds)
    assert alone == len(planned.schedule.alone)


def test_a_plan_of_nothing_prints_too() -> None:
    assert str(plan([], BatchPolicy())).startswith("0 pairs of 0 tokens in 0 batches")
