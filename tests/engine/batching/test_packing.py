"""Packing: every token exactly once, no row over its width, order restored, waste bounded."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modernrank import InputError
from modernrank.batching.batch import assemble, unpack
from modernrank.batching.packing import Plan, plan
from modernrank.batching.policy import BatchPolicy, PackingPolicy, TokenBudget


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
    return [row for run in planned.batches for row in run.rows]


@given(LENGTHS, POLICIES)
def test_every_pair_is_placed_exactly_once(lengths: list[int], policy: BatchPolicy) -> None:
    placed = [pair for row in rows_of(plan(lengths, policy)) for pair in row]
    assert sorted(placed) == list(range(len(lengths)))


@given(LENGTHS, POLICIES)
def test_no_row_and_no_run_exceeds_its_limit(lengths: list[int], policy: BatchPolicy) -> None:
    for run in plan(lengths, policy).runs:
        assert all(sum(lengths[pair] for pair in row) <= run.width for row in run.rows)
        assert all(len(row) <= (policy.packing.pairs_per_row or len(row)) for row in run.rows)
        assert len(run.rows) == 1 or len(run.rows) * run.width <= policy.packing.shape.tokens


@given(LENGTHS, POLICIES)
def test_waste_is_reported_and_bounded(lengths: list[int], policy: BatchPolicy) -> None:
    planned = plan(lengths, policy)
    computed = sum(len(run.rows) * run.width for run in planned.batches)
    assert planned.computed_tokens == computed
    assert planned.waste == (pytest.approx(1 - sum(lengths) / computed) if lengths else 0.0)
    assert planned.waste <= 1 - policy.packing.minimum_fill + 1e-9


@given(LENGTHS, POLICIES)
def test_batches_hold_every_token_once_with_its_position(lengths: list[int], policy: BatchPolicy) -> None:
    ids = token_ids(lengths)
    seen = []
    for run in plan(lengths, policy).runs:
        batch = assemble(run, ids, PAD)
        real = batch.segment_ids > 0
        assert (batch.input_ids[~real] == PAD).all()
        assert (batch.position_ids[real] == batch.input_ids[real] % 1000).all()
        for r, row in enumerate(run.rows):
            for segment, pair in enumerate(row, start=1):
                assert (batch.input_ids[r, batch.segment_ids[r] == segment] == ids[pair]).all()
        seen.extend(batch.input_ids[real])
    assert sorted(seen) == sorted(np.concatenate(ids)) if ids else seen == []


@given(LENGTHS, POLICIES)
def test_unpack_restores_the_order(lengths: list[int], policy: BatchPolicy) -> None:
    out = np.full((len(lengths), 2), np.nan, np.float32)
    for run in plan(lengths, policy).runs:
        logits = np.full((len(run.rows), run.slots, 2), np.nan, np.float32)
        for r, row in enumerate(run.rows):
            logits[r, : len(row)] = [(pair, -pair) for pair in row]
        unpack(run, logits, out)
    assert (out == [(pair, -pair) for pair in range(len(lengths))]).all() if lengths else out.size == 0


def test_pairs_of_like_length_get_rows_of_their_own() -> None:
    planned = plan([128] * 8, policy_for(512))
    assert [run.rows for run in planned.batches] == [((0,), (1,), (2,), (3,)), ((4,), (5,), (6,), (7,))]
    assert planned.waste == 0


def test_short_pairs_fill_what_long_ones_leave() -> None:
    planned = plan([300, 100, 100, 90, 290], policy_for(600))
    assert planned.batches[0].rows == ((0,), (4,))
    assert planned.waste < 0.25


def test_a_real_mix_wastes_little() -> None:
    lengths = np.random.default_rng(0).lognormal(4.4, 0.4, 100).astype(int).tolist()
    assert plan(lengths, BatchPolicy()).waste < 0.05


def test_no_pairs_need_no_runs() -> None:
    assert plan([], BatchPolicy()).batches == ()
    assert plan([], BatchPolicy()).waste == 0


def test_a_pair_without_tokens_is_refused() -> None:
    with pytest.raises(InputError, match="at least one token"):
        plan([3, 0], BatchPolicy())
