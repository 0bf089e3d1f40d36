"""From heatmaps to the places of their peaks."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform
from monai.utils import ensure_tuple
from torch import Tensor

from medsynth_ext import ops
from medsynth_ext.transforms._landmark_space import SPACES, voxels_to_world

__all__ = ["HeatmapsToLandmarks", "HeatmapsToLandmarksd"]


class HeatmapsToLandmarks(Transform):
    """The place of every heatmap's peak, below one voxel; NaN for a map whose largest value is not above a threshold.

    In world coordinates a landmark stays where it is whatever spatial transforms the image and its heatmaps went
    through, as long as their affine says so: no inverse transform is needed, and no map is interpolated. For predicted
    heatmaps give them the affine of the image that the network saw (MONAI's inferers keep it).

    Args:
        refine: see :func:`medsynth_ext.ops.heatmap_peak`.
        threshold: least value of a peak, itself excluded.
        sigma: width of the smoothing before ``refine="dark"``.
        space: ``world`` for positions by the affine, ``voxel`` for index coordinates.
    """

    def __init__(
        self, refine: str = "dark", *, threshold: float = 0.0, sigma: float = 0.0, space: str = "world"
    ) -> None:
        if space not in SPACES:
            raise ValueError(f"space must be one of {', '.join(SPACES)}, got {space!r}")
        self.refine = refine
        self.threshold = threshold
        self.sigma = sigma
        self.space = space

    def __call__(self, heatmaps: Tensor) -> Tensor:  # (N, *S) to (N, D) float64
        if not 2 <= heatmaps.ndim <= 4:
            raise ValueError(f"heatmaps must be (N, *S) with one to three spatial axes, got {tuple(heatmaps.shape)}")
        maps = torch.as_tensor(heatmaps).as_subclass(torch.Tensor).detach()[None]
        options: dict[str, Any] = {"refine": self.refine, "threshold": self.threshold, "sigma": self.sigma}
        coords, _, valid = ops.heatmap_peak(maps, **options)
        points = torch.where(valid[0, :, None], coords[0].double(), torch.nan)
        return voxels_to_world(points, heatmaps, "heatmaps") if self.space == "world" else points


class HeatmapsToLandmarksd(MapTransform):
    """Dictionary version of ``HeatmapsToLandmarks``.

    Args:
        landmark_keys: where to put the landmarks; in place of the heatmaps by default.
    """

    def __init__(
        self,
        keys: KeysCollection,
        refine: str = "dark",
        *,
        threshold: float = 0.0,
        sigma: float = 0.0,
        space: str = "world",
        landmark_keys: KeysCollection | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.to_landmarks = HeatmapsToLandmarks(refine, threshold=threshold, sigma=sigma, space=space)
        self.landmark_keys = self.keys if landmark_keys is None else ensure_tuple(landmark_keys)
        if len(self.landmark_keys) != len(self.keys):
            raise ValueError(f"landmark_keys must be as many as keys, got {self.landmark_keys} for {self.keys}")

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key, target in self.key_iterator(d, self.landmark_keys):
            d[target] = self.to_landmarks(d[key])
        return d
