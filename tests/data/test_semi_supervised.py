"""Labelled and unlabelled batches by turns."""

from __future__ import annotations

import pytest

from medsynth_ext.data.semi_supervised import SemiSupervisedSampler


def batches(sampler, epoch):
    sampler.set_epoch(epoch)
    items = list(sampler)
    return [items[i : i + sampler.batch_size] for i in range(0, len(items), sampler.batch_size)]


def make(ratio=3, samples=20, **options):
    return SemiSupervisedSampler(
        range(3 + 50), labelled=3, ratio=ratio, samples_per_epoch=samples, batch_size=2, seed=1, **options
    )


def test_one_labelled_batch_after_every_ratio_unlabelled_ones_over_the_epochs() -> None:
    sampler = make()
    kinds = []
    for epoch in (1, 2, 3):
        for batch in batches(sampler, epoch):
            assert all(i < 3 for i in batch) or all(3 <= i < 53 for i in batch)
            kinds.append(batch[0] < 3)
    assert kinds == [i % 4 == 3 for i in range(30)]


def test_ratio_0_draws_labelled_samples_only_and_all_of_them() -> None:
    drawn = {i for epoch in range(1, 6) for batch in batches(make(ratio=0), epoch) for i in batch}
    assert drawn == {0, 1, 2}


def test_draws_depend_on_seed_and_epoch_alone() -> None:
    assert batches(make(), 2) == batches(make(), 2)
    assert batches(make(), 2) != batches(make(), 3)


def test_two_processes_see_what_one_with_twice_the_batch_sees() -> None:
    one = SemiSupervisedSampler(range(53), labelled=3, ratio=3, samples_per_epoch=16, batch_size=4, seed=1)
    parts = [make(samples=16, num_replicas=2, rank=rank) for rank in (0, 1)]
    whole = batches(one, 1)
    halves = [batches(part, 1) for part in parts]
    assert whole == [a + b for a, b in zip(*halves, strict=True)]


@pytest.mark.parametrize(("labelled", "total"), [(0, 5), (5, 5)])
def test_an_empty_part_is_named(labelled, total) -> None:
    sampler = SemiSupervisedSampler(range(total), labelled=labelled, ratio=1, samples_per_epoch=4, batch_size=2)
    with pytest.raises(ValueError, match=f"there must be labelled and, for the ratio 1, .* got {labelled} and"):
        list(sampler)


def test_a_negative_ratio_is_refused() -> None:
    with pytest.raises(ValueError, match="ratio must not be negative, got -1"):
        make(ratio=-1)
