"""Layers that look at a whole batch, for a batch that is spread over processes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from medsynth_ext.engines.processes import gather_batch, rank_and_world

__all__ = ["join_processes"]


class _JoinedBatchNorm(_BatchNorm):
    """What ``torch.nn.SyncBatchNorm`` is on CUDA, for the CPU, which that refuses."""

    def _check_input_dim(self, x: Tensor) -> None:
        """Any number of axes, as the layer that it takes the place of has checked its own."""

    def forward(self, x: Tensor) -> Tensor:  # (B, C, *S)
        if not self.training:
            return super().forward(x)
        axes = [0, *range(2, x.ndim)]
        shape = (1, -1, *[1] * (x.ndim - 2))
        count = rank_and_world()[1] * x.numel() // x.shape[1]
        mean = gather_batch(x.sum(axes)[None]).sum(0) / count
        centred = x - mean.view(shape)
        variance = gather_batch(centred.square().sum(axes)[None]).sum(0) / count
        self._follow(mean.detach(), variance.detach() * count / max(count - 1, 1))
        y = centred * (variance + self.eps).rsqrt().view(shape)
        return y * self.weight.view(shape) + self.bias.view(shape) if self.affine else y

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)


class _JoinedDropout(nn.Dropout):
    """Draws for the samples of all processes and uses what falls to its own; generators must be in one state."""

    def forward(self, x: Tensor) -> Tensor:
        rank, world = rank_and_world()
        if not self.training or self.p == 0 or world == 1:
            return super().forward(x)
        kept = torch.empty((world * len(x), *x.shape[1:]), dtype=x.dtype, device=x.device).bernoulli_(1 - self.p)
        return x * (kept.chunk(world)[rank] / (1 - self.p))


def join_processes(network: nn.Module) -> nn.Module:
    """Let batch normalisation and dropout do over all processes what they would do in one with the whole batch.

    The layers are replaced in place, with the same parameters and buffers under the same names, so an optimiser made
    before or after updates the same tensors, and weights load into a network with or without it. Dropout asks for
    generators in the same state in all processes: seed them alike.

    Args:
        network: on its device.

    Returns:
        The network, or the layer that takes its place where it is itself one of those layers.
    """
    joined = _joined(network)
    for name, child in joined.named_children():
        setattr(joined, name, join_processes(child))
    return joined


def _joined(layer: nn.Module) -> nn.Module:
    if type(layer) is nn.Dropout:
        return _JoinedDropout(layer.p).train(layer.training)
    if not isinstance(layer, _BatchNorm) or isinstance(layer, nn.SyncBatchNorm | _JoinedBatchNorm):
        return layer
    options = {"affine": layer.affine, "track_running_stats": layer.track_running_stats}
    on_cuda = any(tensor.is_cuda for tensor in (*layer.parameters(), *layer.buffers()))
    kind = nn.SyncBatchNorm if on_cuda else _JoinedBatchNorm
    joined = kind(layer.num_features, layer.eps, layer.momentum, **options).train(layer.training)
    joined.weight, joined.bias = layer.weight, layer.bias
    joined.running_mean, joined.running_var = layer.running_mean, layer.running_var
    joined.num_batches_tracked = layer.num_batches_tracked
    return joined
