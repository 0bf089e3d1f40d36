"""From volumes in memory to what a training step sees: on the device, moved at random."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from monai.transforms import Randomizable
from torch import Tensor

from medsynth_ext.engines import StepTrainer, sample_states
from medsynth_ext.engines.joint_cycle_step import DomainBatch
from medsynth_ext.engines.processes import rank_and_world
from medsynth_ext.methods.shape_consistent.volumes import DOMAINS

__all__ = ["AugmentedDomains"]


class AugmentedDomains:
    """Both domains of a batch of :class:`JointVolumes`, image and label moved alike.

    Sample n of a training is moved by a function of (seed, n, domain), see
    :class:`medsynth_ext.engines.SupervisedStep`.

    Args:
        transform: random transform of ``{"image": (1, *S), "label": (1, *S)}``; ``None`` leaves volumes as they are.
        seed: key of the draws.
    """

    def __init__(self, transform: Callable[[Mapping[str, Tensor]], Mapping[str, Any]] | None, *, seed: int = 0) -> None:
        self.transform = transform
        self.seed = seed

    def __call__(self, engine: StepTrainer, batch: Mapping[str, Any]) -> tuple[DomainBatch, DomainBatch]:
        """Batches of a and b."""
        rank, world = rank_and_world()
        count = len(batch["image_a"])
        first = ((engine.state.iteration - 1) * world + rank) * count
        device = torch.device(engine.state.device)
        a, b = (
            self._domain(batch, name, [2 * (first + n) + i for n in range(count)], device)
            for i, name in enumerate(DOMAINS)
        )
        return a, b

    def _domain(self, batch: Mapping[str, Any], name: str, numbers: Sequence[int], device: torch.device) -> DomainBatch:
        image, label, real, real_label = (
            batch[f"{key}_{name}"].to(device) for key in ("image", "label", "real", "real_label")
        )
        labelled = torch.as_tensor(batch[f"labelled_{name}"]).to(device)
        image, label = self._moved(image, label, numbers)
        # Where a volume has a label the segmenter sees the very same one.
        real, real_label = (image, label) if bool(labelled.all()) else self._moved(real, real_label, numbers)
        return DomainBatch(image, label, labelled, real, real_label)

    def _moved(self, images: Tensor, labels: Tensor, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
        if self.transform is None:
            return images, labels
        moved = []
        for image, label, number in zip(images, labels, numbers, strict=True):
            (state,) = sample_states(self.seed, number, 1)
            if isinstance(self.transform, Randomizable):
                self.transform.set_random_state(state=state)
            moved.append(self.transform({"image": image, "label": label}))
        image, label = (
            torch.stack([torch.as_tensor(m[k]).as_subclass(Tensor) for m in moved]) for k in ("image", "label")
        )
        return image.clamp(-1, 1), label.long()
