"""match_points: the card's vectors, the organisers' ties, brute force and refusals."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from medsynth_ext import ops


def match(predictions, labels, radius, device="cpu", **options):
    """Pairs of one sample as a list."""
    p, t = (torch.tensor(v, dtype=torch.float64, device=device).reshape(1, len(v), 2) for v in (predictions, labels))
    return ops.match_points(p, t, radius, **options)[0][0].tolist()


def test_vectors_of_the_card(device):
    assert match([(10, 10), (10, 22)], [(10, 16)], 6.0, device) == [-1, 0]
    assert match([(0, 0), (0, 7)], [(0, 5), (0, 1)], 6.0, device) == [1, 0]
    assert match([], [(0, 0), (1, 1), (2, 2)], 6.0, device) == []
    assert match([(0, 0), (1, 1)], [], 6.0, device) == [-1, -1]
    crossing = ([(0, 2), (0, 7)], [(0, 6), (0, 12)], 5.0)
    assert match(*crossing, device) == [-1, 0]
    assert match(*crossing, device, method="hungarian") == [0, 1]


def test_of_equally_close_pairs_the_last_counts(device):
    assert match([(0, 0), (0, 4)], [(0, 2)], 3.0, device) == [-1, 0]
    assert match([(0, 2)], [(0, 0), (0, 4)], 3.0, device) == [1]
    assert match([(0, 0), (0, 0)], [(0, 0), (0, 0)], 1.0, device) == [0, 1]  # (1, 1) first, then (0, 0)


def test_the_radius_itself_matches_and_beyond_does_not(device):
    assert match([(0, 0)], [(0, 6)], 6.0, device) == [0]
    assert match([(0, 0)], [(0, np.nextafter(6.0, 7.0))], 6.0, device) == [-1]


def organisers_script(predictions, labels, radius):
    """Closest free pair again and again; a later pair of the same distance replaces an earlier one."""
    pairs = [-1] * len(predictions)
    used = set()
    while True:
        best = None
        for i, j in itertools.product(range(len(predictions)), range(len(labels))):
            d = np.sqrt(((predictions[i] - labels[j]) ** 2).sum())
            if pairs[i] < 0 and j not in used and d <= radius and (best is None or d <= best[0]):
                best = (d, i, j)
        if best is None:
            return pairs
        pairs[best[1]] = best[2]
        used.add(best[2])


@pytest.mark.parametrize("seed", range(6))
def test_greedy_matching_equals_the_script(device, seed):
    g = torch.Generator().manual_seed(seed)
    p = torch.randint(0, 12, (4, 9, 2), generator=g).double()  # on a grid, so with many ties
    t = torch.randint(0, 12, (4, 7, 2), generator=g).double()
    found, distance = ops.match_points(p.to(device), t.to(device), 3.0)
    for b in range(4):
        want = organisers_script(p[b].numpy(), t[b].numpy(), 3.0)
        assert found[b].tolist() == want
        for i, j in enumerate(want):
            d = distance[b, i].item()
            assert math.isnan(d) if j < 0 else d == pytest.approx((p[b, i] - t[b, j]).norm().item())


@pytest.mark.parametrize("seed", range(4))
def test_hungarian_matching_has_most_pairs_then_least_distance(seed):
    g = torch.Generator().manual_seed(seed)
    p, t = torch.rand(1, 5, 2, generator=g) * 8, torch.rand(1, 4, 2, generator=g) * 8
    pair, distance = ops.match_points(p, t, 2.5, method="hungarian")
    best = (0, 0.0)
    for order in itertools.permutations([*range(4), -1, -1, -1, -1], 5):
        d = [(p[0, i].double() - t[0, j].double()).norm().item() for i, j in enumerate(order) if j >= 0]
        d = [v for v in d if v <= 2.5]
        if len(d) > best[0] or (len(d) == best[0] and sum(d) < best[1]):
            best = (len(d), sum(d))
    assert (pair >= 0).sum().item() == best[0]
    assert distance.nansum().item() == pytest.approx(best[1])


def test_points_that_do_not_count_take_no_part(device):
    p = torch.tensor([[[0.0, 0.0], [math.nan, 1.0], [2.0, 2.0]]], device=device)
    t = torch.tensor([[[0.0, 0.1], [2.0, 2.1]]], device=device)
    assert ops.match_points(p, t, 5.0)[0].tolist() == [[0, -1, 1]]
    valid = torch.tensor([[True, True, False]], device=device)
    assert ops.match_points(p, t, 5.0, valid_predictions=valid)[0].tolist() == [[0, -1, -1]]
    valid = torch.tensor([[False, True]], device=device)
    assert ops.match_points(p, t, 5.0, valid_labels=valid)[0].tolist() == [[-1, -1, 1]]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"predictions": torch.zeros(1, 2, 2).int()}, TypeError, "predictions must"),
        ({"labels": torch.zeros(2, 2)}, ValueError, "labels must"),
        ({"labels": torch.zeros(2, 3, 2)}, ValueError, "same batch"),
        ({"labels": torch.zeros(1, 3, 3)}, ValueError, "same batch"),
        ({"radius": -1.0}, ValueError, "radius"),
        ({"radius": math.inf}, ValueError, "radius"),
        ({"method": "nearest"}, ValueError, "method"),
        ({"valid_labels": torch.ones(1, 2, dtype=torch.bool)}, ValueError, "valid_labels"),
    ],
)
def test_bad_arguments_are_refused(change, error, message):
    good = {"predictions": torch.zeros(1, 2, 2), "labels": torch.zeros(1, 3, 2), "radius": 1.0}
    with pytest.raises(error, match=message):
        ops.match_points(**(good | change))
