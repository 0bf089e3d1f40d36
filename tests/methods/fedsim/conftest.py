"""Small hearts from phantoms, whose surfaces correspond by construction, and a site that trains in seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from medsynth_ext.losses import ConditionalAdversarialLoss, FeatureDistance
from medsynth_ext.methods.fedsim.ct_simulator import CTSimulator
from medsynth_ext.methods.fedsim.latent_networks import MaterialGenerator, ShapeGenerator
from medsynth_ext.methods.fedsim.model import HeartModel
from medsynth_ext.methods.fedsim.shape_building import principal_shapes, procrustes
from medsynth_ext.methods.fedsim.shape_model import ShapeModel
from medsynth_ext.methods.fedsim.site import PHASES, Site
from medsynth_ext.methods.fedsim.spade import SpadeGenerator
from medsynth_ext.methods.fedsim.volumes import SiteVolumes
from medsynth_ext.networks import MultiScaleDiscriminator, VGGFeatures, xavier_init
from medsynth_ext.phantoms.whole_heart import WholeHeartPhantom, whole_heart_phantom

SIZE, COARSE, LATENT = 32, 8, 8
RATES = {
    "fit": {"latent": 1e-2},
    "gan": {"generator": 1e-3, "discriminator": 1e-3},
    "pull": {"latent": 5e-2},
    "labelled": {"latent": 1e-3, "generator": 1e-3, "discriminator": 1e-3},
    "unlabelled": {"latent": 1e-3, "generator": 1e-3, "discriminator": 1e-3},
}


@pytest.fixture(scope="session")
def phantoms() -> list[WholeHeartPhantom]:
    return [whole_heart_phantom(50, i, size=SIZE, subdivisions=2) for i in range(5)]


@pytest.fixture(scope="session")
def shape_model(phantoms: list[WholeHeartPhantom]) -> ShapeModel:
    shapes = procrustes(torch.stack([phantom.vertices for phantom in phantoms]))
    mean, modes, values = principal_shapes(shapes, 3)
    faces, part = phantoms[0].faces, phantoms[0].face_part.long() - 1
    return ShapeModel(mean, modes[:, :3], values[:3], faces, part, 200.0)


def painted(parts: Tensor, seed: int) -> Tensor:  # (1, N, N, N) in [-1, 1]
    """A volume in which the heart is bright in lung, without the cost of a scan."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.where(parts > 0, 0.3, -0.8) + 0.05 * torch.randn(parts.shape, generator=generator)
    return values.clamp(-1, 1)


@pytest.fixture(scope="session")
def make_model(shape_model: ShapeModel) -> Callable[..., HeartModel]:
    def make(**options: Any) -> HeartModel:
        torch.manual_seed(0)
        shape = ShapeGenerator(LATENT, shape_model.parameters_count, hidden=(16, 8))
        material = MaterialGenerator(LATENT, COARSE, features=(16, 8), norm="group")
        simulator = CTSimulator(COARSE, views=16)
        return HeartModel(shape_model, simulator, size=SIZE, latent=LATENT, shape=shape, material=material, **options)

    return make


@pytest.fixture
def make_site(phantoms: list[WholeHeartPhantom], make_model: Callable[..., HeartModel]) -> Callable[..., Site]:
    def make(
        *, first: int = 0, count: int = 3, labelled: int = 2, model: HeartModel | None = None, **options: Any
    ) -> Site:
        chosen = phantoms[first : first + count]
        parts = [phantom.labels[None] for phantom in chosen]
        images = torch.stack([painted(p, first + i) for i, p in enumerate(parts)])
        volumes = SiteVolumes.from_tensors(
            images, [p if i < labelled else None for i, p in enumerate(parts)], coarse=COARSE, name="test"
        )
        torch.manual_seed(1)
        distance = FeatureDistance(VGGFeatures(width=1 / 32))
        discriminator = xavier_init(MultiScaleDiscriminator(4, features=2))
        site = Site(
            volumes,
            make_model() if model is None else model,
            xavier_init(SpadeGenerator(size=SIZE, features=2, hidden=4)),
            ConditionalAdversarialLoss(discriminator, distance),
            rates={phase: RATES[phase] for phase in PHASES},
            distance=distance,
            **{"slices_per_step": 2, "slices_per_volume": 2, **options},
        )
        site.prepare()
        return site

    return make
