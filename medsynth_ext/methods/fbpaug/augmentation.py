"""FBPAug and the augmentations that it is compared with, on batches of CT slices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from medsynth_ext.transforms import RandFBPAug

__all__ = ["KINDS", "SliceAugmentation"]

KINDS = ("none", "fbpaug", "gamma", "noise", "windowing")


class SliceAugmentation:
    """From slices in HU to network inputs in [0, 1], with turns by 90 degrees, mirroring, and one more augmentation.

    Args:
        kind: ``none``, ``fbpaug`` (needs ``fbpaug``), ``gamma`` (I to the power exp(N(0, ``gamma_std``)) between the
            slice's extremes), ``noise`` (N(0, ``noise_std``) on [0, 1]) or ``windowing`` (centre and width uniform in
            ``centers_hu`` and ``widths_hu``).
        prob: probability of gamma, noise or windowing; FBPAug has its own.
        window_hu: what becomes 0 and 1.
        fbpaug: the random kernel.
        spatial_prob: probability of a turn and of each mirroring.
        gamma_std: standard deviation of the exponent's logarithm.
        noise_std: standard deviation.
        centers_hu: range of the window's centre.
        widths_hu: range of the window's width.

    Raises:
        ValueError: for another kind, or ``fbpaug`` without a kernel.
    """

    def __init__(
        self,
        kind: str = "fbpaug",
        *,
        prob: float = 0.5,
        window_hu: tuple[float, float] = (-1350.0, 150.0),
        fbpaug: RandFBPAug | None = None,
        spatial_prob: float = 0.5,
        gamma_std: float = 0.2,
        noise_std: float = 0.1,
        centers_hu: tuple[float, float] = (-700.0, -500.0),
        widths_hu: tuple[float, float] = (1300.0, 1700.0),
    ) -> None:
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
        if kind == "fbpaug" and fbpaug is None:
            raise ValueError("kind 'fbpaug' needs the random kernel: give fbpaug")
        self.kind = kind
        self.prob = prob
        self.window_hu = (float(window_hu[0]), float(window_hu[1]))
        self.fbpaug = fbpaug
        self.spatial_prob = spatial_prob
        self.gamma_std = gamma_std
        self.noise_std = noise_std
        self.centers_hu = centers_hu
        self.widths_hu = widths_hu

    @torch.no_grad()
    def __call__(
        self,
        image_hu: Tensor,  # (B, 1, N, N)
        label: Tensor,  # (B, 1, N, N)
        states: Sequence[np.random.RandomState],
    ) -> tuple[Tensor, Tensor]:  # image in [0, 1], label
        """Augment each sample with its own random state."""
        if self.kind == "fbpaug":
            assert self.fbpaug is not None
            image_hu = self.fbpaug.batch(image_hu, states=states)
        images, labels = [], []
        for x, y, state in zip(image_hu, label, states, strict=True):
            x = self._values(x, state)
            if state.random() < self.spatial_prob:
                turns = int(state.randint(1, 4)) if x.shape[1] == x.shape[2] else 2
                x, y = (t.rot90(turns, (1, 2)) for t in (x, y))
            for axis in (1, 2):
                if state.random() < self.spatial_prob:
                    x, y = x.flip(axis), y.flip(axis)
            images.append(x)
            labels.append(y)
        return torch.stack(images), torch.stack(labels)

    def _values(self, x: Tensor, state: np.random.RandomState) -> Tensor:
        acts = state.random() < self.prob
        low, high = self.window_hu
        if self.kind == "windowing" and acts:
            center, width = state.uniform(*self.centers_hu), state.uniform(*self.widths_hu)
            low, high = center - width / 2, center + width / 2
        x = ((x - low) / (high - low)).clamp(0, 1)
        if self.kind == "gamma" and acts:
            least, most = x.amin(), x.amax()
            span = (most - least).clamp_min(1e-6)
            x = ((x - least) / span) ** float(np.exp(state.normal(0, self.gamma_std))) * span + least
        if self.kind == "noise" and acts:
            noise = torch.from_numpy(state.standard_normal(tuple(x.shape)).astype(np.float32)).to(x.device)
            x = (x + self.noise_std * noise).clamp(0, 1)
        return x
