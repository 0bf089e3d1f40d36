"""The cube around the heart in which everything happens."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, SpatialResample
from monai.utils import ensure_tuple_rep
from torch import Tensor

__all__ = ["HeartFieldOfViewd"]


class HeartFieldOfViewd(MapTransform):
    """Sample RAS volumes on a cube of ``size`` voxels and ``fov_mm`` per side.

    Its centre is that of the label's bounding box when there is a label that marks something, else that of the scan.
    Beyond the scan, images repeat their border and labels are 0.

    Args:
        keys: images and labels, channel first; missing ones are left out.
        size: voxels per side.
        fov_mm: side.
        label_key: which key is the label; the others are images.
    """

    def __init__(
        self, keys: KeysCollection, *, size: int = 128, fov_mm: float = 200.0, label_key: str = "label"
    ) -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.size, self.fov_mm, self.label_key = size, float(fov_mm), label_key
        self.resample = SpatialResample()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        affine = self._affine(result)
        for key in self.key_iterator(result):
            is_label = key == self.label_key
            result[key] = self.resample(
                result[key],
                dst_affine=affine,
                spatial_size=ensure_tuple_rep(self.size, 3),
                mode="nearest" if is_label else "bilinear",
                padding_mode="zeros" if is_label else "border",
            )
        return result

    def _affine(self, data: Mapping[Hashable, Any]) -> Tensor:  # (4, 4)
        label = data.get(self.label_key)
        marked = None if label is None else torch.as_tensor(np.asarray(label))[0].nonzero()
        source: MetaTensor
        if label is not None and marked is not None and len(marked):
            source, index = label, (marked.amin(0) + marked.amax(0)) / 2
        else:
            source = next(data[key] for key in self.key_iterator(dict(data)) if key != self.label_key)
            index = (torch.tensor(source.shape[1:]) - 1) / 2
        centre = _world(source, index.double().tolist())
        voxel = self.fov_mm / self.size
        affine = torch.diag(torch.tensor([voxel, voxel, voxel, 1.0], dtype=torch.float64))
        affine[:3, 3] = centre - voxel * (self.size - 1) / 2
        return affine


def _world(volume: MetaTensor, index: Sequence[float]) -> Tensor:  # (3,) mm
    affine = torch.as_tensor(volume.affine).double()
    return affine[:3, :3] @ torch.tensor(index, dtype=torch.float64) + affine[:3, 3]
