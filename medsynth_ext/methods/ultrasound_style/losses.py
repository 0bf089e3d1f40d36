"""What a transferred image must share with its content image, with its style image, and the price of the code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medsynth_ext.losses.gaussian_kl import gaussian_kl
from medsynth_ext.networks.adain import channel_statistics

__all__ = ["StyleTransferLoss", "StyleVAELoss", "gram_matrix"]

_LEAST_DEVIATION = 0.05  # of a channel that is hardly active, where the mean square over channels is one


def gram_matrix(features: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, C)
    """Products of all pairs of channels, summed over space, over ``C H W``."""
    flat = features.flatten(2)
    return flat @ flat.transpose(1, 2) / (flat.shape[1] * flat.shape[2])


def _normalised(features: Tensor) -> Tensor:  # (B, C, H, W)
    mean, deviation = channel_statistics(features)
    return (features - mean[:, :, None, None]) / (deviation[:, :, None, None] + _LEAST_DEVIATION)


class StyleTransferLoss(nn.Module):
    """``content + style + kl``, each with its weights (Hung and Galeotti, DGM4MICCAI 2021).

    - content: per layer ``w mean (psi(content) - psi(output))^2``; with ``normalise_content`` the channels of psi have
      mean 0 and deviation 1 in every image, so that the pattern counts and not its brightness and contrast
    - structure: the same of the images themselves, averaged over squares that are wider than speckle; not in the paper
    - style: per layer ``w / 2`` times the mean square difference of the Gram matrices of style image and output
    - kl: ``w`` times the sum over scales of the mean divergence of a code's entries from N(0, 1)

    Args:
        features: psi, a fixed network that gives a list of maps, for example ``FeatureNetwork``.
        content_weights: one per layer; a layer with 0 is not computed.
        style_weights: likewise.
        normalise_content: compare normalised features; the paper compares them as they are.
        structure_weight: of the structure; with 0, as in the paper, it is left out.
        structure_px: side of the squares.
        kl_weight: of the divergence; with 0 it is not computed.
        kl_form: see :func:`medsynth_ext.losses.gaussian_kl`.
        free_bits: likewise.

    Raises:
        ValueError: when features and weights differ in number, found in the first call.
    """

    def __init__(
        self,
        features: nn.Module,
        *,
        content_weights: Sequence[float],
        style_weights: Sequence[float],
        normalise_content: bool = False,
        structure_weight: float = 0.0,
        structure_px: int = 4,
        kl_weight: float = 1.0,
        kl_form: str = "exact",
        free_bits: float = 0.0,
    ) -> None:
        super().__init__()
        self.features = features
        self.content_weights = tuple(float(w) for w in content_weights)
        self.style_weights = tuple(float(w) for w in style_weights)
        self.normalise_content = normalise_content
        self.structure_weight, self.structure_px = structure_weight, structure_px
        self.kl_weight = kl_weight
        self.kl: dict[str, Any] = {"form": kl_form, "free_bits": free_bits}

    def forward(
        self,
        pred: Tensor,  # (B, C, H, W)
        content: Tensor,  # like pred
        style: Tensor,  # (B, C, h, w)
        means: Sequence[Tensor] = (),
        deviations: Sequence[Tensor] = (),
    ) -> dict[str, Tensor]:
        """The weighted terms; the divergence is left out without codes."""
        found = self.features(pred)
        with torch.no_grad():
            shown, look = self.features(content.detach()), self.features(style.detach())
        counts = {len(found), len(self.content_weights), len(self.style_weights)}
        if len(counts) != 1:
            got = f"{len(self.content_weights)} and {len(self.style_weights)} for {len(found)} layers"
            raise ValueError(f"content_weights and style_weights must hold one number per layer, got {got}")
        zero = pred.new_zeros(())
        compared = _normalised if self.normalise_content else nn.Identity()
        near = [
            w * F.mse_loss(compared(a), compared(b))
            for w, a, b in zip(self.content_weights, found, shown, strict=True)
            if w > 0
        ]
        alike = [
            0.5 * w * F.mse_loss(gram_matrix(a), gram_matrix(b))
            for w, a, b in zip(self.style_weights, found, look, strict=True)
            if w > 0
        ]
        terms = {"content": sum(near, zero), "style": sum(alike, zero)}
        if self.structure_weight > 0:
            made, wanted = (_normalised(F.avg_pool2d(x, self.structure_px)) for x in (pred, content.detach()))
            terms["structure"] = self.structure_weight * F.mse_loss(made, wanted)
        if self.kl_weight > 0 and means:
            codes = [gaussian_kl(m, s, **self.kl) for m, s in zip(means, deviations, strict=True)]
            terms["kl"] = self.kl_weight * sum(codes, zero)
        return terms


class StyleVAELoss:
    """Mean square error of a reconstruction plus the divergence of the codes, summed over scales."""

    def __init__(self, *, kl_weight: float = 1.0, kl_form: str = "exact", free_bits: float = 0.0) -> None:
        self.kl_weight = kl_weight
        self.kl: dict[str, Any] = {"form": kl_form, "free_bits": free_bits}

    def __call__(
        self, pred: Tensor, image: Tensor, means: Sequence[Tensor], deviations: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        divergence = [gaussian_kl(m, s, **self.kl) for m, s in zip(means, deviations, strict=True)]
        return {"mse": F.mse_loss(pred, image), "kl": self.kl_weight * torch.stack(divergence).sum()}
