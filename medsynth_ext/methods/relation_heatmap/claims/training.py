"""Training an arm's network with the steps that the bundle trains with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from ignite.engine import Engine, Events
from monai.handlers import LrScheduleHandler
from monai.networks.nets import PatchDiscriminator
from torch import nn
from torch.utils.data import DataLoader

from medsynth_ext.claims import Progress
from medsynth_ext.engines import StepTrainer
from medsynth_ext.methods.relation_heatmap.adversarial_step import DomainAdversarialStep
from medsynth_ext.methods.relation_heatmap.claims.frames import FrameSet
from medsynth_ext.methods.relation_heatmap.claims.rival import Rival
from medsynth_ext.methods.relation_heatmap.claims.settings import NetworkArm, Settings
from medsynth_ext.methods.relation_heatmap.collaborative_step import CollaborativeStep
from medsynth_ext.methods.relation_heatmap.decoding import count_bounds
from medsynth_ext.methods.relation_heatmap.losses import HeatmapLoss
from medsynth_ext.methods.relation_heatmap.network import PointHeatmapNet
from medsynth_ext.methods.relation_heatmap.preparation import INTRAOP, FramePreparation
from medsynth_ext.methods.relation_heatmap.sampler import DomainSampler
from medsynth_ext.methods.relation_heatmap.step import DomainStep, JointStep
from medsynth_ext.methods.relation_heatmap.targets import PointTarget
from medsynth_ext.networks import HRNet
from medsynth_ext.transforms import PointFrameAugmentation

__all__ = ["make_network", "train_arm", "train_rival"]


def make_network(s: Settings) -> PointHeatmapNet:
    """A network with first weights from torch's random state."""
    backbone = HRNet(3, width=s.width, stem_channels=s.stem_channels, modules=s.modules, blocks=s.blocks)
    return PointHeatmapNet(backbone).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _target(arm: NetworkArm, s: Settings) -> PointTarget:
    sigma = {"small_sigma": s.sigmas[0], "large_sigma": s.sigmas[1]}.get(arm.target, s.sigma)
    return PointTarget(sigma=sigma, window=s.small_window if arm.target == "small_window" else s.window)


def _make_step(
    network: PointHeatmapNet, arm: NetworkArm, s: Settings, seed: int
) -> tuple[DomainStep, list[torch.optim.Optimizer]]:
    """The arm's step, and the optimisers of its detectors."""
    device = next(network.parameters()).device
    optimizer: torch.optim.Optimizer = torch.optim.Adam(network.parameters(), lr=s.learning_rate)
    prepare = FramePreparation(_target(arm, s), augmentation=PointFrameAugmentation(rotate_deg=30.0), seed=seed)
    loss = HeatmapLoss(scale=s.loss_scale)
    if arm.strategy == "joint":
        return JointStep(network, optimizer, prepare, loss, lambda_sim=arm.lambda_sim), [optimizer]
    if arm.strategy == "adversarial":
        judge = PatchDiscriminator(2, 64, 1, num_layers_d=3, norm=None, bias=True).to(device)  # type: ignore[arg-type]
        rate = torch.optim.Adam(judge.parameters(), lr=s.discriminator_rate)
        return DomainAdversarialStep(network, judge, optimizer, rate, prepare, loss, lambda_adv=s.lambda_adv), [
            optimizer
        ]
    partner = make_network(s).to(device)
    other = torch.optim.Adam(partner.parameters(), lr=s.learning_rate)
    step = CollaborativeStep(network, partner, optimizer, other, prepare, loss, lambda_kl=s.lambda_kl)
    return step, [optimizer, other]


def train_arm(
    network: PointHeatmapNet, arm: NetworkArm, s: Settings, frames: FrameSet, seed: int, progress: Progress
) -> None:
    """Train ``network``, where it is, as the arm says.

    Raises:
        FloatingPointError: when the training diverges.
    """
    network.set_count_bounds(*count_bounds(frames.counts(INTRAOP), s.percentiles))
    step, optimizers = _make_step(network, arm, s, seed)
    # In proportion to the domains' sizes; half and half where a batch needs both domains.
    share = 0.0 if arm.lambda_sim == 0 else (None if arm.strategy == "joint" else 0.5)
    _train(step, optimizers, frames, s, progress, steps=s.steps, sim_share=share, seed=seed)


def train_rival(network: nn.Module, rival: Rival, s: Settings, frames: FrameSet, seed: int, progress: Progress) -> None:
    """Train the other method's ``network``, where it is, on the frames of joint training.

    Raises:
        FloatingPointError: when the training diverges.
    """
    optimizer = torch.optim.Adam(network.parameters(), lr=rival.learning_rate)
    target = PointTarget(sigma=rival.sigma, window=rival.window)
    prepare = FramePreparation(target, augmentation=PointFrameAugmentation(rotate_deg=30.0), seed=seed)
    step = JointStep(network, optimizer, prepare, rival.loss)
    _train(step, [optimizer], frames, s, progress, steps=rival.steps, sim_share=None, seed=seed)


def _train(
    step: DomainStep,
    optimizers: Sequence[torch.optim.Optimizer],
    frames: FrameSet,
    s: Settings,
    progress: Progress,
    *,
    steps: int,
    sim_share: float | None,
    seed: int,
) -> None:
    sampler = DomainSampler(
        frames,
        frames.domains.tolist(),
        sim_share=sim_share,
        samples_per_epoch=steps * s.batch_size,
        batch_size=s.batch_size,
        seed=seed,
    )
    loader = DataLoader(frames, batch_size=s.batch_size, sampler=sampler)
    device = optimizers[0].param_groups[0]["params"][0].device
    trainer = StepTrainer(device, 1, loader, step, amp=s.amp, decollate=False)
    for optimizer in optimizers:
        least = 0.01 * optimizer.param_groups[0]["lr"]
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=least)
        LrScheduleHandler(schedule, print_lr=False, epoch_level=False).attach(trainer)  # type: ignore[arg-type]

    def tell(engine: Engine) -> None:
        done = engine.state.iteration
        progress(done / steps, f"step {done}, loss {float(engine.state.output['loss']):.3f}")  # type: ignore[index]

    trainer.add_event_handler(Events.ITERATION_COMPLETED(every=10), tell)
    trainer.run()
