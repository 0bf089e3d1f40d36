"""Building and training an arm with the parts that the bundle's configs name."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.handlers import LrScheduleHandler
from monai.networks.utils import normal_init
from torch import Tensor, nn
from torch.utils.data import DataLoader

from medsynth_ext.data.sampler import CounterSampler
from medsynth_ext.engines import CycleStep, StepTrainer, TranslationStep
from medsynth_ext.handlers import Checkpoint
from medsynth_ext.losses import AdversarialLoss
from medsynth_ext.methods.semipaired.augmentation import DomainPair, SlicePreparation
from medsynth_ext.methods.semipaired.claims.settings import Settings, TranslationArm
from medsynth_ext.methods.semipaired.objectives import PairedObjective, SurrogateObjective, TwoDiscriminatorObjective
from medsynth_ext.methods.semipaired.slices import SemiPairedSlices
from medsynth_ext.networks import MultiScaleDiscriminator, PatchDiscriminator, ResnetGenerator, UNetGenerator

__all__ = ["ArmTraining"]


class ArmTraining:
    """The networks of an arm and their training.

    Args:
        arm: what is trained.
        settings: the numbers.
        seed: of the first weights and of all draws.
        device: where.
    """

    def __init__(self, arm: TranslationArm, settings: Settings, seed: int, device: str) -> None:
        self.arm, self.s, self.seed, self.device = arm, settings, seed, device
        torch.manual_seed(seed)
        self.generators = {direction: self._generator() for direction in arm.directions}
        prepare = SlicePreparation((settings.size,) * 2, zoom=settings.zoom, seed=seed)
        self.step: Any = self._cycle(prepare) if arm.kind == "cyclegan" else self._translation(prepare)
        optimizers = [self.step.generator_optimizer, self.discriminator_optimizer]
        constant, epochs = settings.epochs * 3 // 5, settings.epochs
        self.schedules = [
            torch.optim.lr_scheduler.LambdaLR(o, lambda e: 1 - max(0, e - constant) / (epochs - constant + 1))
            for o in optimizers
        ]

    def _generator(self) -> nn.Module:
        s = self.s
        if self.arm.kind == "pix2pixhd":
            network: nn.Module = ResnetGenerator(
                in_channels=1, out_channels=1, features=s.features, blocks=s.blocks, downsamplings=s.downsamplings
            )
        else:
            network = UNetGenerator(features=s.features, num_downs=s.num_downs)
        return network.to(self.device)

    def _discriminator(self, channels: int, layers: int) -> nn.Module:
        options: dict[str, Any] = {"features": self.s.discriminator_features, "layers": layers, "spectral": False}
        if self.arm.kind == "pix2pixhd":
            network: nn.Module = MultiScaleDiscriminator(channels, **options)
        else:
            network = PatchDiscriminator(channels, padding=1, **options)
        return network.apply(normal_init).to(self.device)

    def _adam(self, *networks: nn.Module) -> torch.optim.Optimizer:
        parameters = [p for network in networks for p in network.parameters()]
        return torch.optim.Adam(parameters, self.s.learning_rate, betas=(0.5, 0.999))

    def _cycle(self, prepare: SlicePreparation) -> CycleStep:
        judges = [self._discriminator(1, self.s.cycle_layers) for _ in range(2)]
        self.discriminator_optimizer = self._adam(*judges)
        return CycleStep(
            list(self.generators.values()),
            judges,
            self._adam(*self.generators.values()),
            self.discriminator_optimizer,
            adversarial=AdversarialLoss("least_squares"),
            prepare=DomainPair(prepare),
            cycle_weight=self.s.cycle_weight,
            identity_weight=0.0,
            pool_size=self.s.pool_size,
            seed=self.seed,
        )

    def _translation(self, prepare: SlicePreparation) -> TranslationStep:
        arm, s = self.arm, self.s
        (direction,) = arm.directions
        generator = self.generators[direction]
        objective: Any
        if arm.kind == "surrogate":
            objective = SurrogateObjective(
                generator,
                self._discriminator(1, s.layers),
                adversarial=AdversarialLoss("vanilla"),
                adversarial_weight=float(arm.adversarial),
                surrogate_weight=s.surrogate_weight * arm.l1,
            )
        elif arm.kind == "two":
            objective = TwoDiscriminatorObjective(
                generator,
                self._discriminator(1, s.layers),
                self._discriminator(2, s.layers),
                adversarial=AdversarialLoss("vanilla"),
                l1_weight=s.l1_weight * arm.l1,
                ct_share=arm.ct_share,
                seed=self.seed,
            )
        else:
            high = arm.kind == "pix2pixhd"
            source, target = ("mr", "surrogate") if direction == "mr2ct" else ("surrogate", "mr")
            objective = PairedObjective(
                generator,
                self._discriminator(2, s.layers),
                adversarial=AdversarialLoss("least_squares" if high else "vanilla"),
                source=source,
                target=target,
                l1_weight=0.0 if high else s.l1_weight,
                matching_weight=s.matching_weight if high else 0.0,
            )
        judges = objective.discriminators
        self.discriminator_optimizer = self._adam(*judges.values())
        optimizers = dict.fromkeys(judges, self.discriminator_optimizer)
        return TranslationStep(generator, objective, self._adam(generator), judges, optimizers, prepare=prepare)

    def run(self, record: dict[str, Tensor], folder: Path, progress: Callable[..., None]) -> None:
        """Train for the settings' steps; a run that was stopped goes on from its last epoch."""
        s = self.s
        slices = SemiPairedSlices.of_slices(record["mr"], record["surrogate"], record["ct"])
        per_epoch = math.ceil(s.steps / s.epochs) * s.batch_size
        sampler = CounterSampler(slices, samples_per_epoch=per_epoch, batch_size=s.batch_size, seed=self.seed)
        loader = DataLoader(slices, batch_size=s.batch_size, sampler=sampler)
        objects = self.step.checkpoint_objects() | {f"schedule_{i}": x for i, x in enumerate(self.schedules)}
        handlers = [
            *(LrScheduleHandler(schedule, print_lr=False) for schedule in self.schedules),  # type: ignore[arg-type]
            Checkpoint(folder / "checkpoints", objects, keep_final=False),
        ]
        amp = self.device.startswith("cuda")
        trainer = StepTrainer(
            self.device, s.epochs, loader, self.step, amp=amp, train_handlers=handlers, decollate=False
        )

        def report(engine: Engine) -> None:
            output: Any = engine.state.output
            share = engine.state.iteration / (s.epochs * per_epoch // s.batch_size)
            progress(share, f"step {engine.state.iteration}, loss {float(output['loss']):.3f}")

        trainer.add_event_handler(Events.ITERATION_COMPLETED(every=10), report)
        trainer.run()
