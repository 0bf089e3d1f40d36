"""The mean teacher on a linear task: what moves, what does not, and what a killed training goes on with."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from medsynth_ext.data.semi_supervised import SemiSupervisedSampler
from medsynth_ext.engines import MeanTeacherStep, StepTrainer
from medsynth_ext.handlers import EMA, Checkpoint

CPU = torch.device("cpu")


class Task:
    """Least squares; the student's disturbance adds its sample's number, so that it can be seen."""

    def __init__(self):
        self.seen, self.changes = [], []

    def prepare(self, batch, seed, first, device):
        return batch["image"], batch.get("label")

    def disturb(self, image, seed, first):
        generator = torch.Generator().manual_seed(seed + first)
        return image + 0.1 * torch.randn(image.shape, generator=generator), first

    def outputs(self, network, image):
        self.seen.append((network, image, torch.is_grad_enabled(), network.training))
        return network(image)

    def supervised(self, student, target):
        return {"fit": (student - target).square().mean()}

    def consistency(self, student, teacher, change):
        self.changes.append(change)
        assert not teacher.requires_grad
        return {"agree": (student - teacher).square().mean()}

    def prediction(self, student):
        return student


def make(decay=0.9, *, seed=0, **options):
    torch.manual_seed(3)
    network = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    teacher = EMA(network, decay=decay, warm_up=1.0)
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    return MeanTeacherStep(Task(), network, teacher, optimizer, seed=seed, **options)


def labelled(n=8):
    image = torch.randn(n, 2, generator=torch.Generator().manual_seed(1))
    return {"image": image, "label": image.sum(1, keepdim=True)}


def unlabelled(n=8):
    return {"image": torch.randn(n, 2, generator=torch.Generator().manual_seed(2))}


def weights(network):
    return torch.cat([v.detach().flatten().double() for v in network.state_dict().values()])


def test_labelled_batch_trains_on_the_plain_image_without_the_teacher() -> None:
    step = make()
    output = step.run(labelled(), 0, CPU)
    ((network, image, grad, training),) = step.task.seen
    assert network is step.student
    assert torch.equal(image, labelled()["image"])
    assert grad
    assert training
    assert set(output) == {"fit", "loss", "image", "pred", "label"}
    assert not output["loss"].requires_grad


def test_unlabelled_batch_teacher_sees_the_plain_image_student_a_disturbed_one() -> None:
    step = make()
    output = step.run(unlabelled(), 5, CPU)
    teacher, student = step.task.seen
    assert teacher[0] is step.teacher.network
    assert torch.equal(teacher[1], unlabelled()["image"])
    assert teacher[2:] == (False, False)
    assert student[0] is step.student
    assert torch.equal(student[1], step.task.disturb(unlabelled()["image"], 0, 5)[0])
    assert step.task.changes == [5]
    assert student[2:] == (True, True)
    assert set(output) == {"agree", "loss", "image", "pred"}


def test_teacher_moves_by_the_schedule_with_its_batch_statistics() -> None:
    step = make(decay=0.9)
    expected = weights(step.student)
    for t in range(1, 21):
        step.run(labelled(), 8 * t, CPU)
        alpha = min(1 - 1 / (t + 1), 0.9)
        expected = alpha * expected + (1 - alpha) * weights(step.student)
        found = weights(step.teacher.network)
        counter = len(weights(step.student)) - 1 - sum(p.numel() for p in step.student[2].parameters())
        keep = torch.arange(len(found)) != counter  # the number of batches is copied, not averaged
        assert torch.allclose(found[keep], expected[keep], atol=1e-6), t
    assert not torch.allclose(step.teacher.network[1].running_mean, torch.zeros(4))


def test_teacher_gets_no_gradient_and_stays_when_it_is_told_to() -> None:
    step = make(move_teacher=False)
    before = weights(step.teacher.network)
    step.run(unlabelled(), 0, CPU)
    assert torch.equal(weights(step.teacher.network), before)
    assert all(p.grad is None for p in step.teacher.network.parameters())
    assert not torch.equal(weights(step.student), before)


def test_fixed_norm_keeps_the_running_statistics_of_a_student_that_trains() -> None:
    step = make(fixed_norm=True)
    norm, before = step.student[1], weights(step.student)
    for t in range(3):
        step.run(unlabelled(), 8 * t, CPU)
        step.run(labelled(), 8 * t + 4, CPU)
    assert torch.equal(norm.running_mean, torch.zeros(4))
    assert torch.equal(norm.running_var, torch.ones(4))
    assert not torch.equal(weights(step.student), before)
    assert norm.weight.grad is not None
    assert step.student.training


def test_teacher_takes_over_weights_loaded_after_it_was_made() -> None:
    step = make(decay=0.5, move_teacher=False)
    with torch.no_grad():
        step.student[0].weight.fill_(7.0)
    step.run(unlabelled(), 0, CPU)
    assert (step.teacher.network[0].weight == 7.0).all()


def test_a_loss_that_is_not_finite_changes_nothing() -> None:
    step = make()
    before = weights(step.student), weights(step.teacher.network)
    batch = labelled()
    batch["label"][0] = torch.nan
    with pytest.raises(FloatingPointError, match="the loss must be finite"):
        step.run(batch, 0, CPU)
    assert torch.equal(weights(step.teacher.network), before[1])
    parameters = [p.detach().flatten() for p in step.student.parameters()]
    assert all(torch.isfinite(p).all() for p in parameters)


def train(folder, epochs):
    """Iteration and loss; a training with few epochs stands for one that was killed."""
    step = make(decay=0.99)
    items = [{"image": i, "label": i.sum(0, keepdim=True)} for i in labelled()["image"]]
    items += [{"image": i} for i in unlabelled(30)["image"]]
    sampler = SemiSupervisedSampler(items, labelled=8, ratio=2, samples_per_epoch=20, batch_size=4, seed=5)
    losses = []
    objects = {"student": step.student, "teacher": step.teacher, "optimizer": step.optimizer}
    trainer = StepTrainer(
        "cpu",
        epochs,
        DataLoader(items, batch_size=4, sampler=sampler),
        step,
        train_handlers=[Checkpoint(folder, objects)],
        decollate=False,
    )

    from ignite.engine import Events

    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda e: losses.append((e.state.iteration, float(e.state.output["loss"])))
    )
    trainer.run()
    return losses, weights(step.teacher.network)


def test_a_training_that_goes_on_has_the_same_losses_and_the_same_teacher(tmp_path) -> None:
    whole, teacher = train(tmp_path / "whole", 4)
    first, _ = train(tmp_path / "parts", 2)
    rest, again = train(tmp_path / "parts", 4)
    assert first + rest == whole
    assert [i for i, _ in rest] == list(range(11, 21))
    assert torch.equal(again, teacher)
