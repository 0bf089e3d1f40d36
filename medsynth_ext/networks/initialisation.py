"""First weights of adversarial networks."""

from __future__ import annotations

from torch import nn

__all__ = ["xavier_init"]


def xavier_init(network: nn.Module, gain: float = 0.02) -> nn.Module:
    """Draw the weights of all convolutions and linear layers by Glorot's rule times ``gain``, with zero biases.

    Layers under spectral norm are scaled back to a spectral norm of one whatever the gain.
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)):
            weight = module.parametrizations.weight.original if hasattr(module, "parametrizations") else module.weight  # type: ignore[union-attr]
            nn.init.xavier_normal_(weight, gain=gain)  # type: ignore[arg-type]
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network
