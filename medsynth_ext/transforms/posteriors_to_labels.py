"""From class posteriors on one grid to labels on another."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from torch import Tensor

__all__ = ["PosteriorsToLabels", "PosteriorsToLabelsd"]

_BLOCK = 1 << 24  # posterior values that are resampled at a time


class PosteriorsToLabels(Transform):
    """Resample posteriors linearly to a grid, take the largest, and give it its label value.

    ``space="input"`` is the grid that the image had in its file (``original_affine`` and ``spatial_shape`` of the
    metadata, as ``LoadImage`` writes them), ``space="network"`` the grid of the posteriors. Posteriors are never held
    on the whole new grid: memory grows with one slab, not with classes times voxels as with ``Invertd``.

    Args:
        values: label value of every channel; ``0..K-1`` when ``None``. Channel 0 is the background.
        space: ``"input"`` or ``"network"``.
    """

    def __init__(self, values: Sequence[int] | None = None, *, space: str = "input") -> None:
        if space not in ("input", "network"):
            raise ValueError(f'space must be "input" or "network", got {space!r}')
        self.values = None if values is None else torch.as_tensor(list(values), dtype=torch.int32)
        self.space = space

    def __call__(self, posteriors: Tensor) -> MetaTensor:  # (K, D, H, W) to (1, D', H', W') int32
        if not isinstance(posteriors, MetaTensor):
            raise TypeError(
                f"posteriors must be a MetaTensor, whose affine tells the grid, got {type(posteriors).__name__}"
            )
        if posteriors.ndim != 4:
            raise ValueError(f"posteriors must be (K, D, H, W), got {tuple(posteriors.shape)}")
        x = posteriors.as_tensor().detach().float()
        values = torch.arange(x.shape[0], dtype=torch.int32) if self.values is None else self.values
        if len(values) != x.shape[0]:
            raise ValueError(f"posteriors have {x.shape[0]} channels, but there are {len(values)} label values")
        affine = posteriors.affine.detach().cpu().numpy().astype(float)
        meta = dict(posteriors.meta)
        if self.space == "network":
            channels, target = x.argmax(0), affine
        else:
            if "original_affine" not in meta or "spatial_shape" not in meta:
                raise ValueError(
                    "the posteriors' metadata must hold the image file's original_affine and spatial_shape"
                )
            target = np.asarray(torch.as_tensor(meta["original_affine"]).cpu(), dtype=float)
            size = [int(n) for n in meta["spatial_shape"]][:3]
            channels = _resampled_argmax(x, np.linalg.inv(affine) @ target, size)
        labels = values.to(x.device)[channels][None]
        meta["affine"] = torch.from_numpy(target)
        return MetaTensor(labels, meta=meta)


def _resampled_argmax(x: Tensor, matrix: np.ndarray, size: Sequence[int]) -> Tensor:
    """Channel of the largest posterior at ``matrix @ voxel`` for every voxel of a grid; borders are clamped."""
    result = torch.zeros(tuple(size), dtype=torch.long, device=x.device)
    box = _foreground_box(x, matrix, size)
    if box is None:
        return result
    ranges = [torch.arange(a, b, dtype=torch.float64) for a, b in box]
    m = torch.from_numpy(matrix)
    # grid_sample wants coordinates from -1 to 1 between the outer voxel centres, last axis first
    scale = torch.tensor([2 / max(n - 1, 1) for n in x.shape[1:]], dtype=torch.float64)
    slab = max(1, _BLOCK // (x.shape[0] * len(ranges[1]) * len(ranges[2])))
    for part in ranges[0].split(slab):
        voxel = torch.stack(torch.meshgrid(part, ranges[1], ranges[2], indexing="ij"), dim=-1)
        at = (voxel @ m[:3, :3].T + m[:3, 3]) * scale - 1
        at = at.flip(-1).to(x.device, x.dtype)
        sampled = F.grid_sample(x[None], at[None], mode="bilinear", padding_mode="border", align_corners=True)[0]
        first = int(part[0])
        result[first : first + len(part), box[1][0] : box[1][1], box[2][0] : box[2][1]] = sampled.argmax(0)
    return result


def _foreground_box(x: Tensor, matrix: np.ndarray, size: Sequence[int]) -> list[tuple[int, int]] | None:
    """Range of voxels of the new grid outside which the background wins everywhere, or ``None`` when it wins all over.

    A linear mix of voxels where the background is at least as large as every other class keeps that, so only cells
    with a corner where another class is larger can give a label.
    """
    wins = x.argmax(0) > 0
    if not wins.any():
        return None
    corners = []
    for axis in range(3):
        hit = wins.any(dim=[a for a in range(3) if a != axis]).nonzero()[:, 0]
        low, high = int(hit[0]) - 1, int(hit[-1]) + 1
        # the rim is clamped, so a label at the rim goes on to the end of the new grid
        corners.append((-1e9 if low < 0 else float(low), 1e9 if high > x.shape[1 + axis] - 1 else float(high)))
    points = np.array(np.meshgrid(*corners, indexing="ij")).reshape(3, -1)
    mapped = np.linalg.inv(matrix) @ np.vstack([points, np.ones(points.shape[1])])
    box = []
    for axis in range(3):
        low = int(np.clip(np.floor(mapped[axis].min()), 0, size[axis] - 1))
        high = int(np.clip(np.ceil(mapped[axis].max()) + 1, low + 1, size[axis]))
        box.append((low, high))
    return box


class PosteriorsToLabelsd(MapTransform):
    """Dictionary version of ``PosteriorsToLabels``.

    Args:
        keep_as: key under which the posteriors stay in the dictionary, when they are needed afterwards.
    """

    def __init__(
        self,
        keys: KeysCollection,
        values: Sequence[int] | None = None,
        *,
        space: str = "input",
        keep_as: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.to_labels = PosteriorsToLabels(values, space=space)
        self.keep_as = keep_as

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            if self.keep_as is not None:
                d[self.keep_as] = d[key]
            d[key] = self.to_labels(d[key])
        return d
