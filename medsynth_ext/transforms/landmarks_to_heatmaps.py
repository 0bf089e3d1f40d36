"""From landmarks to heatmaps on an image's grid."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform, Transform
from monai.utils import ensure_tuple
from torch import Tensor

from medsynth_ext import ops
from medsynth_ext.transforms._landmark_space import SPACES, world_to_voxels
from medsynth_ext.transforms.heatmaps_to_landmarks import HeatmapsToLandmarks

__all__ = ["LandmarksToHeatmaps", "LandmarksToHeatmapsd"]


class LandmarksToHeatmaps(Transform):
    """A Gaussian at every landmark, on the grid of an image, exact below one voxel.

    Landmarks in world coordinates need no spatial transform of their own: put this transform after those of the image,
    whose affine then says where they lie. MONAI's ``GenerateHeatmap`` rounds to voxels. A landmark with NaN, or outside
    of the image (more than half a voxel beyond the outermost voxels), has an empty map: the rest of its Gaussian would
    be read as a landmark on the border.

    ``inverse`` reads the landmarks back from the peaks, in the same space; where the peak is an outermost voxel, along
    that axis only to the voxel.

    Args:
        sigma: standard deviation in voxels of the image's grid, one number or one per axis.
        amplitude: ``peak`` or ``density``, see :func:`medsynth_ext.ops.render_gaussian_heatmaps`.
        gain: height or mass of a Gaussian.
        radius: half width of a Gaussian's box in standard deviations.
        space: ``world`` for landmarks that the image's affine places, ``voxel`` for index coordinates of its grid.
    """

    def __init__(
        self,
        sigma: float | Sequence[float],
        *,
        amplitude: str = "peak",
        gain: float = 1.0,
        radius: float = 5.0,
        space: str = "world",
    ) -> None:
        if space not in SPACES:
            raise ValueError(f"space must be one of {', '.join(SPACES)}, got {space!r}")
        self.sigma = sigma
        self.options: dict[str, Any] = {"amplitude": amplitude, "gain": gain, "radius": radius}
        self.space = space

    def __call__(  # type: ignore[override]
        self,
        landmarks: Tensor,  # (N, D)
        image: Tensor,  # (C, *S)
    ) -> Tensor:  # (N, *S) float32
        points = torch.as_tensor(landmarks).as_subclass(torch.Tensor)
        axes = image.ndim - 1
        if points.ndim != 2 or points.shape[1] != axes:
            raise ValueError(f"landmarks must be (N, {axes}) for this image, got {tuple(points.shape)}")
        points = world_to_voxels(points, image, "image") if self.space == "world" else points.double()
        points = points.to(image.device)
        edge = torch.tensor(image.shape[1:], device=points.device) - 0.5
        points = torch.where(((points < -0.5) | (points > edge)).any(1, keepdim=True), torch.nan, points)
        maps = ops.render_gaussian_heatmaps(points.float()[None], self.sigma, image.shape[1:], **self.options)[0]
        if not isinstance(image, MetaTensor):
            return maps
        return MetaTensor(maps, meta=image.meta, applied_operations=image.applied_operations)

    def inverse(self, heatmaps: Tensor) -> Tensor:  # (N, *S) to (N, D) float64
        """The landmarks of heatmaps that this transform has made, possibly moved since; NaN for empty maps."""
        return HeatmapsToLandmarks("dark", space=self.space)(heatmaps)


class LandmarksToHeatmapsd(MapTransform, InvertibleTransform):
    """Dictionary version of ``LandmarksToHeatmaps``.

    Args:
        keys: landmarks.
        image_key: the image on whose grid they are drawn.
        heatmap_keys: where to put the heatmaps; in place of the landmarks by default.
    """

    def __init__(
        self,
        keys: KeysCollection,
        image_key: Hashable,
        sigma: float | Sequence[float],
        *,
        amplitude: str = "peak",
        gain: float = 1.0,
        radius: float = 5.0,
        space: str = "world",
        heatmap_keys: KeysCollection | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.to_heatmaps = LandmarksToHeatmaps(sigma, amplitude=amplitude, gain=gain, radius=radius, space=space)
        self.image_key = image_key
        self.heatmap_keys = self.keys if heatmap_keys is None else ensure_tuple(heatmap_keys)
        if len(self.heatmap_keys) != len(self.keys):
            raise ValueError(f"heatmap_keys must be as many as keys, got {self.heatmap_keys} for {self.keys}")

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key, target in self.key_iterator(d, self.heatmap_keys):
            d[target] = self.to_heatmaps(d[key], d[self.image_key])
        return d

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Landmarks from the heatmaps, which are dropped where they had keys of their own."""
        d = dict(data)
        for key, target in zip(self.keys, self.heatmap_keys, strict=True):
            if target in d:
                d[key] = self.to_heatmaps.inverse(d.pop(target))
        return d
