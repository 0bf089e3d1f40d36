"""The downstream task in memory: training the U-Net on real and generated volumes, and scoring it."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from monai.losses import DiceCELoss
from torch import Tensor, nn

from medsynth_ext.engines import checked_update
from medsynth_ext.methods.fedsim.overlap import dice_and_iou

__all__ = ["predict_hearts", "score_segmenter", "train_segmenter"]


def train_segmenter(
    network: nn.Module,
    images: Tensor,  # (M, 1, N, N, N) in [-1, 1]
    hearts: Tensor,  # (M, 1, N, N, N)
    *,
    steps: int,
    learning_rate: float,
    seed: int,
    validation: tuple[Tensor, Tensor] | None = None,
    check_every: int = 20,
    patience: int = 20,
    batch_size: int = 1,
    progress: Callable[[float, str], None] | None = None,
) -> None:
    """Dice and cross-entropy with Adam; ends with the weights of the best validation Dice.

    Args:
        network: updated in place.
        images: training volumes.
        hearts: their labels.
        steps: updates at most.
        learning_rate: of Adam.
        seed: of the order of the volumes.
        validation: images and hearts to choose the weights by; the last ones are kept without.
        check_every: steps between two validations.
        patience: validations without a better Dice before the training stops.
        batch_size: volumes per step.
        progress: told the finished share now and then.
    """
    device = next(network.parameters()).device
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    loss_function = DiceCELoss(to_onehot_y=True, softmax=True)
    rng = np.random.Generator(np.random.Philox(key=np.array([seed, 77], dtype=np.uint64)))
    best, kept, waited = -1.0, None, 0
    for step in range(1, steps + 1):
        index = torch.from_numpy(rng.choice(len(images), min(batch_size, len(images)), replace=False))
        network.train()
        loss = loss_function(network(images[index].to(device)), hearts[index].to(device))
        checked_update(loss, optimizer)
        if validation is not None and (step % check_every == 0 or step == steps):
            dice = score_segmenter(network, *validation)["dice"]
            waited += 1
            if dice > best:
                best, kept, waited = dice, copy.deepcopy(network.state_dict()), 0
            if waited >= patience:
                break
        if progress is not None and step % 10 == 0:
            progress(step / steps, f"U-Net step {step}, loss {loss.item():.3f}")
    if kept is not None:
        network.load_state_dict(kept)


@torch.no_grad()
def predict_hearts(network: nn.Module, images: Tensor) -> Tensor:  # (M, 1, N, N, N) -> (M, 1, N, N, N) bool
    """The class with the larger score."""
    network.eval()
    device = next(network.parameters()).device
    return torch.cat([network(image.to(device)).argmax(1, keepdim=True).cpu() for image in images.split(1)]) > 0


def score_segmenter(network: nn.Module, images: Tensor, hearts: Tensor) -> dict[str, float]:
    """Mean Dice and mean IoU over the volumes, in percent."""
    dice, iou = dice_and_iou(predict_hearts(network, images), hearts)
    return {"dice": 100 * dice.mean().item(), "iou": 100 * iou.mean().item()}
