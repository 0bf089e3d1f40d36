"""Other ways to learn from unlabelled images, that the mean teacher is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from medsynth_ext.engines.mean_teacher_step import MeanTeacherStep
from medsynth_ext.engines.sample_states import sample_states
from medsynth_ext.methods.dag.augmentation import transform_points, z_score
from medsynth_ext.methods.dag.network import DAGOutput
from medsynth_ext.methods.dag.task import DAGTask

__all__ = ["EnsembleStep", "PiStep"]

_SECOND = 1 << 33  # the second disturbed copy has other random numbers than the first


class PiStep(MeanTeacherStep):
    """Pi-model (Laine and Aila, ICLR 2017): the student agrees with itself on another disturbed copy.

    The targets carry no gradient. Give it a teacher without memory (decay 0), whose weights are the student's.
    """

    def terms(self, image: Tensor, target: Tensor | None, first: int) -> tuple[dict[str, Tensor], Any]:
        if target is not None:
            return super().terms(image, target, first)
        with torch.no_grad():
            other = self.task.outputs(self.student, self.task.disturb(image, self.seed + _SECOND, first)[0])
        disturbed, change = self.task.disturb(image, self.seed, first)
        student = self.task.outputs(self.student, disturbed)
        return self.task.consistency(student, other, change), student


class EnsembleStep(MeanTeacherStep):
    """Temporal ensembling (Laine and Aila, ICLR 2017): targets are a moving average of an image's earlier predictions.

    They are kept for the image as it is and follow the augmentation; the task must not turn the
    student's image. They start as the predictions of the network that
    the training starts from; with ``memory`` 1 they stay that: pseudo-labels.

    Args:
        options: of ``MeanTeacherStep``; the task must be a ``DAGTask``, the teacher one without memory (decay 0).
        memory: weight of the old average.
    """

    def __init__(self, *options: Any, memory: float = 0.6, **named: Any) -> None:
        super().__init__(*options, **named)
        assert isinstance(self.task, DAGTask)
        self.augmentation = self.task.augmentation
        self.memory = memory
        self.table = torch.zeros(0)  # (unlabelled images, N, 2) normalised
        self.index = torch.zeros(0, dtype=torch.int64)

    @torch.no_grad()
    def remember(self, images: Tensor, *, batch_size: int = 16) -> None:
        """Predict all unlabelled images (U, 1, H, W) in [0, 1], in the order of their numbers."""
        network = self.teacher.network.eval()
        device = next(network.parameters()).device
        parts = [network.stages(z_score(part.float().to(device))).points for part in images.split(batch_size)]  # type: ignore[operator]
        self.table = torch.cat(parts)

    def run(self, batch: Mapping[str, Any], first: int, device: torch.device, **options: Any) -> dict[str, Any]:
        """As ``MeanTeacherStep.run``; an unlabelled batch has the numbers of its images as ``index`` (B,)."""
        if "label" not in batch:
            self.index = batch["index"].to(self.table.device)
        return super().run(batch, first, device, **options)

    def terms(self, image: Tensor, target: Tensor | None, first: int) -> tuple[dict[str, Tensor], Any]:
        if target is not None:
            return super().terms(image, target, first)
        matrix = self.augmentation.draw(sample_states(self.seed, first, len(image)), image.device).matrix
        wanted = transform_points(self.table[self.index], matrix)
        disturbed, change = self.task.disturb(image, self.seed, first)
        student = self.task.outputs(self.student, disturbed)
        terms = self.task.consistency(student, DAGOutput(wanted, wanted, student.features.detach()), change)
        if self.memory < 1:
            square = torch.linalg.inv(matrix[:, :, :2])
            back = torch.cat([square, -square @ matrix[:, :, 2:]], 2)
            seen = transform_points(student.points.detach(), back)
            self.table[self.index] = self.memory * self.table[self.index] + (1 - self.memory) * seen
        return terms, student

    def state_dict(self) -> dict[str, Tensor]:
        """The averages, for a checkpoint."""
        return {"table": self.table}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on with saved averages."""
        self.table = state["table"].clone()
