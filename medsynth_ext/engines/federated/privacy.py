"""What a site does to its gradients before they leave it."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from medsynth_ext import ops

__all__ = ["GradientFilter", "gradient_norm"]

_NOISE_STREAM = 10  # of docs/random_numbers.md


def gradient_norm(gradients: Mapping[str, Tensor]) -> float:
    """Euclidean norm of all gradients together."""
    return math.sqrt(sum(float(g.double().square().sum()) for g in gradients.values()))


class GradientFilter:
    """Bounds the norm of a contribution, and hides it under noise.

    The noise of a contribution is a function of the site's secret and the contribution's number, so that asking twice
    for the same contribution does not average the noise away.

    Args:
        max_norm: scale contributions down to this norm; ``None`` leaves them.
        noise: standard deviation of the Gaussian noise on every entry, as a multiple of ``max_norm``.
        secret: key of the noise; drawn by the system when ``None``. It never leaves the site.

    Raises:
        ValueError: for a norm that is not positive, a negative noise, or noise without a norm.
    """

    def __init__(self, *, max_norm: float | None = None, noise: float = 0.0, secret: int | None = None) -> None:
        if max_norm is not None and not max_norm > 0:
            raise ValueError(f"max_norm must be positive, got {max_norm}")
        if noise < 0 or (noise > 0 and max_norm is None):
            raise ValueError(f"noise must be 0 or more and needs max_norm, got noise {noise} and max_norm {max_norm}")
        self.max_norm, self.noise = max_norm, noise
        self.secret = secrets.randbits(62) if secret is None else secret

    def __call__(self, gradients: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
        """What leaves the site instead of the gradients of contribution ``number``."""
        factor = 1.0
        if self.max_norm is not None:
            factor = min(1.0, self.max_norm / max(gradient_norm(gradients), 1e-300))
        result = {name: gradient.detach().cpu() * factor for name, gradient in gradients.items()}
        if self.noise > 0 and self.max_norm is not None:
            for place, (name, gradient) in enumerate(sorted(result.items())):
                noise = ops.rand_normal(
                    (1, 1, gradient.numel()), self.secret + place, sample_offset=number, stream=_NOISE_STREAM
                )
                result[name] = gradient + noise.view(gradient.shape).to(gradient) * self.noise * self.max_norm
        return result

    def state_dict(self) -> dict[str, Any]:
        """The secret, for the site's own files."""
        return {"secret": self.secret}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the secret."""
        self.secret = int(state["secret"])
