"""Networks of the arms, and their training on heads in memory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn
from torch.utils.data import DataLoader

from medsynth_ext.claims import Progress
from medsynth_ext.data.sampler import CounterSampler
from medsynth_ext.engines import StepTrainer, TranslationStep
from medsynth_ext.methods.frequency_supervised.backbones import FCNet, ResNet, UNet
from medsynth_ext.methods.frequency_supervised.claims.settings import NetworkArm, Settings
from medsynth_ext.methods.frequency_supervised.discriminator import EncoderDiscriminator
from medsynth_ext.methods.frequency_supervised.network import BoundaryRefined, FrequencySupervised, Regression
from medsynth_ext.methods.frequency_supervised.objective import BandObjective
from medsynth_ext.methods.frequency_supervised.patches import PatchDrawer, collate_volumes

__all__ = ["build_network", "train_network", "value_range"]

_POINTS = 20  # of the curve that is kept


def value_range(arm: NetworkArm) -> tuple[float, float]:
    """Range of the CT in the network's units."""
    return (-1.0, 1.0) if arm.judged else (0.0, 1.0)


def build_network(arm: NetworkArm, settings: Settings) -> nn.Module:
    """The network of an arm, with first weights of torch's random state."""
    backbone: FCNet | ResNet | UNet
    if arm.backbone == "fc_net":
        backbone = FCNet(features=settings.fc_net)
    elif arm.backbone == "res_net":
        backbone = ResNet(features=settings.res_net, repeat=settings.res_repeat)
    else:
        backbone = UNet(features=settings.unet, pooling="average" if arm.judged else "max")
    channels, squash = backbone.out_channels, bool(arm.judged)
    if arm.head == "plain":
        return Regression(backbone, channels=channels, squash=squash)
    if arm.head == "boundary":
        return BoundaryRefined(backbone, channels=channels)
    if arm.stacked:
        return FrequencySupervised(
            backbone, channels=channels, k=3, refinement="stacked", layers=arm.stacked, squash=squash
        )
    return FrequencySupervised(backbone, channels=channels, k=arm.k or settings.k, squash=squash)


def train_network(
    network: nn.Module,
    arm: NetworkArm,
    settings: Settings,
    heads: Sequence[Mapping[str, Tensor]],  # image, label, high, each (1, D, H, W)
    *,
    seed: int,
    device: torch.device,
    progress: Progress,
) -> list[float]:
    """Train a network as its arm says.

    Returns:
        The mean loss on the CT in each of up to twenty equal parts of the training, in the network's units.
    """
    betas = (0.5, 0.999) if arm.judged else (0.9, 0.999)
    judge = EncoderDiscriminator(2, features=settings.unet).to(device) if arm.judged else None
    optimizers = [
        torch.optim.Adam(n.parameters(), lr=settings.learning_rate, betas=betas) for n in (network, judge) if n
    ]
    objective = BandObjective(
        network,
        high_weight=arm.high_weight,
        discriminator=judge,
        adversarial_weight=settings.adversarial_weight,
        warm_up_iterations=int(settings.warm_up_share * settings.steps),
        judged=arm.judged or "high",
    )
    patches = PatchDrawer((settings.patch,) * 3, angle_deg=settings.angle_deg, seed=seed)
    judges = {} if judge is None else {"band": judge}
    step = TranslationStep(
        network, objective, optimizers[0], judges, dict(zip(judges, optimizers[1:], strict=True)), prepare=patches
    )
    count = settings.steps * settings.batch_size
    sampler = CounterSampler(heads, samples_per_epoch=count, batch_size=settings.batch_size, seed=seed)  # type: ignore[arg-type]
    loader: DataLoader[Any] = DataLoader(
        heads,  # type: ignore[arg-type]
        batch_size=settings.batch_size,
        sampler=sampler,
        collate_fn=collate_volumes,
    )
    trainer = StepTrainer(device, 1, loader, step, amp=settings.amp, decollate=False)
    losses: list[float] = []

    def follow(engine: Engine) -> None:
        done = engine.state.iteration
        losses.append(float(engine.state.output["total"]))  # type: ignore[index]
        if settings.cosine:
            for group in (g for o in optimizers for g in o.param_groups):
                group["lr"] = settings.learning_rate * (0.5 + 0.5 * math.cos(math.pi * done / settings.steps))
        if done % 10 == 0:
            progress(done / settings.steps, f"step {done}, loss {losses[-1]:.4f}")

    trainer.add_event_handler(Events.ITERATION_COMPLETED, follow)
    trainer.run()
    parts = torch.tensor(losses).chunk(_POINTS)
    return [float(part.mean()) for part in parts]
