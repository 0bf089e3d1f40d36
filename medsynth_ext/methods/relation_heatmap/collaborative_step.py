"""Collaborative training: a network for each domain, and each learns from the other one on the other one's frames."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medsynth_ext.engines import StepTrainer
from medsynth_ext.methods.relation_heatmap.losses import DISTILLATIONS, HeatmapLoss, distillation, mean_where
from medsynth_ext.methods.relation_heatmap.preparation import DomainBatch, FramePreparation
from medsynth_ext.methods.relation_heatmap.step import DomainStep

__all__ = ["CollaborativeStep"]


class CollaborativeStep(DomainStep):
    """Every network minimises its error on its own domain and its distance from the other one on the other's frames.

    ``L_i = L_mse(frames of i) + lambda_kl L_kl(k -> i; frames of k)``. Both networks see the whole batch, so they have
    the batch statistics of both domains; use the surgery's network afterwards.

    Args:
        network: of surgery.
        partner: of the simulator, of the same architecture.
        optimizer: updates ``network``.
        partner_optimizer: updates ``partner``.
        prepare: see ``DomainStep``.
        loss: see ``DomainStep``.
        lambda_kl: weight of the distillation.
        kind: ``half`` as in the paper, ``full`` or ``mse``; see ``losses.distillation``.

    Raises:
        ValueError: for another kind.
        TypeError: for networks of different classes, of which one is spread over processes for example.
    """

    def __init__(
        self,
        network: nn.Module,
        partner: nn.Module,
        optimizer: torch.optim.Optimizer,
        partner_optimizer: torch.optim.Optimizer,
        prepare: FramePreparation,
        loss: HeatmapLoss,
        *,
        lambda_kl: float = 0.1,
        kind: str = "half",
    ) -> None:
        super().__init__(prepare, loss)
        if kind not in DISTILLATIONS:
            raise ValueError(f"kind must be one of {', '.join(DISTILLATIONS)}, got {kind!r}")
        if type(network) is not type(partner):
            raise TypeError(
                "collaborative training runs in one process: network and partner must be of one class, "
                f"got {type(network).__name__} and {type(partner).__name__}"
            )
        self.network = network
        self.partner = partner
        self.optimizer = optimizer
        self.partner_optimizer = partner_optimizer
        self.lambda_kl = lambda_kl
        self.kind = kind

    def update(self, engine: StepTrainer, batch: DomainBatch) -> tuple[dict[str, Tensor], Tensor]:
        self.network.train()
        self.partner.train()
        with engine.autocast():
            ours, theirs = self.network(batch.image), self.partner(batch.image)
        ours, theirs = ours.float(), theirs.float()
        sides = (
            ("intraop", ours, theirs, batch.intraop, self.optimizer),
            ("sim", theirs, ours, ~batch.intraop, self.partner_optimizer),
        )
        terms: dict[str, Tensor] = {}
        for name, pred, teacher, own, optimizer in sides:
            terms[f"{name}_supervised"] = mean_where(self.loss(pred, batch.target), own)
            terms[f"{name}_distilled"] = mean_where(distillation(teacher, pred, self.kind), ~own)
            total = terms[f"{name}_supervised"] + self.lambda_kl * terms[f"{name}_distilled"]
            engine.update(total, optimizer)
            terms["loss"] = terms.get("loss", torch.zeros_like(total)) + total.detach()
        return terms, torch.where(batch.intraop[:, None, None, None], ours, theirs)
