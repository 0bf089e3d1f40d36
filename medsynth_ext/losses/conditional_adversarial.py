"""Both sides of a conditional GAN with a patch discriminator, feature matching and a feature distance."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medsynth_ext.losses.adversarial import feature_matching, hinge_discriminator, hinge_generator

__all__ = ["ConditionalAdversarialLoss"]


class ConditionalAdversarialLoss(nn.Module):
    """What generator and discriminator minimise (Park et al., CVPR 2019).

    Real and generated images go through the discriminator in one batch, each beside its condition. No gradient reaches
    the condition through the discriminator: a generator that also makes its condition must improve the image.

    Args:
        discriminator: maps (B, condition + image channels, H, W) to the outputs of every stage of every scale.
        distance: ``distance(image, target)``, for example ``FeatureDistance``.
        matching_weight: of the feature matching.
        distance_weight: of the distance.
    """

    def __init__(
        self,
        discriminator: nn.Module,
        distance: nn.Module,
        *,
        matching_weight: float = 10.0,
        distance_weight: float = 10.0,
    ) -> None:
        super().__init__()
        self.discriminator = discriminator
        self.distance = distance
        self.matching_weight = matching_weight
        self.distance_weight = distance_weight

    def _judge(self, condition: Tensor, real: Tensor, fake: Tensor) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
        condition = condition.detach()
        both = torch.cat([torch.cat([condition, real], 1), torch.cat([condition, fake], 1)])
        outputs = self.discriminator(both)
        count = len(real)
        return [[o[:count] for o in scale] for scale in outputs], [[o[count:] for o in scale] for scale in outputs]

    def generator_terms(self, condition: Tensor, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Weighted terms of the generator; the discriminator gets no gradient."""
        learns = [p.requires_grad for p in self.discriminator.parameters()]
        self.discriminator.requires_grad_(False)
        try:
            judged_real, judged_fake = self._judge(condition, real, fake)
        finally:
            for parameter, flag in zip(self.discriminator.parameters(), learns, strict=True):
                parameter.requires_grad_(flag)
        return {
            "adversarial": hinge_generator(judged_fake),
            "matching": self.matching_weight * feature_matching(judged_real, judged_fake),
            "features": self.distance_weight * self.distance(fake, real),
        }

    def discriminator_term(self, condition: Tensor, real: Tensor, fake: Tensor) -> Tensor:
        """The discriminator's hinge loss; the generator gets no gradient."""
        return hinge_discriminator(*self._judge(condition, real, fake.detach()))
