"""The server's side of the training: optimisers of the shared networks, fed with gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["SharedOptimizers"]


class SharedOptimizers:
    """Adam for theta_S and theta_M, one per phase of the training.

    Args:
        model: holds the parameters.
        rates: phase to learning rate.
    """

    def __init__(self, model: nn.Module, rates: Mapping[str, float]) -> None:
        self.parameters = dict(model.named_parameters())
        self.rates = {phase: float(rate) for phase, rate in rates.items()}
        self.optimizers = {
            phase: torch.optim.Adam(self.parameters.values(), lr=rate, betas=(0.9, 0.999))
            for phase, rate in self.rates.items()
        }

    def apply(self, gradients: Mapping[str, Tensor], phase: str, *, factor: float = 1.0) -> None:
        """One step with given gradients; phases without shared parameters bring none, and nothing happens.

        Raises:
            ValueError: for a gradient of an unknown name or another shape, or an unknown phase.
            FloatingPointError: for a gradient that is not finite.
        """
        if not gradients:
            return
        if phase not in self.optimizers:
            raise ValueError(f"phase must be one of {', '.join(self.optimizers)}, got {phase!r}")
        for name, gradient in gradients.items():
            if name not in self.parameters or self.parameters[name].shape != gradient.shape:
                raise ValueError(f"there is no shared parameter {name} of shape {tuple(gradient.shape)}")
            if not torch.isfinite(gradient).all():
                raise FloatingPointError(f"the gradient of {name} is not finite")
        for name, parameter in self.parameters.items():
            gradient_of = gradients.get(name)
            parameter.grad = None if gradient_of is None else gradient_of.to(parameter).clone()
        optimizer = self.optimizers[phase]
        for group in optimizer.param_groups:
            group["lr"] = self.rates[phase] * factor
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """State of every optimiser."""
        return {phase: optimizer.state_dict() for phase, optimizer in self.optimizers.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of every optimiser."""
        for phase, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state[phase])
