"""What generator and discriminators minimise: the method's two directions, and the paired baselines.

All of them read ``mr``, ``surrogate`` (aligned with the MR) and ``ct`` (of other patients), (B, 1, H, W) in [-1, 1].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medsynth_ext.engines import sample_states
from medsynth_ext.losses import AdversarialLoss, feature_matching, scales_of

__all__ = ["PairedObjective", "SurrogateObjective", "TwoDiscriminatorObjective"]

Images = dict[str, Tensor]


class SurrogateObjective:
    """MR to CT: look like real CT of others, stay near the surrogate of one's own.

    The generator minimises ``adversarial_weight * GAN(D(sCT)) + surrogate_weight * mean |surrogate - sCT|``.

    Args:
        generator: from MR to CT.
        unconditional: discriminator of CT.
        adversarial: the form of the GAN.
        adversarial_weight: 0 for the ablation without a discriminator, which does not learn then.
        surrogate_weight: 0 for the ablation without the surrogate.
    """

    def __init__(
        self,
        generator: nn.Module,
        unconditional: nn.Module,
        *,
        adversarial: AdversarialLoss,
        adversarial_weight: float = 1.0,
        surrogate_weight: float = 50.0,
    ) -> None:
        self.generator = generator
        self.discriminators = {"unconditional": unconditional}
        self.adversarial = adversarial
        self.adversarial_weight = adversarial_weight
        self.surrogate_weight = surrogate_weight

    def generate(self, images: Images, iteration: int) -> Images:
        """Adds ``image`` (the MR) and ``pred``."""
        return {**images, "image": images["mr"], "pred": self.generator(images["mr"])}

    def discriminator_terms(self, images: Images) -> dict[str, Tensor]:
        """Half the sum on real CT and on the generator's."""
        if self.adversarial_weight == 0:
            return {}
        judge = self.discriminators["unconditional"]
        return {
            "unconditional": 0.5 * self.adversarial.discriminator(judge(images["ct"]), judge(images["pred"].detach()))
        }

    def generator_terms(self, images: Images) -> dict[str, Tensor]:
        """``adversarial`` and ``surrogate``, each where its weight is not 0."""
        terms = {}
        if self.adversarial_weight > 0:
            judged = self.discriminators["unconditional"](images["pred"])
            terms["adversarial"] = self.adversarial_weight * self.adversarial.generator(judged)
        if self.surrogate_weight > 0:
            terms["surrogate"] = self.surrogate_weight * F.l1_loss(images["pred"].float(), images["surrogate"])
        return terms


