"""Our log-domain demons beside ITK's diffeomorphic demons on the same pair of images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from medsynth_ext import ops
from medsynth_ext.methods.oneshot.demons import log_demons

sitk = pytest.importorskip("SimpleITK")


def itk_demons(fixed: Tensor, moving: Tensor, iterations: tuple[int, ...]) -> Tensor:  # (*S) to (3, *S) voxels
    """ITK's filter on a pyramid, as its users write it."""
    f, m = (sitk.GetImageFromArray(v.numpy()) for v in (fixed, moving))
    field = None
    for level, count in enumerate(iterations):
        shrink = 2 ** (len(iterations) - 1 - level)
        smooth = [sitk.SmoothingRecursiveGaussian(v, 0.5 * shrink) if shrink > 1 else v for v in (f, m)]
        small = [sitk.Shrink(v, [shrink] * 3) for v in smooth]
        demons = sitk.DiffeomorphicDemonsRegistrationFilter()
        demons.SetNumberOfThreads(1)
        demons.SetNumberOfIterations(count)
        demons.SetSmoothDisplacementField(True)
        demons.SetStandardDeviations(1.0)
        if field is None:
            field = demons.Execute(*small)
        else:
            start = sitk.Resample(field, small[0], sitk.Transform(), sitk.sitkLinear, 0.0, field.GetPixelID())
            field = demons.Execute(*small, start)
    return torch.from_numpy(np.moveaxis(sitk.GetArrayFromImage(field), -1, 0)[::-1].copy())


def test_demons_match_as_well_as_those_of_itk(structure):
    image, _, landmarks = structure(size=32)
    noise = torch.randn(1, 3, 32, 32, 32, generator=torch.Generator().manual_seed(1))
    velocity = ops.gaussian_blur(noise * 60, 6.0)
    moving = ops.warp(image[None], ops.integrate_svf(velocity, inverse=True))
    want = ops.warp_points(landmarks[None], ops.integrate_svf(velocity).double(), direction="forward")[0]
    iterations = (30, 20, 10)
    ours = ops.integrate_svf(log_demons(image[None], moving, iterations=iterations))
    theirs = itk_demons(image[0], moving[0, 0], iterations)[None].float()

    def error(field: Tensor) -> float:
        found = ops.warp_points(landmarks[None], field.double(), direction="forward")[0]
        return float((found - want).norm(dim=1).mean())

    def residual(field: Tensor) -> float:
        return float((ops.warp(moving, field) - image[None]).square().mean())

    still = torch.zeros_like(ours)
    assert error(theirs) < 0.6 * error(still)  # the peer is used as it should be
    assert error(ours) < 1.1 * error(theirs)
    assert residual(ours) < 1.4 * residual(theirs)
