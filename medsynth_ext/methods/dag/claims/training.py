"""Trainings of the arms, without files and handlers."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medsynth_ext.claims import Progress
from medsynth_ext.engines.adversarial_step import checked_update
from medsynth_ext.engines.mean_teacher_step import MeanTeacherStep
from medsynth_ext.engines.sample_states import sample_states
from medsynth_ext.handlers.ema import EMA
from medsynth_ext.methods.dag.augmentation import RadiographAugmentation, z_score
from medsynth_ext.methods.dag.baselines import EnsembleStep, PiStep
from medsynth_ext.methods.dag.claims.settings import Settings, TrainingArm
from medsynth_ext.methods.dag.coordinates import to_index, to_normalised
from medsynth_ext.methods.dag.heatmap_baseline import HeatmapLoss, SpatialConfigurationNet
from medsynth_ext.methods.dag.losses import DAGLoss
from medsynth_ext.methods.dag.network import DAGNet
from medsynth_ext.methods.dag.task import DAGTask

__all__ = ["Part", "make_network", "point_errors", "train_graph", "train_heatmaps"]

Part = Mapping[str, Tensor]  # image (n, 1, H, W) in [0, 1], label (n, N, 2)


def make_network(settings: Settings, n_points: int) -> DAGNet:
    """The network of all arms but the heatmaps'."""
    return DAGNet(n_points, **settings.network)


@torch.no_grad()
def point_errors(network: nn.Module, part: Part, *, batch_size: int = 16) -> Tensor:  # (n, N) pixels
    """Euclidean errors; NaN where a point is not visible."""
    device = next(network.parameters()).device
    network.eval()
    predict = network.points if isinstance(network, SpatialConfigurationNet) else network
    found = [predict(z_score(image.float().to(device))).cpu() for image in part["image"].split(batch_size)]
    return (torch.cat(found) - part["label"]).norm(dim=-1)


def train_graph(
    settings: Settings,
    arm: TrainingArm,
    network: DAGNet,
    labelled: Part,
    unlabelled: Tensor | None,
    validation: Part,
    seed: int,
    progress: Progress,
) -> DAGNet:
    """Stage 1 for the kind ``dag``, else stage 2 from the given network.

    Stage 1 gives its best weights on the validation images. Stage 2 gives its last teacher: the weights that it begins
    with were the best of many on the same few images, so a choice by them would nearly always fall on the start.
    """
    supervised = arm.kind == "dag"
    steps = settings.supervised_steps if supervised else settings.semi_steps
    rate = settings.supervised_rate if supervised else settings.semi_rate
    optimizer = torch.optim.Adam(network.parameters(), rate, fused=True)
    step = _make_step(settings, arm, network, optimizer, seed)
    if isinstance(step, EnsembleStep):
        assert unlabelled is not None
        step.remember(unlabelled)
    device = next(network.parameters()).device
    best, least = copy.deepcopy(step.teacher.network), float(point_errors(network, validation).nanmean())
    for i in range(steps):
        if supervised:
            for group in optimizer.param_groups:
                group["lr"] = rate * (1 + math.cos(math.pi * i / steps)) / 2
        first = i * settings.batch_size
        if supervised or i % (settings.ratio + 1) == settings.ratio:
            chosen = _choose(len(labelled["image"]), settings.batch_size, seed, i)
            batch = {"image": labelled["image"][chosen], "label": labelled["label"][chosen]}
        else:
            assert unlabelled is not None
            chosen = _choose(len(unlabelled), settings.batch_size, seed, i)
            batch = {"image": unlabelled[chosen], "index": chosen}
        loss = step.run(batch, first, device)["loss"]
        if (i + 1) % settings.check_every == 0 or i + 1 == steps:
            error = float(point_errors(step.teacher.network, validation).nanmean())
            if error < least or not supervised:
                best, least = copy.deepcopy(step.teacher.network), error
            progress((i + 1) / steps, f"step {i + 1}, loss {float(loss):.3f}, validation {error:.2f} px")
    assert isinstance(best, DAGNet)
    return best


def _make_step(
    settings: Settings, arm: TrainingArm, network: DAGNet, optimizer: torch.optim.Optimizer, seed: int
) -> MeanTeacherStep:
    loss = DAGLoss(margin=settings.margin, feature_weight=settings.feature_weight if arm.features else 0.0)
    task = DAGTask(RadiographAugmentation(), loss, noise=settings.noise)
    teacher = EMA(network, decay=settings.decay if arm.kind == "teacher" else 0.0, warm_up=0.0)
    if arm.kind == "pi":
        return PiStep(task, network, teacher, optimizer, seed=seed, fixed_norm=True)
    if arm.kind in ("pseudo", "temporal"):
        memory = 1.0 if arm.kind == "pseudo" else settings.memory
        return EnsembleStep(task, network, teacher, optimizer, seed=seed, fixed_norm=True, memory=memory)
    return MeanTeacherStep(task, network, teacher, optimizer, seed=seed, fixed_norm=arm.kind != "dag")


def train_heatmaps(
    settings: Settings, labelled: Part, validation: Part, seed: int, progress: Progress, device: torch.device
) -> SpatialConfigurationNet:
    """The heatmap network under the same augmentation; returns the best on validation."""
    network = SpatialConfigurationNet(labelled["label"].shape[1], channels=settings.heatmap_channels).to(device)
    optimizer = torch.optim.Adam(network.parameters(), settings.heatmap_rate)
    loss_function, augmentation = HeatmapLoss(settings.heatmap_sigma), RadiographAugmentation()
    best, least = copy.deepcopy(network), math.inf
    for i in range(settings.heatmap_steps):
        chosen = _choose(len(labelled["image"]), settings.batch_size, seed, i)
        image, label = labelled["image"][chosen].float().to(device), labelled["label"][chosen].to(device)
        size = image.shape[2:]
        states = sample_states(seed, i * settings.batch_size, settings.batch_size)
        image, points = augmentation(image, to_normalised(label, size), states)
        assert points is not None
        network.train()
        loss = loss_function(network(image), to_index(points, size))
        checked_update(loss, optimizer)
        if (i + 1) % settings.check_every == 0 or i + 1 == settings.heatmap_steps:
            error = float(point_errors(network, validation).nanmean())
            if error < least:
                best, least = copy.deepcopy(network), error
            text = f"step {i + 1}, loss {loss.item():.1f}, validation {error:.2f} px"
            progress((i + 1) / settings.heatmap_steps, text)
    return best


def _choose(count: int, batch_size: int, seed: int, step: int) -> Tensor:
    states: Sequence[Any] = sample_states(seed + (1 << 34), step, 1)
    return torch.from_numpy(states[0].randint(count, size=batch_size))
