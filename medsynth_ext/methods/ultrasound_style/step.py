"""One update in each of the three stages: content U-Net, style VAE, transfer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from medsynth_ext.engines import StepTrainer, SupervisedStep
from medsynth_ext.engines.processes import gather_batch, rank_and_world
from medsynth_ext.losses.gaussian_kl import gaussian_kl
from medsynth_ext.methods.ultrasound_style.network import StyleTransferNetwork, StyleVAE
from medsynth_ext.networks.gaussian_codes import draw_codes

__all__ = ["ReconstructionStep", "StyleTransferStep", "StyleVAEStep"]


def _first_sample(engine: StepTrainer, count: int) -> int:
    """Number of the batch's first sample, as ``SupervisedStep`` counts them."""
    rank, world = rank_and_world()
    return ((engine.state.iteration - 1) * world + rank) * count


def _update(engine: StepTrainer, optimizer: torch.optim.Optimizer, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One step on the sum of the terms; the scalars to report."""
    loss = torch.stack([term.float() for term in terms.values()]).sum()
    engine.update(loss, optimizer)
    return {**{name: term.detach() for name, term in terms.items()}, "loss": loss.detach()}


class ReconstructionStep(SupervisedStep):
    """Stage 1a: the network gives its input back."""

    def make_pair(self, batch: Mapping[str, Any], first: int, device: torch.device) -> tuple[Tensor, Tensor]:
        image = batch["image"].as_subclass(Tensor).to(device, non_blocking=True)
        return image, image


class StyleVAEStep:
    """Stage 1b: the network gives its input back from drawn codes.

    Args:
        network: the variational U-Net.
        loss: ``loss(pred, image, means, deviations)``, a dict of terms that are summed.
        optimizer: updates the network.
        seed: key of the codes' noise.
        sampling: factor on the codes' deviations.
    """

    def __init__(
        self,
        network: StyleVAE,
        loss: Callable[..., Mapping[str, Tensor]],
        optimizer: torch.optim.Optimizer,
        *,
        seed: int = 0,
        sampling: float = 1.0,
    ) -> None:
        self.network, self.loss, self.optimizer = network, loss, optimizer
        self.seed, self.sampling = seed, sampling

    def __call__(self, engine: StepTrainer, batch: Mapping[str, Any]) -> dict[str, Any]:
        image = batch["image"].as_subclass(Tensor).to(engine.state.device)
        self.network.train()
        first = _first_sample(engine, len(image))
        with engine.autocast():
            pred, means, deviations = self.network.reconstruct(image, seed=self.seed, first=first, factor=self.sampling)
        means, deviations = [m.float() for m in means], [s.float() for s in deviations]
        scalars = _update(engine, self.optimizer, self.loss(pred.float(), image, means, deviations))
        return {**scalars, "image": image, "label": image, "pred": pred.detach()}


class StyleTransferStep:
    """Stage 2: content from one image, style from another; all networks learn, the feature network does not.

    Besides the terms it reports the divergence of each scale's codes, ``kl_1`` to ``kl_5``, and the share of entries
    that tell images apart at all, ``used_codes`` (mean codes that deviate by more than 0.1 over the batch).

    Args:
        network: the transfer.
        loss: ``loss(pred, content, style, means, deviations)``, a dict of terms that are summed.
        optimizer: updates the network.
        seed: key of the codes' noise.
        sampling: factor on the codes' deviations; 0.5 in the authors' code, 1 in their text.
    """

    def __init__(
        self,
        network: StyleTransferNetwork,
        loss: Callable[..., Mapping[str, Tensor]],
        optimizer: torch.optim.Optimizer,
        *,
        seed: int = 0,
        sampling: float = 1.0,
    ) -> None:
        self.network, self.loss, self.optimizer = network, loss, optimizer
        self.seed, self.sampling = seed, sampling

    def __call__(self, engine: StepTrainer, batch: Mapping[str, Any]) -> dict[str, Any]:
        """From ``{"a": content, "b": style}``, (B, C, H, W) each in [0, 1]."""
        content, style = (batch[key].as_subclass(Tensor).to(engine.state.device) for key in ("a", "b"))
        self.network.train()
        first = _first_sample(engine, len(content))
        with engine.autocast():
            means, deviations = self.network.style_encoder(style)
            codes = draw_codes(means, deviations, seed=self.seed, first=first, factor=self.sampling)
            pred = self.network.render(content, codes)
        means, deviations = [m.float() for m in means], [s.float() for s in deviations]
        scalars = _update(engine, self.optimizer, self.loss(pred.float(), content, style, means, deviations))
        with torch.no_grad():
            for i, (mean, deviation) in enumerate(zip(means, deviations, strict=True)):
                scalars[f"kl_{i + 1}"] = gaussian_kl(mean, deviation)
            centres = gather_batch(torch.cat([mean.mean((2, 3)) for mean in means], dim=1))  # (B of all processes, K)
            scalars["used_codes"] = (centres.std(0, correction=0) > 0.1).float().mean()
        return {**scalars, "image": content, "style_image": style, "pred": pred.detach()}
