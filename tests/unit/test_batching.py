"""Batches hold every example once, weigh it rightly and come in an order that can be resumed anywhere."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datamodules.batching import EvalBatchSampler, MicroBatch, TrainBatchSampler, pad
from ernie_m.errors import InputError

lengths_of = st.lists(st.integers(1, 40), min_size=1, max_size=80)
sizes = st.integers(1, 12)
worlds = st.integers(1, 5)


def example_counts(micro_batches: list[MicroBatch]) -> Counter[int]:
    """How often each row occurs with its full weight; fillers do not count."""
    counts: Counter[int] = Counter()
    for micro in micro_batches:
        counts.update(micro.indices[micro.weights == 1].tolist())
        assert set(micro.weights.tolist()) <= {0.0, 1.0}
    return counts


@given(lengths_of, sizes, st.none() | sizes, worlds, st.integers(0, 3), st.integers(0, 5))
def test_every_example_once_per_epoch_on_any_number_of_processes(lengths, batch, micro, world, seed, epoch):
    samplers = [TrainBatchSampler(lengths, batch, micro, seed, rank, world) for rank in range(world)]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    ranks = [list(sampler) for sampler in samplers]
    assert {len(steps) for steps in ranks} == {len(samplers[0])} == {-(-len(lengths) // batch)}
    seen: Counter[int] = Counter()
    for step in zip(*ranks, strict=True):
        assert len({len(micro_batches) for micro_batches in step}) == 1, "processes in step"
        counts = example_counts([m for micro_batches in step for m in micro_batches])
        assert sum(counts.values()) <= batch
        seen += counts
        assert all(len(m.indices) <= (micro or batch) for micro_batches in step for m in micro_batches)
        # Averaged over the processes, losses of 1 must come to 1: the normalisers make the mean over the global batch.
        share = sum(m.weights.sum() / m.normaliser for micro_batches in step for m in micro_batches) / world
        assert share == pytest.approx(1)
    assert seen == Counter(range(len(lengths)))


@given(lengths_of, sizes, worlds, st.data())
def test_normalisers_are_the_weight_of_the_global_batch(lengths, batch, world, data):
    weights = np.array(data.draw(st.lists(st.integers(0, 9), min_size=len(lengths), max_size=len(lengths))))
    samplers = [TrainBatchSampler(lengths, batch, 3, 0, rank, world, example_weights=weights) for rank in range(world)]
    for step in zip(*samplers, strict=True):
        micro_batches = [m for rank in step for m in rank]
        whole = sum(weights[m.indices][m.weights == 1].sum() for m in micro_batches)
        assert {m.normaliser for m in micro_batches} == {whole / world or 1.0}


@given(lengths_of, sizes, worlds, sizes, worlds, st.integers(0, 100))
def test_continues_on_another_number_of_processes(lengths, batch, world, micro, other_world, steps):
    first = TrainBatchSampler(lengths, batch, None, 7, world - 1, world)
    first.set_epoch(*divmod(steps, len(first)))
    state = first.state_dict()
    assert state["epoch"] * len(first) + state["consumed"] == steps
    expected = first.global_batches(state["epoch"])[state["consumed"] :]
    ranks = [TrainBatchSampler(lengths, batch, micro, 7, rank, other_world) for rank in range(other_world)]
    for sampler in ranks:
        sampler.load_state_dict(state)
    for whole, step in zip(expected, zip(*ranks, strict=True), strict=True):
        assert example_counts([m for rank in step for m in rank]) == Counter(whole.tolist())


@given(lengths_of, sizes, worlds, st.integers(1, 200))
def test_micro_batches_keep_within_their_tokens_and_differ_in_nothing_else(lengths, batch, world, tokens):
    lengths = np.asarray(lengths)
    ranks = [TrainBatchSampler(lengths, batch, None, 3, r, world, micro_batch_tokens=tokens) for r in range(world)]
    whole = TrainBatchSampler(lengths, batch, None, 3)
    for step, expected in zip(zip(*ranks, strict=True), whole, strict=True):
        assert len({len(micro_batches) for micro_batches in step}) == 1
        micro_batches = [m for rank in step for m in rank]
        assert example_counts(micro_batches) == example_counts(expected)
        for m in micro_batches:
            assert len(m.indices) == 1 or len(m.indices) * lengths[m.indices].max() <= tokens


@pytest.mark.parametrize(
    ("lengths", "rows", "tokens", "expected"),
    [
        ([10] * 30 + [200, 200], None, 400, [30, 2]),
        ([10] * 30, None, 200, [15, 15]),
        ([10] * 30, 20, None, [15, 15]),
        ([10] * 30 + [500], None, 300, [30, 1]),
        ([10, 10, 20, 20, 40], None, 60, [2, 2, 1]),
        ([10] * 30, None, None, [30]),
    ],
)
def test_micro_batches_are_few_and_even(lengths, rows, tokens, expected):
    (step,) = TrainBatchSampler(lengths, len(lengths), rows, micro_batch_tokens=tokens)
    assert [len(m.indices) for m in step] == expected


def test_order_differs_by_epoch_and_seed_and_repeats_otherwise():
    lengths = np.random.default_rng(0).integers(5, 90, size=4000)

    def order(seed, epoch):
        return np.concatenate(TrainBatchSampler(lengths, 32, seed=seed).global_batches(epoch)).tolist()

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)
    # It is not only the order of the same batches that changes: who is together does, too.
    sampler = TrainBatchSampler(lengths, 32, seed=1)
    together = [{tuple(sorted(batch)) for batch in sampler.global_batches(epoch)} for epoch in (0, 1)]
    assert len(together[0] & together[1]) == 0


def test_like_lengths_meet_and_lengths_do_not_tell_the_place_in_the_epoch(padding_share):
    lengths = np.random.default_rng(0).lognormal(3.6, 0.6, size=20000).astype(int) + 6
    sampler = TrainBatchSampler(lengths, 32, seed=3)
    batches = sampler.global_batches(0)
    assert padding_share(batches, lengths) < 0.05
    shuffled = np.array_split(np.random.default_rng(1).permutation(len(lengths)), len(batches))
    assert padding_share(shuffled, lengths) > 0.3
    longest = [lengths[batch].max() for batch in batches]
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.15


def test_the_longest_batch_comes_first_where_that_is_asked_for():
    lengths = np.random.default_rng(0).integers(1, 300, 500)
    sampler = TrainBatchSampler(lengths, 8, pool_batches=10)
    shuffled = [sorted(batch) for batch in sampler.global_batches(0)]
    sampler.longest_first = True
    first, *rest = (sorted(batch) for batch in sampler.global_batches(0))
    assert lengths[first].max() == max(lengths[batch].max() for batch in shuffled if len(batch) == 8)
    shuffled.remove(first)
    assert rest == shuffled


@pytest.mark.parametrize("world", [1, 3])
def test_the_first_batch_has_the_largest_micro_batch_where_batches_are_split(world):
    lengths = np.random.default_rng(0).integers(100, 257, 640)
    ranks = [TrainBatchSampler(lengths, 32, None, 1, r, world, micro_batch_tokens=2048 // world) for r in range(world)]
    for sampler in ranks:
        sampler.longest_first = True
    assert len({tuple(map(tuple, sampler.global_batches(0))) for sampler in ranks}) == 1
    largest = [
        max(len(m.indices) * lengths[m.indices].max() for micro_batches in step for m in micro_batches)
        for step in zip(*ranks, strict=True)
    ]
    assert largest[0] == max(largest)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=9), st.integers(1, 9), st.integers(1, 120))
def test_no_other_micro_batches_are_fewer_or_more_even(lengths, rows, tokens):
    lengths = np.sort(lengths)
    (step,) = TrainBatchSampler(lengths, len(lengths), rows, micro_batch_tokens=tokens)
    found = [len(m.indices) for m in step]

    def sizes(parts):
        return [len(part) * part[-1] for part in parts]

    admitted = []
    for count in range(len(lengths)):
        for cuts in itertools.combinations(range(1, len(lengths)), count):
            parts = np.split(lengths, cuts)
            if all(len(part) == 1 or (len(part) <= rows and len(part) * part[-1] <= tokens) for part in parts):
                admitted.append(parts)
    fewest = min(map(len, admitted))
    assert len(found) == fewest
    best = min(max(sizes(parts)) for parts in admitted if len(parts) == fewest)
    assert max(sizes(np.split(lengths, np.cumsum(found)[:-1]))) == best


def test_what_remains_comes_last_and_changes():
    lengths = np.arange(1, 104)
    sampler = TrainBatchSampler(lengths, 10)
    remaining = []
    for epoch in range(8):
        batches = sampler.global_batches(epoch)
        assert [len(batch) for batch in batches] == [10] * 10 + [3]
        remaining.append(tuple(batches[-1]))
    assert len(set(remaining)) > 1


def test_processes_get_like_loads():
    lengths = np.random.default_rng(0).integers(5, 200, size=1024)
    ranks = [list(TrainBatchSampler(lengths, 128, seed=1, rank=rank, world_size=4)) for rank in range(4)]
    for step in zip(*ranks, strict=True):
        loads = [sum(lengths[m.indices].sum() for m in micro_batches) for micro_batches in step]
        assert max(loads) < 1.1 * min(loads)


@given(lengths_of, sizes, st.data())
def test_groups_never_meet(lengths, batch, data):
    groups = data.draw(st.lists(st.sampled_from([0, 4, 9]), min_size=len(lengths), max_size=len(lengths)))
    sampler = TrainBatchSampler(lengths, batch, groups=groups)
    batches = sampler.global_batches(2)
    assert len(batches) == len(sampler)
    assert all(len({groups[row] for row in rows}) == 1 for rows in batches)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert sum(len(rows) < batch for rows in batches) <= len(set(groups))


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=90), st.integers(1, 6))
def test_equal_keys_part_without_losing_anyone(keys, batch):
    lengths = [1 + a for a, _ in keys]
    sampler = TrainBatchSampler(lengths, batch, keys=keys, seed=5)
    batches = sampler.global_batches(0)
    plain = TrainBatchSampler(lengths, batch, seed=5).global_batches(0)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(keys)))
    assert sorted(map(len, batches)) == sorted(map(len, plain))

    def clashes(plan):
        return sum(len(rows) - len({keys[row][side] for row in rows}) for rows in plan for side in (0, 1))

    assert clashes(batches) <= clashes(plain)


def test_equal_keys_part_where_there_is_room():
    # Each of 500 sentences six times, with like lengths, as in text translated into six languages.
    keys = np.repeat(np.arange(500), 6)
    sampler = TrainBatchSampler(5 + keys % 50, 32, keys=keys)
    for batch in sampler.global_batches(0):
        assert len(set(keys[batch].tolist())) == len(batch)
    plain = TrainBatchSampler(5 + keys % 50, 32).global_batches(0)
    assert any(len(set(keys[batch].tolist())) < len(batch) for batch in plain)


@given(lengths_of, st.integers(1, 200), worlds)
def test_evaluation_takes_each_example_once(lengths, budget, world):
    ranks = [list(EvalBatchSampler(lengths, budget, rank, world)) for rank in range(world)]
    assert len({len(batches) for batches in ranks}) == 1
    assert len(ranks[0]) == len(EvalBatchSampler(lengths, budget, 0, world))
    assert example_counts([m for batches in ranks for m in batches]) == Counter(range(len(lengths)))
    in_turn = [m for step in zip(*ranks, strict=True) for m in step if m.weights.any()]
    longest = [max(lengths[row] for row in m.indices) for m in in_turn]
    assert longest[0] == max(lengths)
    assert longest == sorted(longest, reverse=True)
    for micro in in_turn:
        rows = [lengths[row] for row in micro.indices]
        assert len(rows) == 1 or len(rows) * max(rows) <= budget


def test_evaluation_fills_its_budget():
    lengths = np.full(1000, 10)
    assert [len(m.indices) for m in EvalBatchSampler(lengths, 2000)] == [200] * 5


def test_another_order_is_not_continued():
    state = TrainBatchSampler([3] * 10, 2, seed=1).state_dict()
    with pytest.raises(InputError, match=r"global_batch_size was 2 and is 4, seed was 1 and is 9"):
        TrainBatchSampler([3] * 10, 4, seed=9).load_state_dict(state)
    with pytest.raises(InputError, match="examples was 10 and is 11"):
        TrainBatchSampler([3] * 11, 2, seed=1).load_state_dict(state)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], 4), "no examples"),
        (([1], 0), "global_batch_size is 0"),
        (([1], 4, 0), "micro_batch_size is 0"),
        (([1], 4, 2, 0, 2, 2), "rank is 2"),
    ],
)
def test_impossible_plans_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        TrainBatchSampler(*arguments)


def test_pad():
    ids, mask = pad(np.array([5, 6, 7, 8]), np.array([3, 1]), value=1)
    assert ids.dtype == mask.dtype == torch.int64
    assert ids.tolist() == [[5, 6, 7], [8, 1, 1]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]
