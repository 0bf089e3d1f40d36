"""What generators and discriminators minimise, on logits, and the matching of a discriminator's features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["AdversarialLoss", "decisions", "feature_matching", "hinge_discriminator", "hinge_generator", "scales_of"]

Scales = Sequence[Sequence[Tensor]]  # outputs of every stage of every scale, the decision last


def scales_of(output: Tensor | Sequence) -> list[list[Tensor]]:
    """A discriminator's output as stages of scales: it may be a decision, a list of stages, or a list of scales."""
    if isinstance(output, Tensor):
        return [[output]]
    if isinstance(output[-1], Tensor):
        return [list(output)]
    return [list(scale) for scale in output]


def decisions(output: Tensor | Sequence) -> list[Tensor]:
    """What a discriminator decides at every scale, for every form of output that :func:`scales_of` knows."""
    return [scale[-1] for scale in scales_of(output)]


class AdversarialLoss:
    """One side of a GAN's loss on logits, the mean over the patches and then over the scales.

    ========================  =================================  ==========================
    ``form``                  discriminator, real and fake       generator
    ========================  =================================  ==========================
    ``"vanilla"``             ``-log s(D)``, ``-log(1 - s(D))``  ``-log s(D)``
    ``"least_squares"``       ``(D - 1)**2``, ``D**2``           ``(D - 1)**2``
    ``"hinge"``               ``relu(1 - D)``, ``relu(1 + D)``   ``-D``
    ========================  =================================  ==========================

    Here s is the logistic function; its logarithm is taken of the logit, so it stays finite in half precision. The call
    has the form of MONAI's ``PatchAdversarialLoss``, which applies the logistic function before it takes the logarithm.

    Args:
        form: one of the table.

    Raises:
        ValueError: for another form.

    >>> AdversarialLoss("least_squares")(torch.tensor([0.5]), target_is_real=True, for_discriminator=True).item()
    0.25
    """

    FORMS = ("vanilla", "least_squares", "hinge")

    def __init__(self, form: str = "vanilla") -> None:
        if form not in self.FORMS:
            raise ValueError(f"form must be one of {list(self.FORMS)}, got {form!r}")
        self.form = form

    def __call__(self, output: Tensor | Sequence, target_is_real: bool, for_discriminator: bool) -> Tensor:
        """The loss of what a discriminator gives for real or generated images (a decision, stages, or scales).

        Raises:
            ValueError: when a generator's target is not real.
        """
        if not (target_is_real or for_discriminator):
            raise ValueError("a generator's target must be real")
        terms = [self._term(d.float(), target_is_real, for_discriminator) for d in decisions(output)]
        return torch.stack(terms).mean()

    def _term(self, decision: Tensor, target_is_real: bool, for_discriminator: bool) -> Tensor:
        sign = 1 if target_is_real else -1
        if self.form == "vanilla":
            return F.softplus(-sign * decision).mean()
        if self.form == "least_squares":
            return (decision - (1 if target_is_real else 0)).square().mean()
        return F.relu(1 - sign * decision).mean() if for_discriminator else -decision.mean()

    def generator(self, fake: Tensor | Sequence) -> Tensor:
        """The generator's loss for a discriminator's output on generated images."""
        return self(fake, target_is_real=True, for_discriminator=False)

    def discriminator(self, real: Tensor | Sequence, fake: Tensor | Sequence) -> Tensor:
        """The sum of a discriminator's losses on real and on generated images."""
        on_real = self(real, target_is_real=True, for_discriminator=True)
        return on_real + self(fake, target_is_real=False, for_discriminator=True)


_HINGE = AdversarialLoss("hinge")


def hinge_discriminator(real: Scales, fake: Scales) -> Tensor:
    """``mean relu(1 - D(real)) + mean relu(1 + D(fake))``, the mean over the scales.

    >>> hinge_discriminator([[torch.tensor([2.0, 0.5])]], [[torch.tensor([-3.0, 0.0])]]).item()
    0.75
    """
    return _HINGE.discriminator(real, fake)


def hinge_generator(fake: Scales) -> Tensor:
    """``-mean D(fake)``, the mean over the scales."""
    return _HINGE.generator(fake)


def feature_matching(real: Scales, fake: Scales) -> Tensor:
    """Mean absolute difference of every stage but the decision, summed over the stages, the mean over the scales.

    No gradient reaches the real features.
    """
    terms = [
        sum(F.l1_loss(f, r.detach()) for r, f in zip(reals[:-1], fakes[:-1], strict=True))
        for reals, fakes in zip(real, fake, strict=True)
    ]
    return torch.stack([torch.as_tensor(term) for term in terms]).mean()
