"""Batches of several calls in one run: nothing lost or padded where it may not be, and only if it is faster."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from modernrank.backends.profiles import default_profiles, policy_of
from modernrank.batching.batch import PlannedBatch
from modernrank.batching.packing import plan
from modernrank.batching.policy import BatchPolicy
from modernrank.queue.joining import JointBatch
from support.calls import processor_policy

GPU = policy_of(default_profiles(8192), slots=32, workers=2)
LISTS = st.lists(st.lists(st.integers(1, 600), min_size=1, max_size=12), min_size=2, max_size=10)


def row_tokens(batch: PlannedBatch, lengths: list[int]) -> list[int]:
    return [sum(lengths[pair] for pair in row) for row in batch.rows]


def join(lists: list[list[int]], policy: BatchPolicy) -> tuple[JointBatch, list[PlannedBatch], list[int]]:
    """The joint batch of the first batch of each list, the batches in it, and the length of each of its pairs."""
    planned = [plan(lengths, policy).batches[0] for lengths in lists]
    joint = JointBatch(policy.packing, planned[0], row_tokens(planned[0], lists[0]))
    taken = [planned[0]] + [
        batch
        for batch, lengths in zip(planned[1:], lists[1:], strict=True)
        if joint.add(batch, row_tokens(batch, lengths))
    ]
    chosen = [(batch, lists[planned.index(batch)]) for batch in taken]
    return joint, taken, [lengths[pair] for batch, lengths in chosen for row in batch.rows for pair in row]


@given(LISTS)
def test_every_pair_is_in_one_row_and_fits(lists: list[list[int]]) -> None:
    for policy in (GPU, processor_policy(budget=256)):
        joint, _, lengths = join(lists, policy)
        batch = joint.planned
        assert sorted(pair for row in batch.rows for pair in row) == list(range(len(lengths)))
        assert all(tokens <= batch.width for tokens in row_tokens(batch, lengths))
        most = policy.packing.pairs_per_row
        assert most is None or batch.slots <= most
        assert len(batch.rows) <= max(policy.packing.shape(batch.width, batch.width)[1], 1)


@given(LISTS)
def test_nothing_is_padded_on_a_processor(lists: list[list[int]]) -> None:
    joint, _, lengths = join(lists, processor_policy(budget=256))
    assert row_tokens(joint.planned, lengths) == [joint.planned.width] * len(joint.planned.rows)


@given(LISTS)
def test_a_joint_run_takes_no_longer_than_its_parts(lists: list[list[int]]) -> None:
    def cost(batch: PlannedBatch) -> int:
        return max(batch.tokens, GPU.packing.launch_tokens)

    joint, taken, _ = join(lists, GPU)
    assert cost(joint.planned) <= sum(map(cost, taken))


def test_short_calls_share_a_run_of_a_gpu() -> None:
    """32 callers with five documents each: their rows fill half a batch, instead of 32 small ones."""
    joint, taken, _ = join([[100] * 5] * 32, GPU)
    assert len(taken) == 12  # 64 rows of 128 tokens
    assert (len(joint.planned.rows), joint.planned.width) == (60, 128)
    assert joint.planned.tokens == 7680


def test_short_rows_go_behind_others() -> None:
    joint, taken, _ = join([[400] * 3, [48], [40]], GPU)
    assert len(taken) == 3
    assert (len(joint.planned.rows), joint.planned.width) == (3, 448)  # the last two in the gaps of 48
