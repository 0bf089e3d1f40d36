"""A bright, lopsided blob that stands for the structure, and a network that sees it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from medsynth_ext.methods.oneshot.cubes import rotation_about_axes
from medsynth_ext.methods.oneshot.reference import Reference, make_reference

SIZE = 24
# Centres (mm), radii (mm) and brightness of the spheres that make the structure: no symmetry is left.
SPHERES = (((0, 0, 0), 3.0, 0.9), ((4, 0, 0), 2.0, 0.9), ((0, 3, 1), 1.5, 0.9), ((-2, -6, 2), 1.5, 0.6))
LANDMARKS = torch.tensor([[0.0, 0, 0], [4, 0, 0], [0, 3, 1]], dtype=torch.float64)


def blob(
    size: int = 40, centre: Tensor | None = None, rotation: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:  # image (1, X, Y, Z), mask, landmarks (N, 3) voxels
    """The structure in a volume of 1 mm voxels."""
    middle = torch.full((3,), (size - 1) / 2, dtype=torch.float64) if centre is None else centre
    turn = torch.eye(3, dtype=torch.float64) if rotation is None else rotation
    axis = torch.arange(size, dtype=torch.float64)
    points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1) - middle
    local = points @ turn  # R^T applied to every point
    image = torch.full((size,) * 3, 0.2, dtype=torch.float64)
    mask = torch.zeros_like(image)
    for place, radius, value in SPHERES:
        share = (radius + 0.5 - (local - torch.tensor(place, dtype=torch.float64)).norm(dim=-1)).clamp(0, 1)
        image = image + share * (value - image)
        if value > 0.8:
            mask = torch.maximum(mask, (share > 0.5).double())
    return image.float()[None], mask.to(torch.uint8)[None], middle + LANDMARKS @ turn.T


@pytest.fixture
def structure() -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    return blob


@pytest.fixture
def turned() -> Tensor:
    return rotation_about_axes([0.25, -0.2, 0.3])


@pytest.fixture
def reference() -> Reference:
    return make_reference(*blob(), ("middle", "side", "top"), size=SIZE, spacing_mm=1.0)


@pytest.fixture
def seeing() -> Callable[[Tensor], Tensor]:
    """Logits that are high where a slice is bright: 0.9 is the structure, 0.6 is not."""
    return lambda slices: (slices - 0.75) * 60
