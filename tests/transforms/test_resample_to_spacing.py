from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Orientation

from medsynth_ext.transforms.resample_to_spacing import ResampleToSpacing, ResampleToSpacingd

OBLIQUE = np.array([[0.98, -0.17, 0.05], [0.17, 0.98, -0.08], [-0.04, 0.09, 0.99]])


def ramp(shape, affine):
    """Image whose value is a linear function of the position in millimetres, one channel per axis."""
    voxel = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"))
    mm = np.einsum("ij,jxyz->ixyz", affine[:3, :3], voxel) + affine[:3, 3][:, None, None, None]
    return MetaTensor(torch.from_numpy(mm).float(), affine=torch.from_numpy(affine))


def grid(spacing, origin, rotation=None):
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if rotation is None else rotation) @ np.diag(spacing)
    affine[:3, 3] = origin
    return affine


@pytest.mark.parametrize("origin", [(0, 0, 0), (-0.3, 0.2, 40), (-90, -126, 72)])
@pytest.mark.parametrize("rotation", [None, OBLIQUE])
@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.7, 1.3, 5.0), (3, 2, 1.2)])
def test_values_stay_where_they_were_in_space(origin, rotation, spacing):
    image = ramp((21, 18, 16), grid(spacing, origin, rotation))
    result = ResampleToSpacing(2.0, prefilter=0.0)(image)
    wanted = ramp(result.shape[1:], result.affine.numpy())
    inner = (slice(None), *(slice(3, -3),) * 3)
    torch.testing.assert_close(result[inner].as_tensor(), wanted[inner].as_tensor(), atol=2e-3, rtol=0)


def test_field_of_view_starts_at_the_same_corner_and_covers_the_old():
    image = ramp((20, 19, 7), grid((1, 1, 5), (-10, 3, 0)))
    result = ResampleToSpacing(2.0)(image)
    assert result.shape[1:] == (10, 10, 18)
    corner = torch.tensor([-0.5, -0.5, -0.5, 1.0], dtype=torch.float64)
    torch.testing.assert_close(result.affine @ corner, image.affine @ corner)


def test_axis_within_tolerance_keeps_its_voxels():
    image = ramp((9, 8, 7), grid((1.04, 0.96, 3.0), (0, 0, 0)))
    result = ResampleToSpacing(1.0)(image)
    assert result.shape[1:] == (9, 8, 21)
    np.testing.assert_allclose(np.linalg.norm(result.affine[:3, :3], axis=0), [1.04, 0.96, 1.0], atol=1e-6)


def test_image_at_the_target_is_unchanged():
    image = ramp((6, 5, 4), grid((2, 2, 2), (1, 2, 3)))
    torch.testing.assert_close(ResampleToSpacing(2.0)(image).as_tensor(), image.as_tensor())


def test_blur_acts_on_down_sampled_axes_only():
    image = MetaTensor(torch.zeros(1, 33, 32, 32), affine=torch.diag(torch.tensor([1.0, 4.0, 1.0, 1.0])))
    image[0, 16] = 1.0
    sharp, blurred = (ResampleToSpacing(4.0, prefilter=p)(image) for p in (0.0, 0.25))
    # the plane between two sample points is missed without the blur of one voxel, and seen with it
    assert sharp.max() == 0
    assert blurred.max() > 0.1
    lines = MetaTensor(torch.zeros(1, 33, 32, 32), affine=torch.diag(torch.tensor([1.0, 4.0, 1.0, 1.0])))
    lines[0, :, 16] = 1.0
    profile = ResampleToSpacing(4.0)(lines)[0, 4, :, 4].tolist()
    assert profile == pytest.approx([1.0 if i == 16 else 0.0 for i in range(32)], abs=1e-5)


def test_dictionary_version_inverts_to_the_old_grid():
    image = ramp((20, 18, 16), grid((1, 1.5, 3), (5, 6, 7), OBLIQUE))
    transform = ResampleToSpacingd("image", 2.0, prefilter=0.0)
    back = transform.inverse(transform({"image": image}))["image"]
    assert back.shape == image.shape
    torch.testing.assert_close(back.affine, image.affine)
    inner = (slice(None), *(slice(3, -3),) * 3)
    torch.testing.assert_close(back[inner].as_tensor(), image[inner].as_tensor(), atol=1e-2, rtol=0)


def test_flipped_axes_are_kept():
    image = Orientation("LIA", labels=None)(ramp((12, 14, 16), grid((1, 1, 1), (3, 4, 5))))
    result = ResampleToSpacing(2.0, prefilter=0.0)(image)
    inner = (slice(None), *(slice(1, -1),) * 3)
    wanted = ramp(result.shape[1:], result.affine.numpy())
    torch.testing.assert_close(result[inner].as_tensor(), wanted[inner].as_tensor(), atol=2e-3, rtol=0)


@pytest.mark.parametrize("spacing", [0.0, -1.0, float("nan"), (1.0, 0.0, 1.0)])
def test_spacing_must_be_positive(spacing):
    with pytest.raises(ValueError, match="positive"):
        ResampleToSpacing(spacing)


def test_plain_tensor_has_no_spacing():
    with pytest.raises(TypeError, match="MetaTensor"):
        ResampleToSpacing(1.0)(torch.zeros(1, 4, 4, 4))
