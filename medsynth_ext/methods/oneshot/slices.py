"""The training's slices: the one annotated volume, transformed anew again and again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from medsynth_ext.data.sampler import CounterSampler
from medsynth_ext.methods.oneshot.cubes import rotation_about_axes, sample_cube
from medsynth_ext.methods.oneshot.views import slice_stacks

__all__ = ["Jitter", "SliceNumbers", "TransformedSlices", "mask_centre"]


def mask_centre(mask: Tensor) -> Tensor:  # (*S) to (3,) float64 voxels
    """Centre of mass of a binary mask.

    Raises:
        ValueError: for an empty mask.
    """
    places = mask.nonzero().double()
    if not len(places):
        raise ValueError("the mask is empty, wanted the outline of the structure")
    return places.mean(0)


@dataclass(frozen=True)
class Jitter:
    """Random changes of the intensities, which lie in [0, 1]."""

    gamma: tuple[float, float] = (0.8, 1.25)
    gain: float = 0.1
    noise: float = 0.02

    def __call__(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """Power, factor and noise, drawn from ``rng``."""
        gamma = math.exp(rng.uniform(*np.log(self.gamma)))
        image = image.clamp(0, 1) ** gamma * rng.uniform(1 - self.gain, 1 + self.gain)
        noise = torch.from_numpy(rng.standard_normal(tuple(image.shape), dtype=np.float32))
        return image.add_(noise, alpha=self.noise * rng.uniform())


class TransformedSlices(Dataset):
    """Slices of transformed copies of one volume; slice ``n`` is a pure function of ``(seed, n)``.

    Copy v holds the slices ``v L .. v L + L - 1``. It is a cube about the structure's centre of mass, shifted and
    turned at random. Its slices along the three axes are in the cyclic layout that the joint probability uses; half of
    those taken meet the structure where there are enough.

    Args:
        data: the one annotated volume, ``[{"image": path, "label": path}]``; may be empty until :meth:`load`.
        transform: from that to ``image`` and ``label`` as (1, X, Y, Z).
        size: edge of the cube.
        slices_per_volume: L.
        shift_voxels: largest shift along every axis.
        rotation_deg: largest turn about every axis.
        coarse_factor: voxels of a coarse copy are this many times as large, for the search in the whole volume.
        coarse_prob: share of coarse copies.
        jitter: of the intensities.
        seed: key of all draws.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, str]],
        transform: Callable[[Mapping[str, str]], Mapping[str, Any]],
        *,
        size: int,
        slices_per_volume: int,
        shift_voxels: float,
        rotation_deg: float,
        coarse_factor: float = 2.0,
        coarse_prob: float = 0.25,
        jitter: Jitter | None = None,
        seed: int = 0,
    ) -> None:
        self.data = list(data)
        self.transform = transform
        self.size = size
        self.slices_per_volume = slices_per_volume
        self.shift_voxels = shift_voxels
        self.rotation_deg = rotation_deg
        self.coarse_factor = coarse_factor
        self.coarse_prob = coarse_prob
        self.jitter = Jitter() if jitter is None else jitter
        self.seed = seed
        self.item: Mapping[str, Any] = {}  # the annotated volume, loaded
        self.image: Tensor | None = None  # (1, 1, X, Y, Z)
        self.mask: Tensor | None = None
        self._copy: tuple[int, Tensor, Tensor] | None = None  # number, slices, masks

    def load(self) -> None:
        """Read the volume and its mask.

        Raises:
            ValueError: when there is no volume, or mask and volume do not fit.
        """
        if len(self.data) != 1:
            raise ValueError(f"one annotated volume is wanted, got {len(self.data)}")
        if self.image is not None:
            return
        self.item = self.transform(self.data[0])
        image, mask = (torch.as_tensor(np.asarray(self.item[key])) for key in ("image", "label"))
        if image.shape != mask.shape:
            raise ValueError(
                f"{self.data[0]['label']} must have the shape {tuple(image.shape)} of its volume, "
                f"got {tuple(mask.shape)}"
            )
        self.image = image[None].float().contiguous()
        self.mask = (mask[None] > 0.5).to(torch.uint8).contiguous()
        self.centre = mask_centre(self.mask[0, 0])

    def __len__(self) -> int:
        return self.slices_per_volume

    def __getitem__(self, number: int) -> dict[str, Any]:
        copy = number // self.slices_per_volume
        if self._copy is None or self._copy[0] != copy:
            self._copy = (copy, *self.transformed(copy))
        _, images, masks = self._copy
        r = number % self.slices_per_volume
        return {"image": images[r], "label": masks[r], "index": number}

    def cube(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:  # (S, S, S) image and mask
        """A transformed copy."""
        if self.image is None or self.mask is None:
            raise RuntimeError("load() must be called before slices are drawn")
        step = self.coarse_factor if rng.uniform() < self.coarse_prob else 1.0
        shift = torch.from_numpy(rng.uniform(-self.shift_voxels, self.shift_voxels, 3))
        angles = np.radians(rng.uniform(-self.rotation_deg, self.rotation_deg, 3))
        linear = rotation_about_axes(angles.tolist()) * step
        centre = self.centre + shift
        image = sample_cube(self.image, centre, linear, self.size)
        mask = sample_cube(self.mask, centre, linear, self.size, mode="nearest")
        return self.jitter(image[0, 0], rng), mask[0, 0].float()

    def transformed(self, copy: int) -> tuple[Tensor, Tensor]:  # (L, 1, S, S) each
        """The slices of a copy and their masks."""
        rng = np.random.Generator(np.random.Philox(key=np.array([self.seed, copy], dtype=np.uint64)))
        image, mask = self.cube(rng)
        images, masks = (torch.cat([stack[0] for stack in slice_stacks(v[None])]) for v in (image, mask))  # (3 S, S, S)
        meets = masks.flatten(1).any(1).numpy()
        half = min(int(meets.sum()), self.slices_per_volume // 2)
        inside = rng.permutation(np.flatnonzero(meets))[:half]
        others = rng.permutation(np.setdiff1d(np.arange(len(images)), inside))[: self.slices_per_volume - half]
        chosen = torch.from_numpy(rng.permutation(np.concatenate([inside, others])))
        return images[chosen, None], masks[chosen, None]


class SliceNumbers(CounterSampler):
    """The numbers of an epoch's slices in order, one transformed copy an epoch; see ``CounterSampler``."""

    def __iter__(self) -> Iterator[int]:
        numbers = np.arange(self.total_size) + self.epoch * self.total_size
        blocks = numbers.reshape(-1, self.num_replicas, self.batch_size)
        return iter(blocks[:, self.rank].reshape(-1).tolist())
