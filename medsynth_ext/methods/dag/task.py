"""The method's part in the mean-teacher training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from medsynth_ext.engines.sample_states import sample_states
from medsynth_ext.methods.dag.augmentation import RadiographAugmentation, transform_points, warp_image
from medsynth_ext.methods.dag.coordinates import to_index, to_normalised
from medsynth_ext.methods.dag.losses import DAGLoss
from medsynth_ext.methods.dag.network import DAGNet, DAGOutput

__all__ = ["DAGTask"]

_NOISE = 1 << 32  # the student's noise has other random numbers than the augmentation


class DAGTask:
    """Radiographs in [0, 1] and points in index coordinates, to the terms of :class:`DAGLoss`.

    Args:
        augmentation: the same for teacher and student.
        loss: the terms.
        noise: standard deviation of the noise on the student's unlabelled images, which have deviation 1.
        student_turn: turns the student's unlabelled images in addition, and the teacher's points and features with
            them: equivariance, which the paper does not ask for.
    """

    def __init__(
        self,
        augmentation: RadiographAugmentation,
        loss: DAGLoss,
        *,
        noise: float = 0.1,
        student_turn: RadiographAugmentation | None = None,
    ) -> None:
        if student_turn is not None and student_turn.pairs:
            raise ValueError("student_turn must not mirror: landmarks would change names between teacher and student")
        self.augmentation = augmentation
        self.loss = loss
        self.noise = noise
        self.student_turn = student_turn

    def prepare(
        self, batch: Mapping[str, Any], seed: int, first: int, device: torch.device
    ) -> tuple[Tensor, Tensor | None]:
        """``image`` (B, 1, H, W) and, where there are, ``label`` (B, N, 2), NaN where not visible."""
        image = batch["image"].to(device, non_blocking=True)
        points = batch["label"].to(device, non_blocking=True) if "label" in batch else None
        if points is not None:
            points = to_normalised(points.float(), image.shape[2:])
        image, points = self.augmentation(image.float(), points, sample_states(seed, first, len(image)))
        return image, None if points is None else to_index(points, image.shape[2:])

    def disturb(self, image: Tensor, seed: int, first: int) -> tuple[Tensor, Tensor | None]:
        """White noise on the image, which is turned before where that is wanted; and how, (B, 2, 3) normalised."""
        states = sample_states(seed + _NOISE, first, len(image))
        noise = torch.stack([torch.from_numpy(state.standard_normal(image.shape[1:])) for state in states])
        if self.student_turn is None:
            return image + self.noise * noise.to(image), None
        matrix = self.student_turn.draw(states, image.device).matrix
        darkest = image.amin((1, 2, 3), keepdim=True)
        turned = warp_image(image - darkest, matrix) + darkest
        return turned + self.noise * noise.to(image), matrix

    def outputs(self, network: nn.Module, image: Tensor) -> DAGOutput:
        """Points and features, of a network or of its :class:`DAGStages` in several processes."""
        return network.stages(image) if isinstance(network, DAGNet) else network(image)

    def supervised(self, student: DAGOutput, target: Tensor) -> dict[str, Tensor]:
        """Against labelled points in index coordinates."""
        size = [4 * side for side in student.features.shape[2:]]
        return self.loss.supervised(student, to_normalised(target, size))

    def consistency(self, student: DAGOutput, teacher: DAGOutput, change: Tensor | None) -> dict[str, Tensor]:
        """Against the teacher's points and features, turned as the student's image is."""
        if change is not None:
            teacher = DAGOutput(
                transform_points(teacher.moved, change),
                transform_points(teacher.points, change),
                warp_image(teacher.features.float(), change),
            )
        return self.loss.consistency(student, teacher)

    def prediction(self, student: DAGOutput) -> Tensor:
        """Points in index coordinates."""
        return to_index(student.points, [4 * side for side in student.features.shape[2:]])
