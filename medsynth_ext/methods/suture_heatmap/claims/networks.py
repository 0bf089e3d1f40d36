"""Training and testing of one network of the claims."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.losses import DiceLoss
from torch import Tensor, nn

from medsynth_ext import ops
from medsynth_ext.claims import Progress
from medsynth_ext.engines import sample_states
from medsynth_ext.methods.suture_heatmap.claims.settings import NetworkArm, Settings
from medsynth_ext.methods.suture_heatmap.decoding import RegionPoints, ThresholdPoints
from medsynth_ext.methods.suture_heatmap.losses import HeatmapMSELoss
from medsynth_ext.methods.suture_heatmap.plain_unet import PlainUNet
from medsynth_ext.metrics import PointDetection
from medsynth_ext.transforms import PointFrameAugmentation

__all__ = ["build_loss", "build_network", "detection_figures", "train_network"]

Frames = Mapping[str, Tensor]  # images (N, 3, H, W) uint8, points (N, K, 2) with NaN


def build_network(arm: NetworkArm, settings: Settings) -> PlainUNet:
    """The arm's network with fresh weights."""
    if arm.loss == "baseline":
        dropout = settings.baseline_dropout
        return PlainUNet(features=settings.baseline_features, norm_last=True, dropout=dropout)
    return PlainUNet(features=settings.features)


def build_loss(kind: str) -> nn.Module:
    """The arm's loss between logits and a heatmap."""
    if kind == "mse":
        return HeatmapMSELoss()
    if kind == "baseline":
        return HeatmapMSELoss(dice_weight=1.0)
    options: dict[str, Any] = {"sigmoid": True, "batch": True, "smooth_nr": 1.0, "smooth_dr": 1.0}
    return DiceLoss(squared_pred=kind == "squared_dice", **options)


def train_network(
    network: nn.Module, arm: NetworkArm, settings: Settings, parts: Sequence[Frames], seed: int, progress: Progress
) -> None:
    """Train on frames of all parts in turn.

    Raises:
        RuntimeError: when the loss is no longer finite.
    """
    s, baseline = settings, arm.loss == "baseline"
    device = next(network.parameters()).device
    batch = s.baseline_batch_size if baseline else s.batch_size
    rate = s.baseline_learning_rate if baseline else s.learning_rate
    steps = s.steps * s.batch_size // batch
    augmentation = PointFrameAugmentation()
    loss_function = build_loss(arm.loss)
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=rate / 1000)
    network.train()
    for step in range(steps):
        states = sample_states(seed, step * batch, batch)
        chosen = [_draw(parts, step * batch + i, state) for i, state in enumerate(states)]
        image = torch.stack([frames["images"][n] for frames, n in chosen]).to(device).float() / 255
        points = torch.stack([frames["points"][n] for frames, n in chosen]).to(device)
        image, points = augmentation(image, points, states)
        valid = ~points.isnan().any(-1)
        target = ops.render_point_map(points, valid, image.shape[2:], s.sigma, window=s.window)
        loss = loss_function(network(image), target)
        if not math.isfinite(loss.item()):
            raise RuntimeError(f"the training with seed {seed} diverged in step {step + 1}")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 10 == 9:
            progress((step + 1) / steps, f"step {step + 1}, loss {loss.item():.3f}")


def _draw(parts: Sequence[Frames], number: int, state: np.random.RandomState) -> tuple[Frames, int]:
    """The parts take turns; a frame of the part at random."""
    frames = parts[number % len(parts)]
    return frames, int(state.randint(len(frames["images"])))


@torch.no_grad()
def detection_figures(network: nn.Module, arm: NetworkArm, settings: Settings, frames: Frames) -> dict[str, Any]:
    """Scores of a network under each decoder that the claims compare."""
    s = settings
    network.eval()
    device = next(network.parameters()).device
    images = frames["images"].split(8)
    prob = torch.cat([network(part.to(device).float() / 255).sigmoid() for part in images])
    if arm.loss == "baseline":
        return {"threshold": _scores(ThresholdPoints(), prob, frames["points"], s)}
    decoders: dict[str, Callable] = {
        "uncut": RegionPoints(kappa=math.inf),
        "kappa_1": RegionPoints(kappa=1.0),
        "kappa_1.5": RegionPoints(kappa=1.5),
        "default": RegionPoints(single_area=s.single_area, min_peak=s.min_peak, min_area=s.min_area),
    }
    return {name: _scores(decoder, prob, frames["points"], s) for name, decoder in decoders.items()}


def _scores(decoder: Callable, prob: Tensor, labels: Tensor, settings: Settings) -> dict[str, float]:
    points = decoder(prob)[0].cpu()
    metric = PointDetection(settings.radius)
    metric(points, labels.double())
    pair, _ = ops.match_points(labels.double(), points, settings.radius)
    between = (labels[:, :, None] - labels[:, None]).norm(dim=-1)
    between.diagonal(dim1=1, dim2=2).fill_(math.inf)
    close = (between.nan_to_num(math.inf) < settings.close).any(-1)
    found = float(((pair >= 0) & close).sum())
    return {**metric.scores(), "close_labels": int(close.sum()), "close_sensitivity": found / max(int(close.sum()), 1)}
