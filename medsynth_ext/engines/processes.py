"""Which of how many training processes this one is, and what all of them hold together."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["gather_batch", "rank_and_world"]


def rank_and_world() -> tuple[int, int]:
    """Number of this process and number of processes; (0, 1) without a process group."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


class _GatherBatch(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        _, world = rank_and_world()
        parts = [torch.empty_like(own, memory_format=torch.contiguous_format) for _ in range(world)]
        dist.all_gather(parts, own.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        rank, world = rank_and_world()
        grad = grad.contiguous().clone()
        dist.all_reduce(grad)
        return grad.chunk(world)[rank]


def gather_batch(own: Tensor) -> Tensor:  # (B, ...) of this process to (processes * B, ...), the same on all
    """The batch of all processes, in the order in which one process with the whole batch would have it.

    For what is no mean over samples: statistics of a batch, ratios of sums, a mean over some of the samples. A loss L
    made of it has the right gradient when the gradients of the processes are averaged, as training over processes does,
    for every process gets the gradient of the sum of all processes' losses. All processes must call it together, with
    batches of one shape. Without a process group it gives back what it gets.

    >>> gather_batch(torch.tensor([1.0, 2.0])).tolist()
    [1.0, 2.0]
    """
    return own if rank_and_world()[1] == 1 else _GatherBatch.apply(own)
