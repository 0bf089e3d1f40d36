"""What the network learns from: the CT, its high band, and after a warm-up a judge of one of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medsynth_ext.losses.relativistic import relativistic_discriminator, relativistic_generator

__all__ = ["BandObjective"]

Images = dict[str, Tensor]


class BandObjective:
    """``high_weight mean|high - Y_high| + total_weight mean|pred - Y|`` and, with a judge, the relativistic loss.

    The objective of a ``TranslationStep``. A network of one channel (a baseline) has no bands: only its CT counts.

    Args:
        network: gives the CT, or four channels as ``FrequencySupervised`` does.
        high_weight: of the high band; with 0 there is no frequency supervision.
        total_weight: of the CT.
        discriminator: judges images, beside the MR where ``conditional``; None to train without.
        adversarial_weight: of the judge's verdict in the network's loss.
        warm_up_iterations: the judge stays away in the first of them.
        judged: ``high`` or ``pred``, which image it sees.
        conditional: whether it sees the MR too.

    Raises:
        ValueError: for another ``judged``.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        high_weight: float = 1.0,
        total_weight: float = 1.0,
        discriminator: nn.Module | None = None,
        adversarial_weight: float = 0.001,
        warm_up_iterations: int = 0,
        judged: str = "high",
        conditional: bool = True,
    ) -> None:
        if judged not in ("high", "pred"):
            raise ValueError(f"judged must be high or pred, got {judged!r}")
        self.network = network
        self.high_weight = high_weight
        self.total_weight = total_weight
        self.discriminator = discriminator
        self.adversarial_weight = adversarial_weight
        self.warm_up_iterations = warm_up_iterations
        self.judged = judged
        self.conditional = conditional
        self._joint = False

    def generate(self, images: Images, iteration: int) -> Images:
        """Run the network; ``pred_high`` is its high band where it has one."""
        self._joint = self.discriminator is not None and iteration > self.warm_up_iterations
        output = self.network(images["image"]).float()
        bands = {"pred_high": output[:, 2:3]} if output.shape[1] > 1 else {}
        return {**images, "pred": output[:, :1], **bands}

    def discriminator_terms(self, images: Images) -> dict[str, Tensor]:
        """The judge's loss after the warm-up."""
        if not self._joint:
            return {}
        real, fake = self._verdicts({name: image.detach() for name, image in images.items()})
        return {"band": relativistic_discriminator(real, fake)}

    def generator_terms(self, images: Images) -> dict[str, Tensor]:
        """Weighted terms of the network."""
        terms = {"total": self.total_weight * F.l1_loss(images["pred"], images["label"])}
        if self.high_weight > 0 and "pred_high" in images:
            terms["high_band"] = self.high_weight * F.l1_loss(images["pred_high"], images["high"])
        if self._joint:
            terms["adversarial"] = self.adversarial_weight * relativistic_generator(*self._verdicts(images))
        return terms

    def _verdicts(self, images: Images) -> tuple[Tensor, Tensor]:
        """The judge's logits of the true and the found image."""
        assert self.discriminator is not None
        if self.judged == "high" and "pred_high" not in images:
            raise ValueError("judged='high' needs a network with bands, such as FrequencySupervised; use judged='pred'")
        pair = ("high", "pred_high") if self.judged == "high" else ("label", "pred")
        seen = [torch.cat([images["image"], images[k]], 1) if self.conditional else images[k] for k in pair]
        real, fake = self.discriminator(torch.cat(seen)).chunk(2)
        return real, fake
