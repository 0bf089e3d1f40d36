from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.metrics import HausdorffDistanceMetric
from monai.networks.utils import one_hot

from medsynth_ext.metrics import LabelSurfaceDistance


def box(low, high, size=12, value=1):
    labels = torch.zeros(1, 1, size, size, size, dtype=torch.long)
    labels[..., low:high, low:high, low:high] = value
    return labels


def test_a_shift_by_three_voxels_is_three_spacings():
    true = torch.zeros(1, 1, 16, 8, 8, dtype=torch.long)
    true[..., 2:6, 2:6, 2:6] = 1
    shifted = true.roll(3, dims=2)
    metric = LabelSurfaceDistance(2, percentile=100)
    assert metric(shifted, true).item() == 3
    stretched = MetaTensor(true, affine=torch.diag(torch.tensor([2.0, 1.0, 1.0, 1.0])))
    assert metric(shifted, stretched).item() == 6


def test_equal_maps_have_distance_zero_and_missing_classes_do_not_count():
    true = box(2, 6) + box(7, 10, value=2)
    values = LabelSurfaceDistance(4)(true, true)
    assert values[0, :2].tolist() == [0, 0]
    assert torch.isnan(values[0, 2])


def test_it_agrees_with_monai_on_one_hot_channels():
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 4, (2, 2, 1, 5, 5, 5))
    pred, true = (torch.from_numpy(np.kron(part, np.ones((1, 1, 3, 3, 3))).astype(np.int64)) for part in coarse)
    ours = LabelSurfaceDistance(4)(pred, true)
    theirs = HausdorffDistanceMetric(include_background=False, percentile=95)(one_hot(pred, 4), one_hot(true, 4))
    assert torch.allclose(ours, theirs.float(), atol=1e-4)


def test_the_mean_leaves_out_what_was_not_measured():
    metric = LabelSurfaceDistance(3, percentile=100)
    true = box(4, 8)
    metric(true.roll(1, dims=2), true)
    metric(true.roll(3, dims=2), true)
    assert metric.aggregate().item() == pytest.approx(2)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"must both be \(B, 1, \*S\) class indices, got \(1, 1, 12, 12, 12\)"):
        LabelSurfaceDistance(2)(box(1, 2), box(1, 2, size=10))
