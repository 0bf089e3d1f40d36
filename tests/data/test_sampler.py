from __future__ import annotations

from collections import Counter

import pytest
from torch.utils.data import DataLoader

from medsynth_ext.data.sampler import CounterSampler, whole_batches


def draws(n=10, *, epoch=1, **options):
    options = {"samples_per_epoch": 24, "batch_size": 2, "seed": 3, "num_replicas": 1, "rank": 0} | options
    sampler = CounterSampler(range(n), **options)
    sampler.set_epoch(epoch)
    return list(sampler)


def test_draws_depend_on_seed_and_epoch_only():
    assert draws() == draws()
    assert draws() != draws(epoch=2)
    assert draws() != draws(seed=4)
    assert draws()[:10] == draws(samples_per_epoch=10)  # a longer epoch has the same beginning


@pytest.mark.parametrize("world", [2, 3, 6])
def test_processes_together_see_what_one_sees(world):
    batch = 12 // world
    ranks = [draws(batch_size=batch, num_replicas=world, rank=r) for r in range(world)]
    together = [i for start in range(0, 24 // world, batch) for own in ranks for i in own[start : start + batch]]
    assert together == draws(batch_size=12)


def test_draws_are_uniform():
    counts = Counter(draws(n=7, samples_per_epoch=70000))
    assert set(counts) == set(range(7))
    # Multinomial deviation of a count is 93; six of them are allowed.
    assert max(abs(count - 10000) for count in counts.values()) < 6 * 93


def test_known_draws():
    assert draws(n=1000, samples_per_epoch=4, seed=0, epoch=0, batch_size=1) == [
        11,
        241,
        111,
        564,
    ]  # resuming must not change with a library's version


def test_it_works_in_a_loader_and_gives_its_length():
    loader = DataLoader(range(5), batch_size=3, sampler=CounterSampler(range(5), samples_per_epoch=9, batch_size=3))
    assert len(loader) == 3
    assert [len(batch) for batch in loader] == [3, 3, 3]


def test_samples_must_fill_all_batches():
    message = r"samples_per_epoch must be a multiple of 6 \(3 per batch x 2 processes\), got 8"
    with pytest.raises(ValueError, match=message):
        draws(samples_per_epoch=8, batch_size=3, num_replicas=2)


def test_an_empty_data_set_is_refused():
    with pytest.raises(ValueError, match="the data set to draw from is empty"):
        draws(n=0)


def test_parts_take_turns_whatever_their_lengths():
    data = list(range(13))
    sampler = CounterSampler(data, samples_per_epoch=400, batch_size=4, parts=[10, 0, 3])
    drawn = list(sampler)
    assert all(item < 10 for item in drawn[0::2])
    assert all(item >= 10 for item in drawn[1::2])
    assert set(drawn) == set(data)
    alone = CounterSampler(data[:10], samples_per_epoch=400, batch_size=4, parts=[10, 0])
    assert list(alone) == list(CounterSampler(data[:10], samples_per_epoch=400, batch_size=4))
    with pytest.raises(ValueError, match=r"parts must add up to the 13 items, got \[10\]"):
        CounterSampler(data, samples_per_epoch=4, batch_size=4, parts=[10])


@pytest.mark.parametrize(("samples", "world", "wanted"), [(100, 1, 100), (100, 2, 80), (100, 3, 60), (30, 2, 40)])
def test_an_epoch_is_cut_to_whole_batches_on_all_processes(monkeypatch, samples, world, wanted):
    monkeypatch.setattr("medsynth_ext.data.sampler.rank_and_world", lambda: (0, world))
    assert whole_batches(samples, 20) == wanted
    CounterSampler(range(7), samples_per_epoch=wanted, batch_size=20)
