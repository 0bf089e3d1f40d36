"""Short trainings of the study's networks, each a function of its seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.losses import DiceCELoss
from monai.metrics import DiceMetric
from monai.networks import one_hot
from monai.networks.nets import BasicUNet
from monai.transforms import Compose, RandAdjustContrastd, RandFlipd, RandGaussianSmoothd
from torch import Tensor, nn

from medsynth_ext.claims import Progress
from medsynth_ext.handlers.ema import EMA
from medsynth_ext.methods.ultrasound_style.claims.frames import Frames
from medsynth_ext.networks import FeatureClassifier, FeatureNetwork

__all__ = ["MachineJudge", "mean_dice", "run_step", "segmenter", "train", "train_segmenter"]

CLASSES = 3


class _Loop:
    """What a step wants of a trainer: the iteration, the device, plain precision, and an update."""

    def __init__(self, device: torch.device) -> None:
        self.state = SimpleNamespace(iteration=0, epoch=1, device=device)

    def autocast(self) -> Any:
        return torch.autocast("cpu", enabled=False)

    def update(self, loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
        if not math.isfinite(loss.item()):
            raise RuntimeError(f"the training diverged in step {self.state.iteration}")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


def run_step(
    step: Callable[[Any, Mapping[str, Tensor]], Mapping[str, Any]],
    images: Tensor,
    *,
    steps: int,
    batch_size: int,
    seed: int,
    keys: tuple[str, ...],
    progress: Progress,
    ema: EMA | None = None,
) -> None:
    """Run a step of the method on random frames of a pool, drawn anew for every key; ``ema`` follows every update."""
    rng = np.random.default_rng([seed, 77])
    loop = _Loop(images.device)
    for n in range(steps):
        loop.state.iteration = n + 1
        out = step(loop, {key: images[rng.integers(len(images), size=batch_size)] for key in keys})
        if ema is not None:
            ema.update()
        if n % 10 == 9:
            progress((n + 1) / steps, f"step {n + 1}, loss {float(out['loss']):.3f}")


def train(
    network: nn.Module,
    loss: Callable[[np.random.Generator], Tensor],
    *,
    steps: int,
    rate: float,
    seed: int,
    progress: Progress,
) -> None:
    """Plain training with Adam and a cosine schedule; ``loss`` draws its own batch.

    Raises:
        RuntimeError: when the loss is no longer finite.
    """
    rng = np.random.default_rng([seed, 78])
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=rate / 100)
    network.train()
    for n in range(steps):
        value = loss(rng)
        if not math.isfinite(value.item()):
            raise RuntimeError(f"the training with seed {seed} diverged in step {n + 1}")
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        schedule.step()
        if n % 10 == 9:
            progress((n + 1) / steps, f"step {n + 1}, loss {value.item():.3f}")
    network.eval()


class MachineJudge(nn.Module):
    """Tells machines by the statistics of its own features; it shares no weight with any transfer or its loss."""

    def __init__(self, machines: int, size: int) -> None:
        super().__init__()
        features = FeatureNetwork(width=1 / 8, trainable=True)
        self.classifier = FeatureClassifier(features, {"machine": machines}, probe=(1, 1, size, size))

    def forward(self, image: Tensor) -> Tensor:  # (B, machines)
        return self.classifier(image)["machine"]

    def fit(self, frames: Frames, *, steps: int, batch_size: int, rate: float, seed: int, progress: Progress) -> None:
        """Learn the machines of frames."""

        def loss(rng: np.random.Generator) -> Tensor:
            chosen = rng.integers(len(frames.images), size=batch_size)
            image = frames.images[chosen]
            return F.cross_entropy(self(image.flip(3) if rng.random() < 0.5 else image), frames.machines[chosen])

        train(self, loss, steps=steps, rate=rate, seed=seed, progress=progress)


def segmenter(widths: tuple[int, ...], seed: int) -> nn.Module:
    """The U-Net of all arms, with first weights of its own seed."""
    torch.manual_seed(seed)
    return BasicUNet(spatial_dims=2, in_channels=1, out_channels=CLASSES, features=widths, norm="batch")


def _augmentation(seed: int) -> Compose:
    """Gamma, Gaussian blur and mirroring, as in the paper's arm of traditional augmentation."""
    parts = [
        RandAdjustContrastd("image", prob=0.5, gamma=(0.5, 2.0)),
        RandGaussianSmoothd("image", prob=0.5, sigma_x=(0.25, 1.0), sigma_y=(0.25, 1.0)),
        RandFlipd(("image", "label"), prob=0.5, spatial_axis=1),
    ]
    return Compose(parts).set_random_state(seed)


def train_segmenter(
    network: nn.Module,
    target: Frames,
    extra: Frames | None,
    *,
    augmented: bool,
    steps: int,
    batch_size: int,
    rate: float,
    seed: int,
    progress: Progress,
) -> None:
    """Learn from the target's frames and, half of every batch, from extra ones."""
    criterion = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False)
    change = _augmentation(seed) if augmented else None

    def draw(frames: Frames, count: int, rng: np.random.Generator) -> list[dict[str, Tensor]]:
        return [
            {"image": frames.images[i], "label": frames.labels[i]} for i in rng.integers(len(frames.images), size=count)
        ]

    def loss(rng: np.random.Generator) -> Tensor:
        half = batch_size // 2 if extra is not None else 0
        batch = draw(target, batch_size - half, rng) + (draw(extra, half, rng) if extra is not None else [])
        if change is not None:
            batch = [change(item) for item in batch]
        images, labels = (torch.stack([torch.as_tensor(item[key]) for item in batch]) for key in ("image", "label"))
        return criterion(network(images.as_subclass(Tensor)), labels.as_subclass(Tensor))

    train(network, loss, steps=steps, rate=rate, seed=seed, progress=progress)


@torch.no_grad()
def mean_dice(network: nn.Module, images: Tensor, labels: Tensor) -> dict[str, float]:
    """Dice of vein and artery, mean over the frames that have one."""
    network.eval()
    metric = DiceMetric(include_background=False, reduction="mean_batch")
    for image, label in zip(images.split(32), labels.split(32), strict=True):
        found = network(image).argmax(1, keepdim=True)
        metric(one_hot(found, CLASSES), one_hot(label.long(), CLASSES))
    per_class = metric.aggregate()
    assert isinstance(per_class, Tensor)
    vein, artery = per_class.tolist()
    return {"vein": vein, "artery": artery, "mean": (vein + artery) / 2}
