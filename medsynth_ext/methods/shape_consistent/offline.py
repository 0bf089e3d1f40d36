"""The off-line baseline: segmenters tuned on real volumes and on volumes that were generated beforehand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from monai.transforms import Randomizable
from torch import Tensor, nn

from medsynth_ext.engines import checked_update, sample_states
from medsynth_ext.methods.shape_consistent.run_network import predicted

__all__ = ["generate_offline", "tune_offline"]


def generate_offline(
    images: Tensor,  # (N, 1, *S) of the segmenter's own domain
    others: Tensor,  # (M, 1, *S) of the other domain
    *,
    to_own: nn.Module,
    to_other: nn.Module,
) -> tuple[Tensor, Tensor]:  # (M, 1, *S) translations of others, (N, 1, *S) reconstructions of images
    """Everything that a pair of generators can add to a domain."""
    translated = torch.stack([predicted(volume, to_own).cpu() for volume in others])
    there_and_back = [predicted(predicted(volume, to_other), to_own).cpu() for volume in images]
    return translated, torch.stack(there_and_back)


def tune_offline(
    network: nn.Module,
    real: tuple[Tensor, Tensor],  # (N, 1, *S) images, (N, 1, *S) labels
    synthetic: tuple[Tensor, Tensor],
    *,
    loss: Callable[[Tensor, Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    rate: Callable[[int], float],
    steps: int,
    transform: Callable[[Mapping[str, Tensor]], Mapping[str, Any]],
    seed: int,
    progress: Callable[[float, str], None] | None = None,
) -> None:
    """Tune with half real, half generated volumes in every batch.

    Args:
        network: the segmenter, trained on real volumes.
        real: labelled volumes.
        synthetic: generated volumes with the labels of their sources.
        loss: ``loss(logits, label)``.
        optimizer: updates the network.
        rate: share of its full rate after so many batches.
        steps: number of batches.
        transform: random transform of ``{"image": ..., "label": ...}``.
        seed: step n is a function of (seed, n).
        progress: called with the share that is done, and a word on it.

    Raises:
        FloatingPointError: when the loss or its gradient is not finite.
    """
    device = next(network.parameters()).device
    network.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate(step) * optimizer.defaults["lr"]
        images, labels = [], []
        for (volumes, maps), state in zip((real, synthetic), sample_states(seed, 2 * step, 2), strict=True):
            index = int(state.randint(len(volumes)))
            if isinstance(transform, Randomizable):
                transform.set_random_state(state=state)
            item = transform({"image": volumes[index], "label": maps[index].long()})
            images.append(torch.as_tensor(item["image"]).as_subclass(Tensor).clamp(-1, 1))
            labels.append(torch.as_tensor(item["label"]).as_subclass(Tensor).long())
        with torch.autocast(device.type, dtype=torch.bfloat16):
            logits = network(torch.stack(images).to(device))
        checked_update(loss(logits.float(), torch.stack(labels).to(device)), optimizer)
        if progress is not None:
            progress((step + 1) / steps, f"tuning, step {step + 1}")
