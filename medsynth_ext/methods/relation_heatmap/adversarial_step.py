"""Adversarial training: a discriminator tells the domains apart by the heatmaps, and the network makes that hard."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medsynth_ext.engines import StepTrainer
from medsynth_ext.methods.relation_heatmap.losses import HeatmapLoss, mean_where
from medsynth_ext.methods.relation_heatmap.network import PointHeatmapNet
from medsynth_ext.methods.relation_heatmap.preparation import DomainBatch, FramePreparation
from medsynth_ext.methods.relation_heatmap.step import DomainStep

__all__ = ["DomainAdversarialStep"]

JUDGED = ("heatmap", "features")


class DomainAdversarialStep(DomainStep):
    """Joint training, in which the simulator's outputs shall pass for those of surgery.

    The discriminator learns 1 for surgery and 0 for the simulator, ``BCE(D(I_intraop), 1) + BCE(D(I_sim), 0)``; the
    network minimises the joint loss and ``lambda_adv BCE(D(I_sim), 1)``. Each of these is a mean over frames and
    patches, and 0 where a batch has no frame of that domain.

    Args:
        network: maps frames to heatmaps.
        discriminator: fully convolutional; gives logits, or a list of outputs whose last one they are.
        optimizer: updates the network.
        discriminator_optimizer: updates the discriminator.
        prepare: see ``DomainStep``.
        loss: see ``DomainStep``.
        lambda_sim: see ``DomainStep``.
        lambda_adv: weight of the adversarial term.
        judged: what the discriminator sees: ``heatmap``, or the backbone's ``features``.

    Raises:
        ValueError: for another ``judged``.
        TypeError: for a network of another kind, one spread over processes for example.
    """

    def __init__(
        self,
        network: PointHeatmapNet,
        discriminator: nn.Module,
        optimizer: torch.optim.Optimizer,
        discriminator_optimizer: torch.optim.Optimizer,
        prepare: FramePreparation,
        loss: HeatmapLoss,
        *,
        lambda_sim: float = 1.0,
        lambda_adv: float = 1.0,
        judged: str = "heatmap",
    ) -> None:
        super().__init__(prepare, loss, lambda_sim=lambda_sim)
        if judged not in JUDGED:
            raise ValueError(f"judged must be one of {', '.join(JUDGED)}, got {judged!r}")
        if not isinstance(network, PointHeatmapNet):
            raise TypeError(
                "adversarial training runs in one process: network must be a PointHeatmapNet, "
                f"got {type(network).__name__}"
            )
        self.network = network
        self.discriminator = discriminator
        self.optimizer = optimizer
        self.discriminator_optimizer = discriminator_optimizer
        self.lambda_adv = lambda_adv
        self.judged = judged

    def update(self, engine: StepTrainer, batch: DomainBatch) -> tuple[dict[str, Tensor], Tensor]:
        self.network.train()
        self.discriminator.train()
        with engine.autocast():
            features = self.network.features(batch.image)
            pred = self.network.heatmaps(features)
        pred = pred.float()
        seen = pred if self.judged == "heatmap" else features.float()

        self.discriminator.requires_grad_(False)
        with engine.autocast():
            decision = self._decide(seen)
        adversarial = mean_where(_against(decision, 1.0), ~batch.intraop)
        supervised = self.supervised(pred, batch)
        loss = supervised + self.lambda_adv * adversarial
        engine.update(loss, self.optimizer)

        self.discriminator.requires_grad_(True)
        with engine.autocast():
            decision = self._decide(seen.detach())
        domains = mean_where(_against(decision, 1.0), batch.intraop) + mean_where(
            _against(decision, 0.0), ~batch.intraop
        )
        engine.update(domains, self.discriminator_optimizer)
        terms = {"loss": loss, "supervised": supervised, "adversarial": adversarial, "discriminator": domains}
        return terms, pred

    def _decide(self, seen: Tensor) -> Tensor:
        outputs: Any = self.discriminator(seen)
        return outputs if isinstance(outputs, Tensor) else outputs[-1]


def _against(logits: Tensor, truth: float) -> Tensor:  # (B, ...)
    logits = logits.float()
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, truth), reduction="none")
