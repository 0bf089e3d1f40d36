"""Unpaired translation: the pool, the losses, and going on after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ignite.engine import Events
from monai.losses import PatchAdversarialLoss
from monai.networks.nets import PatchDiscriminator
from torch import Tensor, nn
from torch.utils.data import DataLoader

from medsynth_ext.data.sampler import CounterSampler
from medsynth_ext.data.unpaired import UnpairedDataset
from medsynth_ext.engines import CycleStep, ImagePool, StepTrainer, frozen
from medsynth_ext.handlers import Checkpoint
from medsynth_ext.networks.resnet_generator import ResnetGenerator


def image(value: float) -> Tensor:
    return torch.full((1, 1, 2, 2), float(value))


def test_a_pool_hands_on_new_images_until_it_is_full() -> None:
    pool = ImagePool(3)
    for value in range(3):
        assert torch.equal(pool(image(value)), image(value))
    assert [i.mean().item() for i in pool.images] == [0, 1, 2]


def test_a_full_pool_exchanges_half_of_the_new_images_for_earlier_ones() -> None:
    pool = ImagePool(10, seed=1)
    known, new = set(), 0
    for value in range(2000):
        handed = pool(image(value)).mean().item()
        new += handed == value
        assert handed == value or handed in known
        known.add(float(value))
        assert len(pool.images) == min(value + 1, 10)
    assert 0.45 < (new - 10) / 1990 < 0.55


def test_a_pool_of_a_batch_judges_every_image_alone_and_without_gradient() -> None:
    pool = ImagePool(2, seed=3)
    batch = torch.arange(6.0).view(6, 1, 1, 1).requires_grad_()
    handed = pool(batch)
    assert handed.shape == batch.shape
    assert not handed.requires_grad
    assert handed[:2].flatten().tolist() == [0, 1]
    everything = handed.flatten().tolist() + [i.item() for i in pool.images]
    assert sorted(everything)[-6:] != everything  # something was exchanged
    assert set(range(6)) <= set(everything)  # and nothing was lost


def test_a_pool_without_room_changes_nothing_and_a_negative_one_is_refused() -> None:
    pool = ImagePool(0)
    assert torch.equal(pool(image(4.0)), image(4.0))
    assert not pool.images
    with pytest.raises(ValueError, match="capacity must be 0 or more images, got -1"):
        ImagePool(-1)


def test_the_state_of_a_pool_goes_on_with_the_same_draws() -> None:
    pool, other = ImagePool(4, seed=5), ImagePool(4, seed=6)
    for value in range(9):
        pool(image(value))
    other.load_state_dict(pool.state_dict())
    assert [pool(image(v)).mean() for v in range(20, 40)] == [other(image(v)).mean() for v in range(20, 40)]
    with pytest.raises(ValueError, match="the pool holds 2 images, the state has 4"):
        ImagePool(2).load_state_dict(pool.state_dict())


def make_step(seed: int = 0, **options) -> CycleStep:
    torch.manual_seed(seed)
    generators = [ResnetGenerator(in_channels=1, out_channels=1, features=4, blocks=1) for _ in range(2)]
    judges = [
        PatchDiscriminator(spatial_dims=2, channels=4, in_channels=1, num_layers_d=1, norm="INSTANCE", bias=True)
        for _ in range(2)
    ]
    optimizers = [
        torch.optim.Adam([p for n in pair for p in n.parameters()], lr=2e-3, betas=(0.5, 0.999))
        for pair in (generators, judges)
    ]
    adversarial = PatchAdversarialLoss(criterion="least_squares", no_activation_leastsq=True)
    options = {"pool_size": 6, **options}
    return CycleStep(
        generators,
        judges,
        *optimizers,
        adversarial=adversarial,
        prepare=lambda engine, batch: (batch["a"], batch["b"]),
        **options,
    )


def domains() -> UnpairedDataset:
    """Stripes along rows, dark; stripes along rows, bright: only the brightness has to be changed."""
    generator = torch.Generator().manual_seed(9)
    phase = torch.rand(8, 1, 1, 1, generator=generator) * 6
    stripes = 0.3 * torch.sin(torch.arange(16.0).view(1, 1, 16, 1) * 0.8 + phase).expand(8, 1, 16, 16)
    return UnpairedDataset([{"image": s - 0.5} for s in stripes[:4]], [{"image": s + 0.5} for s in stripes[4:]])


def make_trainer(step: CycleStep, folder: Path | None, epochs: int) -> tuple[StepTrainer, list[list[float]]]:
    data = domains()
    sampler = CounterSampler(data, samples_per_epoch=8, batch_size=2, seed=0)
    schedulers = [
        torch.optim.lr_scheduler.LambdaLR(o, lambda epoch: 1 - epoch / 20)
        for o in (step.generator_optimizer, step.discriminator_optimizer)
    ]
    losses: list[list[float]] = []
    handlers = []
    if folder is not None:
        objects = {**step.checkpoint_objects(), "scheduler": schedulers[0], "judges_scheduler": schedulers[1]}
        handlers = [Checkpoint(folder, objects)]
    trainer = StepTrainer("cpu", epochs, DataLoader(data, 2, sampler=sampler), step, decollate=False)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: [s.step() for s in schedulers])
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED,
        lambda e: losses.append([float(v) for v in e.state.output.values() if v.ndim == 0]),
    )
    for handler in handlers:
        handler.attach(trainer)
    return trainer, losses


def test_all_combinations_are_in_an_unpaired_set() -> None:
    data = UnpairedDataset([{"image": i} for i in range(2)], [{"image": 10 * j} for j in range(3)])
    assert [(d["a"], d["b"]) for d in (data[k] for k in range(len(data)))] == [
        (i, 10 * j) for i in range(2) for j in range(3)
    ]


def test_translation_learns_the_other_domain_and_the_way_back() -> None:
    step = make_step()
    data = domains()
    a = torch.stack([item["image"] for item in data.a])
    before = (step.a_to_b(a).mean() - 0.5).abs()
    trainer, losses = make_trainer(step, None, 10)
    trainer.run()
    with torch.no_grad():
        fake = step.a_to_b(a)
        back = step.b_to_a(fake)
    assert (fake.mean() - 0.5).abs() < 0.4 * before
    assert (back - a).abs().mean() < 0.25
    assert losses[-1] != losses[0]


def test_no_side_learns_from_the_others_update() -> None:
    step = make_step()
    batch = next(iter(DataLoader(domains(), 2)))
    trainer, _ = make_trainer(step, None, 1)
    judged = [p.detach().clone() for n in (step.judge_a, step.judge_b) for p in n.parameters()]
    seen = []

    def update(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        loss.backward()
        mine = {id(p) for group in optimizer.param_groups for p in group["params"]}
        networks = (step.a_to_b, step.b_to_a, step.judge_a, step.judge_b)
        strangers = [p for n in networks for p in n.parameters() if id(p) not in mine]
        seen.append(all(p.grad is None for p in strangers))
        for p in (p for n in networks for p in n.parameters()):
            p.grad = None

    trainer.update = update  # type: ignore[method-assign]
    step(trainer, batch)
    assert seen == [True, True]
    assert all(p.requires_grad for n in (step.judge_a, step.judge_b) for p in n.parameters())
    assert all(
        torch.equal(p, q)
        for p, q in zip(judged, [p for n in (step.judge_a, step.judge_b) for p in n.parameters()], strict=True)
    )


def test_losses_are_those_of_the_paper() -> None:
    class Add(nn.Module):
        def __init__(self, value: float) -> None:
            super().__init__()
            self.value = nn.Parameter(torch.tensor(value))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.value

    class Says(Add):
        def forward(self, x: Tensor) -> list[Tensor]:
            return [x, torch.zeros(1, 1, 1, 1) + self.value]

    generators, judges = [Add(0.25), Add(-0.5)], [Says(0.5), Says(2.0)]
    still = [torch.optim.SGD([p for n in pair for p in n.parameters()], lr=0.0) for pair in (generators, judges)]
    step = CycleStep(
        generators,
        judges,
        *still,
        adversarial=PatchAdversarialLoss(criterion="least_squares", no_activation_leastsq=True),
        prepare=lambda engine, batch: batch,
        cycle_weight=10.0,
        identity_weight=5.0,
    )
    trainer = StepTrainer("cpu", 1, [(image(0.0), image(1.0))], step, decollate=False)
    trainer.run()
    out = {name: float(v) for name, v in trainer.state.output.items() if v.ndim == 0}
    assert out == pytest.approx(
        {
            "adversarial_a": 0.25,  # (0.5 - 1)^2
            "adversarial_b": 1.0,  # (2 - 1)^2
            "cycle_a": 2.5,
            "cycle_b": 2.5,
            "identity_a": 2.5,
            "identity_b": 1.25,
            "discriminator_a": 0.25,  # (0.25 + 0.25) / 2
            "discriminator_b": 2.5,  # (1 + 4) / 2
            "loss": 10.0,
        }
    )


def test_without_identity_weight_the_term_is_absent() -> None:
    trainer = StepTrainer(
        "cpu", 1, DataLoader(domains(), 2), make_step(identity_weight=0.0), epoch_length=1, decollate=False
    )
    trainer.run()
    assert "identity_a" not in trainer.state.output
    assert trainer.state.output["pred"].shape == (2, 1, 16, 16)


def learn_until_killed(folder: Path) -> None:
    """Ends this process in the middle of the fourth epoch."""
    trainer, _ = make_trainer(make_step(), folder, 5)
    trainer.add_event_handler(Events.ITERATION_STARTED(once=14), lambda: os.kill(os.getpid(), signal.SIGKILL))
    trainer.run()


def test_a_training_that_is_killed_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = make_step()
    trainer, losses = make_trainer(whole, tmp_path / "whole", 5)
    trainer.run()
    command = [sys.executable, __file__, str(tmp_path / "killed")]  # this file, as a program
    assert subprocess.run(command, timeout=300, check=False).returncode == -signal.SIGKILL
    resumed = make_step(seed=7)  # other first weights: all of them must come from the checkpoint
    trainer, rest = make_trainer(resumed, tmp_path / "killed", 5)
    trainer.run()
    assert len(losses) == 20
    assert rest == losses[12:]
    for name, value in whole.checkpoint_objects().items():
        if isinstance(value, nn.Module):
            other = resumed.checkpoint_objects()[name].state_dict()
            assert all(torch.equal(v, other[k]) for k, v in value.state_dict().items())
    for mine, other in zip(whole.pools, resumed.pools, strict=True):
        assert len(mine.images) == len(other.images) == 6
        assert all(torch.equal(i, j) for i, j in zip(mine.images, other.images, strict=True))


def test_frozen_networks_pass_gradients_on_and_keep_what_was_frozen_before() -> None:
    layer = nn.Linear(1, 1)
    layer.bias.requires_grad_(False)
    x = torch.ones(1, 1, requires_grad=True)
    with frozen(layer):
        layer(x).sum().backward()
    assert x.grad is not None
    assert layer.weight.grad is None
    assert [p.requires_grad for p in layer.parameters()] == [True, False]


def test_wrong_numbers_of_networks_are_named() -> None:
    step = make_step()
    with pytest.raises(ValueError, match="wanted 2 generators and 2 discriminators, got 1 and 2"):
        CycleStep(
            [step.a_to_b],
            [step.judge_a, step.judge_b],
            step.generator_optimizer,
            step.discriminator_optimizer,
            adversarial=step.adversarial,
            prepare=step.prepare,
        )


if __name__ == "__main__":
    learn_until_killed(Path(sys.argv[1]))
