"""New patients: labelled CT volumes from a trained simulator."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medsynth_ext import ops
from medsynth_ext.engines import LatentGaussian
from medsynth_ext.methods.fedsim.blending import blend_volumes
from medsynth_ext.methods.fedsim.conditions import slice_conditions
from medsynth_ext.methods.fedsim.fixed_material import FixedMaterial
from medsynth_ext.methods.fedsim.model import HeartModel

__all__ = ["GeneratedCase", "HeartSimulator", "render_volume"]

_TRIES = 10


@dataclass(frozen=True)
class GeneratedCase:
    """One generated patient.

    Args:
        index: number of the sample.
        image: (1, N, N, N) in [-1, 1], HU / 1000.
        parts: (1, N, N, N) uint8, 0 background, parts from 1.
        material: (1, c, c, c) material map, HU / 1000.
        vertices_mm: (V, 3) surfaces.
        z: latent.
        shape_parameters: what the shape network made of it.
        attempts: latents that were drawn until the surfaces lay in the field of view.
        inside: whether they do.
    """

    index: int
    image: Tensor
    parts: Tensor
    material: Tensor
    vertices_mm: Tensor
    z: Tensor
    shape_parameters: Tensor
    attempts: int
    inside: bool


@torch.no_grad()
def render_volume(
    generator: nn.Module, coarse: Tensor, heart: Tensor, *, context: int = 0, slices_at_once: int = 16
) -> Tensor:
    """All slices of one volume, (1, 1, N, N, N), from its coarse CT (1, 1, c, c, c) and its label (1, 1, N, N, N)."""
    size = heart.shape[4]
    slices = []
    for k in torch.arange(size, device=heart.device).split(slices_at_once):
        slices.append(generator(slice_conditions(coarse, heart, k[None], context=context)))
    return torch.cat(slices).movedim(0, 3)[None]  # (Z, 1, X, Y) to (1, 1, X, Y, Z)


class HeartSimulator:
    """A trained simulator of one site.

    Args:
        model: shared networks.
        generator: the site's slice generator.
        gaussian: of the latents.
        context: slices on either side that the generator sees too.
        slices_at_once: slices per call of the generator.
        fixed_material: in place of the learned material.
        blend: ``none``, or ``alpha`` or ``poisson``: put the scanner's heart into the image.
        blend_material: of that heart; ``fixed_material`` by default.
        random_shapes: draw shape parameters uniformly in their ranges instead of asking the shape network.

    Raises:
        ValueError: for another blend, or a blend without a fixed material.
    """

    def __init__(
        self,
        model: HeartModel,
        generator: nn.Module,
        gaussian: LatentGaussian,
        *,
        context: int = 0,
        slices_at_once: int = 16,
        fixed_material: FixedMaterial | None = None,
        blend: str = "none",
        blend_material: FixedMaterial | None = None,
        random_shapes: bool = False,
    ) -> None:
        if blend not in ("none", "alpha", "poisson"):
            raise ValueError(f"blend must be one of none, alpha, poisson, got {blend!r}")
        if blend != "none" and fixed_material is None and blend_material is None:
            raise ValueError(f"blend {blend!r} needs a fixed material")
        self.model, self.generator, self.gaussian = model, generator, gaussian
        self.context, self.slices_at_once = context, slices_at_once
        self.fixed_material = fixed_material
        self.blend = blend
        self.blend_material = blend_material
        self.random_shapes = random_shapes

    def _shape(self, z: Tensor, seed: int, index: int, attempt: int) -> Tensor:
        if not self.random_shapes:
            return self.model.shape(z)
        count = self.model.shape_model.parameters_count
        drawn = ops.rand_uniform((1, attempt + 1, count), seed, low=-1.0, high=1.0, sample_offset=index, stream=6)
        return drawn[:, attempt].to(z.device)

    @torch.no_grad()
    def generate(self, index: int, *, seed: int = 0) -> GeneratedCase:
        """Sample number ``index``, a function of (seed, index) and the weights alone.

        A latent whose surfaces leave the field of view is drawn again, at most ten times.
        """
        self.model.eval()
        self.generator.eval()
        device = next(self.model.parameters()).device
        for attempt in range(_TRIES):
            z = self.gaussian.sample(1, seed=seed, first=index, attempt=attempt).to(device)
            t = self._shape(z, seed, index, attempt)
            inside = not bool(self.model.shape_model.outside(t)[0])
            if inside:
                break
        size = self.model.size
        parts = self.model.shape_model.part_labels(t, size)
        heart = (parts > 0).float()
        material = self.model.material(z) if self.fixed_material is None else self.fixed_material.tissue(parts)
        coarse = self.model.simulator(material) if self.fixed_material is None else self.fixed_material(parts)
        image = render_volume(self.generator, coarse, heart, context=self.context, slices_at_once=self.slices_at_once)
        if self.blend != "none":
            scanned = coarse if self.blend_material is None else self.blend_material(parts)
            image = blend_volumes(image, scanned, heart, mode=self.blend)
        return GeneratedCase(
            index=index,
            image=image[0].cpu(),
            parts=parts[0].cpu(),
            material=material[0].cpu(),
            vertices_mm=self.model.shape_model.vertices(t)[0].cpu(),
            z=z[0].cpu(),
            shape_parameters=t[0].cpu(),
            attempts=attempt + 1,
            inside=inside,
        )
