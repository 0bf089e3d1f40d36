"""Frechet and kernel distances of feature distributions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from medsynth_ext.metrics import DistributionDistance, feature_vectors, fid, kid
from medsynth_ext.networks import VGGFeatures


def features(count: int, size: int = 4, *, shift: float = 0.0, scale: float = 1.0, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed)) * scale + shift


def test_fid_of_shifted_and_widened_gaussians_is_the_closed_form():
    x, y = features(100_000, seed=0), features(100_000, shift=0.5, scale=2.0, seed=1)
    assert fid(x, y) == pytest.approx(4 * 0.5**2 + 4 * (2.0 - 1.0) ** 2, rel=0.02)
    assert fid(x, x) == pytest.approx(0, abs=1e-6)


def test_kid_is_the_estimate_written_out_as_a_double_sum():
    x, y = features(5, seed=0), features(5, shift=1.0, seed=1)

    def kernel(a, b):
        return (float(np.dot(a, b)) / 4 + 1) ** 3

    a, b = x.double().numpy(), y.double().numpy()
    within = sum(kernel(p[i], p[j]) for p in (a, b) for i in range(5) for j in range(5) if i != j) / 20
    across = sum(kernel(p, q) for p in a for q in b) / 25
    mean, deviation = kid(x, y, subsets=3, subset_size=5)
    assert mean == pytest.approx(within - 2 * across, rel=1e-9)
    assert deviation == pytest.approx(0, abs=1e-9)  # every subset is the whole set


def test_kid_is_unbiased_and_grows_with_the_distance():
    x = features(4000, seed=0)
    same, near, far = (kid(x, features(4000, shift=s, seed=1), subset_size=500)[0] for s in (0.0, 0.3, 0.6))
    assert abs(same) < 0.01
    assert 0.1 < near < far
    assert kid(x, x, seed=1) == kid(x, x, seed=1)


def test_kid_agrees_with_torchmetrics():
    torchmetrics = pytest.importorskip("torchmetrics.image.kid")
    x, y = features(20, seed=0), features(20, shift=0.4, seed=1)
    assert kid(x, y, subsets=1, subset_size=20)[0] == pytest.approx(
        float(torchmetrics.poly_mmd(x.double(), y.double())), rel=1e-6
    )


def test_features_are_averaged_over_space_and_taken_from_the_last_layer():
    network, images = VGGFeatures(width=1 / 16), torch.rand(3, 1, 32, 32)
    vectors = feature_vectors(network, images)
    assert torch.allclose(vectors, network(images)[-1].mean((2, 3)))
    assert torch.allclose(feature_vectors(network, [images[:2], images[2:]]), vectors, atol=1e-6)
    assert torch.equal(feature_vectors(nn.Flatten(), images), images.flatten(1))


@pytest.mark.parametrize("kind", ["fid", "kid"])
def test_metric_over_batches_is_the_distance_of_all_images(kind):
    x, y = features(12, seed=0), features(12, shift=1.0, seed=1)
    metric = DistributionDistance(nn.Identity(), kind=kind)
    for part in (slice(0, 5), slice(5, 12)):
        metric(x[part], y[part])
    assert metric.aggregate() == pytest.approx(fid(x, y) if kind == "fid" else kid(x, y)[0], rel=1e-6)


def test_what_is_no_set_of_features_is_refused():
    with pytest.raises(ValueError, match=r"\(N, F\) and \(M, F\)"):
        fid(features(3, 4), features(3, 5))
    with pytest.raises(ValueError, match="at least 2 images, got 1 and 3"):
        kid(features(1), features(3))
    with pytest.raises(ValueError, match="at least one image"):
        feature_vectors(nn.Identity(), [])
    with pytest.raises(ValueError, match="fid or kid, got 'is'"):
        DistributionDistance(nn.Identity(), kind="is")
    with pytest.raises(ValueError, match="no options"):
        DistributionDistance(nn.Identity(), subsets=3)
