"""Where a style comes from: images, the prior, a Gaussian of the styles seen in training, or a way between two."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medsynth_ext import ops
from medsynth_ext.engines import LatentGaussian
from medsynth_ext.handlers.weights import WeightsError
from medsynth_ext.methods.ultrasound_style.network import StyleTransferNetwork
from medsynth_ext.networks.gaussian_codes import draw_codes

__all__ = ["STYLE_MODES", "Style", "StyleSource", "load_bank"]

STYLE_MODES = ("reference", "prior", "posterior_mix", "interpolate")
_PRIOR_STREAM = 9  # of docs/random_numbers.md, as the Gaussian's


@dataclass(frozen=True)
class Style:
    """Codes of every scale for one output, and what made them."""

    codes: list[Tensor]  # (1, C_i, h, w) or (1, C_i, 1, 1)
    origin: Mapping[str, Any] = field(default_factory=dict)


def load_bank(path: str | os.PathLike, width: int) -> Tensor:  # (N, width)
    """Mean codes of the training's styles, one row per image.

    Raises:
        WeightsError: for a file that is missing or holds codes of another network.
    """
    if not Path(path).is_file():
        raise WeightsError(f"the bank of styles {path} does not exist; configs/styles.json writes one")
    state = torch.load(path, map_location="cpu", weights_only=True)
    codes = state.get("codes") if isinstance(state, Mapping) else None
    if not isinstance(codes, Tensor) or codes.ndim != 2 or codes.shape[1] != width or len(codes) < 2:
        got = tuple(codes.shape) if isinstance(codes, Tensor) else type(codes).__name__
        raise WeightsError(
            f"the bank of styles {path} must hold codes (at least 2, {width}) of this network, got {got}"
        )
    return codes.float()


class StyleSource:
    """Gives the styles of the outputs; which ones is a function of the seed and the content image's number.

    Args:
        network: the transfer, in evaluation mode.
        mode: ``reference``: the codes of style images; ``prior``: N(0, 1); ``posterior_mix``: the Gaussian of the bank;
            ``interpolate``: evenly spaced on the line between two styles of images, or else of the bank.
        images: style images by name, loaded when they are needed.
        bank: (N, d) mean codes of training styles.
        count: outputs per content image and style; steps of an interpolation.
        styles_per_image: style images drawn for each content image; all of them when ``None``.
        deterministic: the mean code of a style image in place of a draw.
        sampling: factor on the deviations of a style image's code.
        temperature: of prior and Gaussian: 1 as it is, above 1 beyond the observed styles.
        shrinkage: of the Gaussian's covariance, see :class:`LatentGaussian`.
        seed: key of all draws.

    Raises:
        ValueError: for another mode, a count below 1 (2 for an interpolation), or a mode without its images or bank.
    """

    def __init__(
        self,
        network: StyleTransferNetwork,
        mode: str,
        *,
        images: Sequence[tuple[str, Callable[[], Tensor]]] = (),
        bank: Tensor | None = None,
        count: int = 1,
        styles_per_image: int | None = 1,
        deterministic: bool = False,
        sampling: float = 1.0,
        temperature: float = 1.0,
        shrinkage: float = 0.2,
        seed: int = 0,
    ) -> None:
        if mode not in STYLE_MODES:
            raise ValueError(f"style_mode must be one of {', '.join(STYLE_MODES)}, got {mode!r}")
        least = 2 if mode == "interpolate" else 1
        if count < least:
            raise ValueError(f"style_mode {mode} needs at least {least} outputs per image, got {count}")
        if mode == "reference" and not images:
            raise ValueError("style_mode reference needs style images, got none; set style_dir")
        if (mode == "posterior_mix" or (mode == "interpolate" and len(images) < 2)) and bank is None:
            raise ValueError(f"style_mode {mode} needs a bank of styles, got none; set style_bank")
        if temperature < 0:
            raise ValueError(f"temperature must not be negative, got {temperature}")
        self.network, self.mode, self.images, self.count = network, mode, list(images), count
        self.styles_per_image, self.deterministic, self.sampling = styles_per_image, deterministic, sampling
        self.temperature, self.seed = temperature, seed
        self.gaussian = None if bank is None else LatentGaussian.fit(bank, shrinkage=shrinkage)
        self._known: dict[int, tuple[list[Tensor], list[Tensor]]] = {}

    def __call__(self, number: int) -> list[Style]:
        """The styles for the content image of this number."""
        if self.mode == "reference":
            return self._references(number)
        if self.mode == "interpolate":
            return self._between(number)
        device = next(self.network.parameters()).device
        vectors = self._vectors(number * self.count, self.count).to(device)
        origin = {"style_mode": self.mode, "seed": self.seed, "temperature": self.temperature}
        return [
            Style(self.network.split(vector[None]), {**origin, "code": number * self.count + i})
            for i, vector in enumerate(vectors)
        ]

    def _vectors(self, first: int, count: int) -> Tensor:  # (count, d)
        if self.mode == "prior":
            width = sum(self.network.features)
            noise = ops.rand_normal((count, 1, width), self.seed, sample_offset=first, stream=_PRIOR_STREAM)[:, 0]
            return self.temperature * noise
        assert self.gaussian is not None
        centre = self.gaussian.mean.float()
        return centre + self.temperature * (self.gaussian.sample(count, seed=self.seed, first=first) - centre)

    def _chosen(self, number: int, count: int | None) -> list[int]:
        if count is None or count >= len(self.images):
            return list(range(len(self.images)))
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        order = torch.randperm(len(self.images), generator=generator)
        return order[:count].tolist()

    @torch.no_grad()
    def _posterior(self, index: int) -> tuple[list[Tensor], list[Tensor]]:
        if index not in self._known:
            image = self.images[index][1]().to(next(self.network.parameters()).device)
            self._known[index] = self.network.style_encoder(image[None])
        return self._known[index]

    def _references(self, number: int) -> list[Style]:
        styles = []
        for index in self._chosen(number, self.styles_per_image):
            means, deviations = self._posterior(index)
            origin = {"style_mode": self.mode, "style": self.images[index][0]}
            if self.deterministic:
                styles += [Style(means, {**origin, "code": "mean"})] * self.count
                continue
            for i in range(self.count):
                place = number * self.count + i
                codes = draw_codes(means, deviations, seed=self.seed, first=place, factor=self.sampling)
                styles.append(Style(codes, {**origin, "seed": self.seed, "code": place}))
        return styles

    def _between(self, number: int) -> list[Style]:
        device = next(self.network.parameters()).device
        if len(self.images) >= 2:
            a, b = self._chosen(number, 2)[:2]
            ends = [self.network.join(self._posterior(i)[0]) for i in (a, b)]
            origin: dict[str, Any] = {"style_mode": self.mode, "from": self.images[a][0], "to": self.images[b][0]}
        else:
            vectors = self._vectors(2 * number, 2).to(device)
            ends = [vectors[:1], vectors[1:]]
            origin = {"style_mode": self.mode, "seed": self.seed, "codes": [2 * number, 2 * number + 1]}
        shares = [i / (self.count - 1) for i in range(self.count)]
        return [
            Style(self.network.split(torch.lerp(ends[0], ends[1], share)), {**origin, "share": round(share, 6)})
            for share in shares
        ]