class TwoDiscriminatorObjective:
    """CT to MR: in each step either real CT against an unconditional discriminator or the surrogate against the other.

    A coin decides for the whole batch. From CT the generator minimises ``GAN(D_u(sMR))``; from the surrogate
    ``GAN(D_c([surrogate, sMR])) + l1_weight * mean |MR - sMR|``. Only the discriminator of the step learns.

    Args:
        generator: from CT to MR.
        unconditional: discriminator of MR, one channel.
        conditional: discriminator of surrogate and MR, two channels.
        adversarial: the form of the GAN.
        l1_weight: 0 for the ablation of conditional and unconditional discriminator alone.
        ct_share: probability of a step from CT; 1 for the ablation without surrogate.
        seed: of the coin, which is a function of seed and iteration.
    """

    def __init__(
        self,
        generator: nn.Module,
        unconditional: nn.Module,
        conditional: nn.Module,
        *,
        adversarial: AdversarialLoss,
        l1_weight: float = 100.0,
        ct_share: float = 0.5,
        seed: int = 0,
    ) -> None:
        self.generator = generator
        self.discriminators = {"unconditional": unconditional, "conditional": conditional}
        self.adversarial = adversarial
        self.l1_weight = l1_weight
        self.ct_share = ct_share
        self.seed = seed

    def from_ct(self, iteration: int) -> bool:
        """Whether this step starts from CT; the same on all processes."""
        # Samples of the preparation are counted from 0 with the same seed, so the coin has numbers of its own.
        (state,) = sample_states(self.seed, 2**62 + iteration, 1)
        return bool(state.rand() < self.ct_share)

    def generate(self, images: Images, iteration: int) -> Images:
        """Adds ``image`` (CT or surrogate), ``pred`` and ``from_ct``, a single number."""
        real = self.from_ct(iteration)
        source = images["ct" if real else "surrogate"]
        return {**images, "image": source, "pred": self.generator(source), "from_ct": torch.tensor(real)}

    def _judge(self, images: Images, mr: Tensor) -> tuple[str, Tensor]:
        """The discriminator of this step and its output for an MR."""
        name = "unconditional" if images["from_ct"] else "conditional"
        seen = mr if images["from_ct"] else torch.cat([images["surrogate"], mr.to(images["surrogate"].dtype)], 1)
        return name, self.discriminators[name](seen)

    def discriminator_terms(self, images: Images) -> dict[str, Tensor]:
        """Half the sum on real MR and on the generator's, for the discriminator of this step."""
        name, on_real = self._judge(images, images["mr"])
        _, on_fake = self._judge(images, images["pred"].detach())
        return {name: 0.5 * self.adversarial.discriminator(on_real, on_fake)}

    def generator_terms(self, images: Images) -> dict[str, Tensor]:
        """``adversarial_unconditional``, or ``adversarial_conditional`` and ``l1``."""
        name, judged = self._judge(images, images["pred"])
        terms = {f"adversarial_{name}": self.adversarial.generator(judged)}
        if not images["from_ct"] and self.l1_weight > 0:
            terms["l1"] = self.l1_weight * F.l1_loss(images["pred"].float(), images["mr"])
        return terms


class PairedObjective:
    """pix2pix and pix2pixHD between MR and surrogate: a discriminator that sees both, L1, matching of its features.

    Args:
        generator: from ``source`` to ``target``.
        conditional: discriminator of source and target, two channels.
        adversarial: the form of the GAN.
        source: ``mr`` or ``surrogate``.
        target: the other one.
        l1_weight: 100 in pix2pix, 0 in pix2pixHD.
        matching_weight: of the features, 10 in pix2pixHD.
    """

    def __init__(
        self,
        generator: nn.Module,
        conditional: nn.Module,
        *,
        adversarial: AdversarialLoss,
        source: str = "mr",
        target: str = "surrogate",
        l1_weight: float = 100.0,
        matching_weight: float = 0.0,
    ) -> None:
        self.generator = generator
        self.discriminators = {"conditional": conditional}
        self.adversarial = adversarial
        self.source, self.target = source, target
        self.l1_weight = l1_weight
        self.matching_weight = matching_weight

    def generate(self, images: Images, iteration: int) -> Images:
        """Adds ``image`` and ``pred``."""
        return {**images, "image": images[self.source], "pred": self.generator(images[self.source])}

    def _judge(self, images: Images, target: Tensor) -> list[list[Tensor]]:
        seen = torch.cat([images[self.source], target.to(images[self.source].dtype)], 1)
        return scales_of(self.discriminators["conditional"](seen))

    def discriminator_terms(self, images: Images) -> dict[str, Tensor]:
        """Half the sum on the pair and on the generator's."""
        on_real, on_fake = self._judge(images, images[self.target]), self._judge(images, images["pred"].detach())
        return {"conditional": 0.5 * self.adversarial.discriminator(on_real, on_fake)}

    def generator_terms(self, images: Images) -> dict[str, Tensor]:
        """``adversarial``, and ``l1`` and ``matching`` where their weights are not 0."""
        judged = self._judge(images, images["pred"])
        terms = {"adversarial": self.adversarial.generator(judged)}
        if self.l1_weight > 0:
            terms["l1"] = self.l1_weight * F.l1_loss(images["pred"].float(), images[self.target])
        if self.matching_weight > 0:
            with torch.no_grad():
                real = self._judge(images, images[self.target])
            terms["matching"] = self.matching_weight * feature_matching(real, judged)
        return terms
