"""The server's look at what a site sent, and the mean over the sites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from medsynth_ext.engines.federated.messages import MessageError

__all__ = ["check_gradients", "mean_gradients"]


def check_gradients(gradients: Any, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gradients by name, if they belong to the parameters.

    Raises:
        MessageError: for anything but finite tensors with a parameter's name and shape.
    """
    if not isinstance(gradients, Mapping):
        raise MessageError(f"gradients must be a dict of tensors, got {type(gradients).__name__}")
    for name, gradient in gradients.items():
        if name not in parameters:
            raise MessageError(f"there is no shared parameter {name!r}")
        if not isinstance(gradient, Tensor) or not gradient.is_floating_point():
            raise MessageError(f"the gradient of {name} must be a tensor of floating-point numbers")
        wanted = tuple(parameters[name].shape)
        if tuple(gradient.shape) != wanted:
            raise MessageError(f"the gradient of {name} must be {wanted}, got {tuple(gradient.shape)}")
        if not torch.isfinite(gradient).all():
            raise MessageError(f"the gradient of {name} is not finite")
    return dict(gradients)


def mean_gradients(
    contributions: Sequence[Mapping[str, Tensor]], weights: Sequence[float] | None = None
) -> dict[str, Tensor]:
    """Mean of gradients by name; a name that a contribution lacks counts as zero there.

    Args:
        contributions: name to gradient, one mapping per site.
        weights: one per site, equal by default; divided by their sum.

    >>> mean_gradients([{"w": torch.tensor(1.0)}, {"w": torch.tensor(4.0)}], [2, 1])["w"].item()
    2.0
    """
    shares = [1.0] * len(contributions) if weights is None else [float(w) for w in weights]
    total = sum(shares)
    result: dict[str, Tensor] = {}
    for contribution, share in zip(contributions, shares, strict=True):
        for name, gradient in contribution.items():
            part = gradient * (share / total)
            result[name] = result[name] + part if name in result else part
    return result
