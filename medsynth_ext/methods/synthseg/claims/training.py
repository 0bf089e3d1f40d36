"""How an arm's network is trained: the same loop for all, with synthetic pairs or with augmented scans."""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from medsynth_ext import ops
from medsynth_ext.claims import Progress
from medsynth_ext.generators import SynthSegGenerator
from medsynth_ext.methods.synthseg.loss import SynthSegLoss

__all__ = ["PairSource", "ScanPairs", "SyntheticPairs", "TrainingLoop", "train"]


class TrainingLoop(Protocol):
    """The numbers of :func:`train`; see ``TrainingSettings``."""

    @property
    def steps(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def warm_up_steps(self) -> int: ...
    @property
    def cross_entropy_weight(self) -> float: ...
    @property
    def max_grad_norm(self) -> float: ...
    @property
    def amp(self) -> bool: ...


class PairSource(Protocol):
    """Makes the batch of training pairs of a seed whose first sample has the index ``index``."""

    def __call__(self, *, seed: int, index: int, batch_size: int) -> tuple[Tensor, Tensor]: ...


def _pick(count: int, *, seed: int, index: int, batch_size: int) -> Tensor:
    """Which of ``count`` maps the samples ``index .. index + batch_size - 1`` come from."""
    numbers = torch.arange(index, index + batch_size)
    epochs = [
        torch.randperm(count, generator=torch.Generator().manual_seed(seed * 100_003 + int(n) // count))
        for n in numbers
    ]
    return torch.stack([order[int(n) % count] for order, n in zip(epochs, numbers, strict=True)])


class SyntheticPairs:
    """Pairs of the generator, from each map once per epoch.

    Args:
        generator: the generator.
        maps: (N, 1, D, H, W) label values on the device of the training.
    """

    def __init__(self, generator: SynthSegGenerator, maps: Tensor) -> None:
        self.generator = generator
        self.maps = maps

    def __call__(self, *, seed: int, index: int, batch_size: int) -> tuple[Tensor, Tensor]:
        which = _pick(len(self.maps), seed=seed, index=index, batch_size=batch_size).to(self.maps.device)
        return self.generator(self.maps[which], seed=seed, index=index)


class ScanPairs:
    """Scans with their labels under the generator's spatial, bias and gamma augmentation, at their own resolution.

    Args:
        generator: its draws are used; it must neither strip the skull nor hide lesions, which are in the scan.
        maps: (N, 1, D, H, W) label values.
        scans: (N, 1, D, H, W) in [0, 1].
    """

    def __init__(self, generator: SynthSegGenerator, maps: Tensor, scans: Tensor) -> None:
        if generator.ranges.strip_prob > 0 or generator.ranges.lesion_prob < 1:
            raise ValueError("a scan keeps skull and lesions: the generator must have strip_prob 0 and lesion_prob 1")
        self.generator = generator
        self.maps = maps
        self.scans = scans

    def __call__(self, *, seed: int, index: int, batch_size: int) -> tuple[Tensor, Tensor]:
        device, table, crop = self.maps.device, self.generator.label_table, self.generator.crop_size
        which = _pick(len(self.maps), seed=seed, index=index, batch_size=batch_size).to(device)
        labels, scans = self.maps[which], self.scans[which].float()
        drawn = self.generator.draw(labels.shape, seed=seed, index=index)
        grid = [max(2, n // 2) for n in crop]
        velocity = ops.resize_field(drawn.velocity.to(device), grid, rule="corner", rescale=False)
        displacement = ops.integrate_svf(velocity, steps=self.generator.steps) * drawn.displacement_scale
        matrix = drawn.matrix.float().to(device)
        where: dict[str, Any] = {"out_shape": crop, "border": "clamp", "disp_rule": "corner"}
        labels = ops.affine_svf_warp(labels, matrix, displacement, mode="nearest", **where)
        image = ops.affine_svf_warp(scans, matrix, displacement, mode="linear", **where)

        image = image * torch.exp(ops.resample(drawn.bias_grid.to(device), crop, rule="corner"))
        low, high = image.amin((2, 3, 4), keepdim=True), image.amax((2, 3, 4), keepdim=True)
        image = ((image - low) / (high - low + 1e-7)) ** torch.exp(drawn.gamma.to(device))[:, :, None, None, None]
        targets = table.target_of.long()[drawn.source].to(device)  # (B, L), the sides exchanged in flipped samples
        places = table.lut.long().to(device)[labels.long()].flatten(1)
        return image, targets.gather(1, places).reshape(labels.shape)


def train(
    network: nn.Module, pairs: PairSource, settings: TrainingLoop, *, seed: int, progress: Progress
) -> list[float]:  # the loss of every step
    """Train a network in place. The rate rises, then falls to 0 as a cosine, so the last weights are the best."""
    device = next(network.parameters()).device
    network.train()
    loss_function = SynthSegLoss(cross_entropy_weight=settings.cross_entropy_weight, smooth=1e-5)
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)

    def rate(step: int) -> float:
        if step < settings.warm_up_steps:
            return (step + 1) / settings.warm_up_steps
        done = (step - settings.warm_up_steps) / max(1, settings.steps - settings.warm_up_steps)
        return 0.5 * (1 + math.cos(math.pi * done))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    losses = torch.zeros(settings.steps, device=device)  # one block: small ones in between would break up the heap
    for step in range(settings.steps):
        image, target = pairs(seed=seed, index=step * settings.batch_size, batch_size=settings.batch_size)
        image = image.contiguous(memory_format=torch.channels_last_3d)
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.amp):
            logits = network(image)
        loss = loss_function(logits.float(), target)["loss"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), settings.max_grad_norm)
        optimizer.step()
        schedule.step()
        losses[step] = loss.detach()
        if step % 10 == 9:
            progress((step + 1) / settings.steps, f"step {step + 1}, loss {losses[step].item():.3f}")
    values = losses.tolist()
    if not all(math.isfinite(value) for value in values):
        raise RuntimeError(f"the training with seed {seed} diverged: the loss became {values[-1]}")
    return values
