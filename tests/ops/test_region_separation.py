"""Vector V3 of the suture card: from which distance on two ideal blobs are two regions."""

from __future__ import annotations

import pytest
import torch

from medsynth_ext import ops

SIZE = (288, 512)


def regions(distance: int, sigma: float, merge: str, opened: bool, device: torch.device) -> int:
    """Regions among two blobs at a distance along x; twelve more lie far from them and from one another."""
    others = [(y, x) for y in (40.0, 120.0, 200.0) for x in (60.0, 180.0, 300.0, 420.0)]
    points = torch.tensor([[*others, (250.0, 250.0), (250.0, 250.0 + distance)]], device=device)
    valid = torch.ones(1, 14, dtype=torch.bool, device=device)
    mask = ops.otsu_threshold(ops.render_point_map(points, valid, SIZE, sigma, merge=merge))[1]
    mask = ops.binary_opening(mask) if opened else mask
    return int(ops.connected_components(mask, connectivity=8).max()) - len(others)


@pytest.mark.parametrize(
    ("sigma", "merge", "opened", "first"),
    [
        (3.0, "max", False, 10),
        (3.0, "max", True, 10),
        (3.0, "sum_clip", False, 12),
        (3.0, "sum_clip", True, 12),
        (2.0, "max", False, 8),
        (2.0, "max", True, 8),
        (2.0, "sum_clip", False, 9),
        (2.0, "sum_clip", True, 8),
        (5.0, "max", False, 16),
        (5.0, "sum_clip", False, 20),
    ],
)
def test_blobs_are_two_regions_from_this_distance_on(device, sigma, merge, opened, first):
    assert regions(first - 1, sigma, merge, opened, device) == 1
    assert regions(first, sigma, merge, opened, device) == 2
