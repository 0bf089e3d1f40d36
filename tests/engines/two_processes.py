"""What is computed from a whole batch, computed by one process or by each of several; run as a program by the test.

    python two_processes.py FOLDER RANK WORLD

Results are the same for any number of processes, or the layers and losses do not look at the whole batch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.distributed as dist
from monai.losses import DiceLoss
from torch import Tensor, nn

from medsynth_ext.engines import ImagePool, JointCycleStep
from medsynth_ext.engines.joint_cycle_step import DomainBatch
from medsynth_ext.engines.processes import gather_batch, rank_and_world
from medsynth_ext.losses import WholeBatchLoss, gaussian_kl, relativistic_discriminator, relativistic_generator
from medsynth_ext.methods.dag.losses import shape_distance
from medsynth_ext.methods.relation_heatmap.losses import mean_where
from medsynth_ext.methods.synthseg.loss import WarmUpLoss
from medsynth_ext.networks import join_processes

BATCH = 8  # over all processes


def own(values: Tensor) -> Tensor:
    """This process's part of a batch."""
    rank, world = rank_and_world()
    return values.chunk(world)[rank]


def mean_over_processes(values: Tensor) -> Tensor:
    """As gradients and logged losses are averaged in training."""
    _, world = rank_and_world()
    if world > 1:
        dist.all_reduce(values)
    return values / world


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network_results() -> dict[str, Tensor]:
    """Three updates of a network with batch normalisation of every form, and dropout."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=None), nn.ReLU(), nn.Dropout(0.4)]
    layers += [nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, affine=False), nn.Flatten(), nn.BatchNorm1d(24)]
    layers += [nn.Linear(24, 2), nn.BatchNorm1d(2, track_running_stats=False)]
    network = join_processes(nn.Sequential(*layers).double())
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    found = {}
    for step in range(3):
        x, y = own(3 + 2 * noise(step, BATCH, 3, 6, 6)), own(noise(10 + step, BATCH, 2))
        loss = (network.train()(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        for parameter in network.parameters():
            parameter.grad = mean_over_processes(parameter.grad)
        optimizer.step()
        found[f"network_loss_{step}"] = mean_over_processes(loss.detach())
    found |= {f"network_{name}": value.clone() for name, value in network.state_dict().items()}
    # Without the last layer, which has no running statistics: in evaluation each process sees its own batch alone.
    found["network_eval"] = gather_batch(network.eval()[:-1](own(noise(5, BATCH, 3, 6, 6))).detach())
    return found


def losses() -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Losses of values and others, (B, 2, 5, 5) of this process, that are no means over samples."""
    dice = WholeBatchLoss(DiceLoss(sigmoid=True, batch=True))
    warm_up = WarmUpLoss(background_weight=0.1)
    hidden = own(noise(20, BATCH, 2, 5) > 0.3)
    chosen = own(torch.tensor([True, True, True, False, True, False, False, False]))  # never as many in each half

    def points(a: Tensor, b: Tensor) -> Tensor:
        target = torch.where(hidden[..., None], torch.nan, b[..., :2])
        return (shape_distance(a[..., :2].flatten(1, 2), target.flatten(1, 2)) - 0.1).clamp(min=0)

    def labelled(a: Tensor, b: Tensor) -> Tensor:
        source = DomainBatch(a, (b[:, :1] > 0).long(), chosen, a, (b[:, :1] > 0).long())
        step = SimpleNamespace(segmentation_loss=lambda p, t: nn.functional.cross_entropy(p, t[:, 0]))
        return JointCycleStep._labelled_loss(step, nn.Identity(), a, source)

    return {
        "dice": lambda a, b: dice(a, (b > 0).double()),
        "warm_up": lambda a, b: warm_up(a, (b[:, :1] > 0).long())["loss"],
        "relativistic_discriminator": lambda a, b: relativistic_discriminator(a * b, a),
        "relativistic_generator": lambda a, b: relativistic_generator(a * b, a),
        "free_bits": lambda a, b: gaussian_kl(a, b.abs() + 0.1, free_bits=0.6),
        "mean_where": lambda a, b: mean_where((a * b).square(), chosen),
        "points": points,
        "labelled": labelled,
    }


def loss_results() -> dict[str, Tensor]:
    """Value and gradient of each loss."""
    found = {}
    for name, loss in losses().items():
        weight = noise(30, 2, 5, 5).requires_grad_()
        value = loss(own(noise(31, BATCH, 2, 5, 5)) * weight, own(noise(32, BATCH, 2, 5, 5)))
        value.backward()
        found[f"{name}_loss"] = mean_over_processes(value.detach())
        found[f"{name}_gradient"] = mean_over_processes(weight.grad)
    return found


def pool_results() -> dict[str, Tensor]:
    """What a discriminator sees of a pool that is soon full."""
    pool = ImagePool(capacity=5, seed=3)
    seen = [gather_batch(pool(own(noise(40 + i, BATCH, 1, 2, 2)))) for i in range(6)]
    return {"pool_seen": torch.stack(seen), "pool_held": torch.stack(pool.images)}


def compute() -> dict[str, Tensor]:
    """All results by name."""
    return {**network_results(), **loss_results(), **pool_results()}


if __name__ == "__main__":
    folder, rank, world = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
    torch.save(compute(), folder / f"{rank}.pt")
    dist.destroy_process_group()
