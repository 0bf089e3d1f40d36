"""The file of a trained simulator."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medsynth_ext.engines import LatentGaussian
from medsynth_ext.methods.fedsim.fixed_material import FixedMaterial
from medsynth_ext.methods.fedsim.model import HeartModel

__all__ = ["SimulatorWeights"]


class SimulatorWeights(nn.Module):
    """Shared networks, a site's generator and the Gaussian of the latents in one state dict.

    Saved by ``handlers.WeightsWriter`` or ``half_state_dict``, read by ``handlers.load_weights``.

    Args:
        model: shared networks.
        generator: of a site.
        gaussian: to begin with; the standard normal distribution by default.
        fixed_material: of a simulator without a learned one; only a mean background has a state.
    """

    latent_mean: Tensor
    latent_covariance: Tensor
    latent_count: Tensor
    latent_shrinkage: Tensor

    def __init__(
        self,
        model: HeartModel,
        generator: nn.Module,
        gaussian: LatentGaussian | None = None,
        fixed_material: FixedMaterial | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.generator = generator
        self.fixed_material = fixed_material
        size = model.latent
        self.register_buffer("latent_mean", torch.zeros(size))
        self.register_buffer("latent_covariance", torch.eye(size))
        self.register_buffer("latent_count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("latent_shrinkage", torch.zeros(()))
        if gaussian is not None:
            self.set_gaussian(gaussian)

    def set_gaussian(self, gaussian: LatentGaussian) -> None:
        """Keep a distribution of latents with the weights."""
        self.latent_mean.copy_(gaussian.mean)
        self.latent_covariance.copy_(gaussian.covariance)
        self.latent_count.fill_(gaussian.count)
        self.latent_shrinkage.fill_(gaussian.shrinkage)

    @property
    def gaussian(self) -> LatentGaussian:
        """The distribution of latents."""
        return LatentGaussian(
            self.latent_mean.double().cpu(),
            self.latent_covariance.double().cpu(),
            int(self.latent_count),
            shrinkage=float(self.latent_shrinkage),
        )
