"""The networks that judge translations: a segmenter per modality and a feature network, trained on phantom truth."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from monai.losses import DiceCELoss
from monai.networks.nets import BasicUNet
from torch import Tensor, nn

from medsynth_ext.engines import sample_states
from medsynth_ext.phantoms.pelvis_ct_mr import STRUCTURES

__all__ = ["TissueFeatures", "segmenter", "train_features", "train_segmenter"]

CLASSES = len(STRUCTURES) + 1


def segmenter(features: int) -> nn.Module:
    """A small U-Net from one image to the structures of the phantom."""
    f = features
    return BasicUNet(2, 1, CLASSES, features=(f, f, 2 * f, 2 * f, 4 * f, f), norm=("instance", {"affine": True}))


class TissueFeatures(nn.Module):
    """Strided convolutions that know the modality of a slice and what share of each cell every tissue has.

    The call gives the map below the two heads, whose mean over space is a slice's vector for FID and KID.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        widths = (1, features, 2 * features, 2 * features)
        layers: list[nn.Module] = []
        for a, b in pairwise(widths):
            layers += [nn.Conv2d(a, b, 3, stride=2, padding=1), nn.BatchNorm2d(b), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], widths[-1], 3, padding=1), nn.ReLU())
        self.modality = nn.Linear(widths[-1], 2)
        self.tissues = nn.Conv2d(widths[-1], CLASSES, 1)

    def forward(self, image: Tensor) -> Tensor:  # (B, 1, H, W) to (B, F, H / 8, W / 8)
        return self.layers(image)


def _batches(images: Tensor, labels: Tensor, *, steps: int, batch_size: int, seed: int) -> Any:
    """Random slices with their labels, half of them mirrored."""
    for step in range(steps):
        states = sample_states(seed, step * batch_size, batch_size)
        chosen = torch.tensor([int(state.randint(len(images))) for state in states], device=images.device)
        flip = torch.tensor([bool(state.rand() < 0.5) for state in states], device=images.device)
        image, label = images[chosen].float()[:, None], labels[chosen].long()[:, None]
        mirrored = flip[:, None, None, None]
        yield chosen, torch.where(mirrored, image.flip(3), image), torch.where(mirrored, label.flip(3), label)


def train_segmenter(
    network: nn.Module,
    images: Tensor,  # (N, H, W) in [-1, 1]
    labels: Tensor,  # (N, H, W)
    *,
    steps: int,
    batch_size: int,
    progress: Callable[..., None],
) -> None:
    """Dice and cross-entropy on random slices, a little noise added so that the segmenter does not hang on texture."""
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    loss_function = DiceCELoss(to_onehot_y=True, softmax=True)
    generator = torch.Generator().manual_seed(0)
    network.train()
    for i, (_, image, label) in enumerate(_batches(images, labels, steps=steps, batch_size=batch_size, seed=11)):
        noise = 0.05 * torch.randn(image.shape, generator=generator).to(image.device)
        loss = loss_function(network(image + noise), label)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        progress((i + 1) / steps, f"step {i + 1}, loss {loss.item():.3f}")
    network.eval()


def train_features(
    network: TissueFeatures,
    images: Tensor,  # (N, H, W)
    labels: Tensor,  # (N, H, W)
    modality: Tensor,  # (N,) 0 or 1
    *,
    steps: int,
    batch_size: int,
    progress: Callable[..., None],
) -> None:
    """Both heads at once."""
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    network.train()
    for i, (chosen, image, label) in enumerate(_batches(images, labels, steps=steps, batch_size=batch_size, seed=12)):
        features = network(image)
        shares = F.one_hot(label[:, 0], CLASSES).movedim(-1, 1).float()
        shares = F.adaptive_avg_pool2d(shares, features.shape[2:])
        tissue = F.cross_entropy(network.tissues(features), shares)
        loss = tissue + F.cross_entropy(network.modality(features.mean((2, 3))), modality[chosen])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        progress((i + 1) / steps, f"step {i + 1}, loss {loss.item():.3f}")
    network.eval()
