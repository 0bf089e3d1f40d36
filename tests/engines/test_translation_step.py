"""The adversarial step of translation: who is updated, what is reported, what a checkpoint holds."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from ignite.engine import Events
from monai.data import MetaTensor
from torch import Tensor, nn

from medsynth_ext.engines import StepTrainer, TranslationStep
from medsynth_ext.handlers import Checkpoint
from medsynth_ext.losses import AdversarialLoss


class Objective:
    """A shift of the image against two discriminators that take turns."""

    def __init__(self, generator: nn.Module, judges: dict[str, nn.Module]) -> None:
        self.generator, self.judges, self.loss = generator, judges, AdversarialLoss("least_squares")

    def generate(self, images: dict[str, Tensor], iteration: int) -> dict[str, Tensor]:
        self.turn = "even" if iteration % 2 == 0 else "odd"
        return {**images, "pred": self.generator(images["image"])}

    def discriminator_terms(self, images: dict[str, Tensor]) -> dict[str, Tensor]:
        judge = self.judges[self.turn]
        return {self.turn: self.loss.discriminator(judge(images["real"]), judge(images["pred"].detach()))}

    def generator_terms(self, images: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"adversarial": self.loss.generator(self.judges[self.turn](images["pred"]))}


def build(folder: Path | None = None, *, epochs: int = 2, poison: bool = False) -> tuple[StepTrainer, TranslationStep]:
    torch.manual_seed(0)
    generator = nn.Linear(1, 1)
    judges: dict[str, nn.Module] = {"odd": nn.Linear(1, 1), "even": nn.Linear(1, 1)}
    step = TranslationStep(
        generator,
        Objective(generator, judges),
        torch.optim.Adam(generator.parameters(), 0.1),
        judges,
        {name: torch.optim.Adam(judge.parameters(), 0.1) for name, judge in judges.items()},
        prepare=lambda engine, batch: {key: value.as_subclass(Tensor) for key, value in batch.items()},
    )
    meta = {"filename_or_obj": ["one.nii.gz", "two.nii.gz", "one.nii.gz"]}
    images = [MetaTensor(torch.full((3, 1), torch.nan if poison else float(i)), meta=meta) for i in range(3)]
    loader = [{"image": image, "real": image + 4} for image in images]
    handlers = [] if folder is None else [Checkpoint(folder, step.checkpoint_objects())]
    return StepTrainer("cpu", epochs, loader, step, train_handlers=handlers, decollate=False), step


def values(step: TranslationStep) -> dict[str, list[Tensor]]:
    networks = {"generator": step.generator, **step.discriminators}
    return {name: [p.detach().clone() for p in network.parameters()] for name, network in networks.items()}


def test_only_the_discriminator_whose_turn_it_is_learns_and_the_generator_always() -> None:
    trainer, step = build(epochs=1)
    before = values(step)
    seen = []

    def note(engine: StepTrainer) -> None:
        seen.append((dict(engine.state.output), values(step)))

    trainer.add_event_handler(Events.ITERATION_COMPLETED, note)
    trainer.run()
    for i, (output, after) in enumerate(seen, 1):
        changed = {
            name for name in after if any(not torch.equal(a, b) for a, b in zip(after[name], before[name], strict=True))
        }
        assert changed == {"generator", "odd" if i % 2 else "even"}
        assert output["loss"] == output["adversarial"]
        assert f"discriminator_{'odd' if i % 2 else 'even'}" in output
        assert not output["pred"].requires_grad
        before = after
    assert all(p.requires_grad for judge in step.discriminators.values() for p in judge.parameters())


def test_a_training_that_goes_on_from_a_checkpoint_ends_as_one_that_was_never_stopped(tmp_path: Path) -> None:
    whole, step = build(tmp_path / "whole", epochs=3)
    whole.run()
    build(tmp_path / "parts", epochs=1)[0].run()
    rest, resumed = build(tmp_path / "parts", epochs=3)
    rest.run()
    assert rest.state.iteration == whole.state.iteration
    for name, wanted in values(step).items():
        assert all(torch.equal(a, b) for a, b in zip(wanted, values(resumed)[name], strict=True))


def test_a_loss_that_is_not_a_number_stops_with_the_names_of_the_files_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    build(tmp_path, epochs=1)[0].run()
    (kept,) = tmp_path.iterdir()
    content = kept.read_bytes()
    trainer, _ = build(tmp_path, epochs=2, poison=True)
    with pytest.raises(FloatingPointError, match=r"iteration 4 .*the batch holds one.nii.gz, two.nii.gz$"):
        trainer.run()
    assert [path.name for path in tmp_path.iterdir()] == [kept.name]
    assert kept.read_bytes() == content


def test_discriminators_without_an_optimiser_are_refused() -> None:
    _, step = build()
    with pytest.raises(ValueError, match="every discriminator needs an optimiser"):
        TranslationStep(
            step.generator, step.objective, step.generator_optimizer, copy.copy(step.discriminators), {}, prepare=dict
        )
