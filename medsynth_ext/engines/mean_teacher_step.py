"""Mean-teacher training: a student learns from labels and from a teacher that is its own moving average."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from medsynth_ext.engines.adversarial_step import Update, checked_update
from medsynth_ext.engines.processes import rank_and_world
from medsynth_ext.engines.trainer import StepTrainer
from medsynth_ext.handlers.ema import EMA

__all__ = ["MeanTeacherStep", "SemiSupervisedTask"]


class SemiSupervisedTask(Protocol):
    """What a method gives to the mean teacher. Outputs are whatever its losses need; the step only hands them on."""

    def prepare(
        self, batch: Mapping[str, Any], seed: int, first: int, device: torch.device
    ) -> tuple[Tensor, Tensor | None]:  # image (B, C, *S), target or None for an unlabelled batch
        """The augmented image that teacher and student get, and its target; a function of (seed, sample's number)."""

    def disturb(self, image: Tensor, seed: int, first: int) -> tuple[Tensor, Any]:
        """The image as only the student sees it, of an unlabelled batch, and what ``consistency`` must know of it."""

    def outputs(self, network: nn.Module, image: Tensor) -> Any:
        """What the losses compare."""

    def supervised(self, student: Any, target: Tensor) -> dict[str, Tensor]:
        """Weighted terms against a target, summed."""

    def consistency(self, student: Any, teacher: Any, change: Any) -> dict[str, Tensor]:
        """Weighted terms against the teacher's outputs, summed; only the student gets gradients.

        ``change`` is what :meth:`disturb` has told, for example how the student's image is turned.
        """

    def prediction(self, student: Any) -> Tensor:
        """What pictures and metrics see."""


class MeanTeacherStep:
    """One update on a labelled or on an unlabelled batch, then the teacher moves (Tarvainen and Valpola, NeurIPS 2017).

    A batch with ``label`` trains with the supervised terms. Without, the teacher looks at the augmented image and the
    student at a disturbed copy of it, and the consistency terms count. The teacher has no gradients and normalises with
    its running statistics, which follow the student's like its weights do. Samples are numbered as in
    ``SupervisedStep``; keep the teacher in the ``Checkpoint``.

    Args:
        task: preparation, noise and losses of the method.
        student: the network in training.
        teacher: its moving average.
        optimizer: updates the student.
        seed: key of all random numbers.
        move_teacher: with ``False`` the teacher stays what it was: pseudo-labels made once.
        fixed_norm: the student too normalises with its running statistics, which stay as they are. With those of small
            batches it drifts away from a teacher that never sees them, and the teacher after it.
    """

    def __init__(
        self,
        task: SemiSupervisedTask,
        student: nn.Module,
        teacher: EMA,
        optimizer: torch.optim.Optimizer,
        *,
        seed: int = 0,
        move_teacher: bool = True,
        fixed_norm: bool = False,
    ) -> None:
        self.task = task
        self.student = student
        self.teacher = teacher
        self.optimizer = optimizer
        self.seed = seed
        self.move_teacher = move_teacher
        self.fixed_norm = fixed_norm

    def terms(self, image: Tensor, target: Tensor | None, first: int) -> tuple[dict[str, Tensor], Any]:
        """The loss's terms and the student's outputs; a method may override it for another source of targets."""
        if target is not None:
            student = self.task.outputs(self.student, image)
            return self.task.supervised(student, target), student
        with torch.no_grad():
            teacher = self.task.outputs(self.teacher.network, image)
        disturbed, change = self.task.disturb(image, self.seed, first)
        student = self.task.outputs(self.student, disturbed)
        return self.task.consistency(student, teacher, change), student

    def run(
        self,
        batch: Mapping[str, Any],
        first: int,
        device: torch.device,
        *,
        update: Update = checked_update,
        autocast: AbstractContextManager | None = None,
    ) -> dict[str, Any]:
        """One update on the batch whose first sample has the number ``first``.

        Args:
            batch: of the task.
            first: number of its first sample.
            device: where to train.
            update: back-propagates and steps; a trainer has its own.
            autocast: precision of the forward passes; full when ``None``.
        """
        with torch.no_grad():
            image, target = self.task.prepare(batch, self.seed, first, device)
        self.student.train()
        if self.fixed_norm:
            _fix_norms(self.student)
        self.teacher.restart()  # takes over weights that were loaded since; nothing once it has moved
        with autocast or nullcontext():
            terms, student = self.terms(image, target, first)
        loss = torch.stack(list(terms.values())).sum()
        update(loss, self.optimizer)
        if self.move_teacher:
            self.teacher.update()
        output = {name: term.detach() for name, term in terms.items()}
        output |= {"loss": loss.detach(), "image": image, "pred": self.task.prediction(student).detach()}
        return output if target is None else {**output, "label": target}

    def __call__(self, engine: StepTrainer, batch: Mapping[str, Any]) -> dict[str, Any]:
        rank, world = rank_and_world()
        first = ((engine.state.iteration - 1) * world + rank) * len(batch["image"])
        device = torch.device(engine.state.device)
        return self.run(batch, first, device, update=engine.update, autocast=engine.autocast())


def _fix_norms(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
