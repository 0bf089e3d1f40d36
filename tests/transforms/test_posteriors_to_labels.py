from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.data import MetaTensor

import medsynth_ext.transforms.posteriors_to_labels as module
from medsynth_ext.transforms.posteriors_to_labels import PosteriorsToLabels, PosteriorsToLabelsd


def posteriors(values, spacing, shape, *, affine=None):
    """Posteriors at ``spacing`` whose image file had ``shape`` voxels of 1 mm with the same corner."""
    grid = torch.diag(torch.tensor([spacing] * 3 + [1.0], dtype=torch.float64))
    grid[:3, 3] = (spacing - 1) / 2
    meta = {"original_affine": torch.eye(4, dtype=torch.float64), "spatial_shape": np.array(shape)}
    return MetaTensor(values, affine=grid if affine is None else affine, meta=meta)


def blobs(classes, size, seed=0):
    noise = torch.rand(1, classes, 4, 4, 4, generator=torch.Generator().manual_seed(seed))
    return (8 * F.interpolate(noise, size=size, mode="trilinear")[0]).softmax(0)


def test_labels_are_those_of_interpolated_posteriors(monkeypatch):
    x = blobs(5, (9, 8, 7))
    wanted = F.interpolate(x[None], scale_factor=2, mode="trilinear", align_corners=False)[0].argmax(0)
    for block in (1 << 24, 1):
        monkeypatch.setattr(module, "_BLOCK", block)
        labels = PosteriorsToLabels()(posteriors(x, 2.0, (18, 16, 14)))
        assert torch.equal(labels[0].as_tensor().long(), wanted)
        assert labels.dtype == torch.int32


@pytest.mark.parametrize("seed", range(8))
def test_skipping_the_background_changes_nothing(seed):
    x = blobs(3, (8, 8, 8), seed)
    x[0] += 0.35  # background in most places, the rest in a corner or at a rim
    wanted = F.interpolate(x[None], scale_factor=3, mode="trilinear", align_corners=False)[0].argmax(0)
    labels = PosteriorsToLabels()(posteriors(x, 3.0, (24, 24, 24)))
    assert torch.equal(labels[0].as_tensor().long(), wanted)


def test_rotated_and_mirrored_grids():
    x = blobs(4, (6, 7, 8))
    matrix = torch.tensor([[0, 0, -1, 7], [1, 0, 0, 2], [0, -1, 0, 9], [0, 0, 0, 1]], dtype=torch.float64)
    result = PosteriorsToLabels([0, 10, 20, 30])(posteriors(x, 1.0, (8, 10, 11), affine=matrix))
    wanted = x.argmax(0) * 10
    for index in np.ndindex(*wanted.shape):
        at = (matrix @ torch.tensor([*index, 1.0], dtype=torch.float64))[:3].long().tolist()
        assert result[(0, *at)] == wanted[index]


def test_network_space_keeps_the_grid():
    x = blobs(3, (6, 7, 8))
    data = PosteriorsToLabelsd("pred", [0, 4, 9], space="network", keep_as="posteriors")(
        {"pred": posteriors(x, 2.0, (12, 14, 16))}
    )
    assert torch.equal(data["pred"][0].as_tensor(), torch.tensor([0, 4, 9], dtype=torch.int32)[x.argmax(0)])
    assert data["pred"].affine[0, 0] == 2
    assert torch.equal(data["posteriors"].as_tensor(), x)


def test_all_background_gives_zeros():
    x = torch.zeros(3, 4, 4, 4)
    x[0] = 1
    assert not PosteriorsToLabels()(posteriors(x, 2.0, (8, 8, 8))).any()


def test_wrong_arguments_are_refused():
    x = posteriors(blobs(3, (4, 4, 4)), 2.0, (8, 8, 8))
    with pytest.raises(ValueError, match="space must be"):
        PosteriorsToLabels(space="mni")
    with pytest.raises(ValueError, match="3 channels, but there are 2"):
        PosteriorsToLabels([0, 1])(x)
    with pytest.raises(TypeError, match="MetaTensor"):
        PosteriorsToLabels()(torch.zeros(3, 4, 4, 4))
    with pytest.raises(ValueError, match="original_affine and spatial_shape"):
        PosteriorsToLabels()(MetaTensor(torch.zeros(3, 4, 4, 4)))
