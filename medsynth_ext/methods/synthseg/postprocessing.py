"""Topological clean-up of posteriors, and volumes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.transforms import MapTransform, Transform
from monai.transforms.utils import get_largest_connected_component_mask
from torch import Tensor

__all__ = ["CleanPosteriors", "CleanPosteriorsd", "SoftVolumes", "SoftVolumesd"]


class CleanPosteriors(Transform):
    """Keep one connected piece of the whole and of every topological class, and let posteriors sum to one again.

    Voxels where the sum of the foreground posteriors exceeds ``threshold`` form the whole; outside its largest
    component the foreground is set to 0. Then the same for every topological class: its channels are set to 0 outside
    the largest component of the voxels where one of them exceeds ``threshold``. A voxel where nothing is left is
    background.

    Args:
        topology: topological class of every channel, 0 for none (``LabelTable.target_topology``).
        whole: whether to keep only the largest piece of the whole.
        classes: whether to keep only the largest piece of every topological class.
        threshold: posterior above which a voxel counts.
    """

    def __init__(
        self, topology: Sequence[int], *, whole: bool = True, classes: bool = True, threshold: float = 0.25
    ) -> None:
        if not 0 <= threshold < 1:
            raise ValueError(f"threshold must be in [0, 1), got {threshold}")
        if not topology or topology[0] != 0:
            raise ValueError("topology must start with 0, the class of the background")
        self.topology = list(topology)
        self.whole = whole
        self.classes = classes
        self.threshold = threshold

    def __call__(self, posteriors: Tensor) -> Tensor:  # (K, D, H, W)
        if posteriors.shape[0] != len(self.topology):
            raise ValueError(f"posteriors have {posteriors.shape[0]} channels, topology has {len(self.topology)}")
        if not (self.whole or self.classes):
            return posteriors
        x = (posteriors.as_tensor() if isinstance(posteriors, MetaTensor) else posteriors).clone()
        if self.whole:
            x[1:] *= self._largest(x[1:].sum(0) > self.threshold)
        if self.classes:
            for number in sorted(set(self.topology) - {0}):
                channels = [k for k, c in enumerate(self.topology) if c == number]
                x[channels] *= self._largest((x[channels] > self.threshold).any(0))
        x[0] = torch.where(x.sum(0) <= 0, torch.ones_like(x[0]), x[0])
        x /= x.sum(0, keepdim=True)
        return MetaTensor(x, meta=posteriors.meta) if isinstance(posteriors, MetaTensor) else x

    @staticmethod
    def _largest(mask: Tensor) -> Tensor:
        if not mask.any():
            return mask
        box = [slice(int(i.min()), int(i.max()) + 1) for i in mask.nonzero().T]
        result = torch.zeros_like(mask)
        result[tuple(box)] = get_largest_connected_component_mask(mask[tuple(box)], connectivity=1).to(mask)
        return result


class CleanPosteriorsd(MapTransform):
    """Dictionary version of ``CleanPosteriors``."""

    def __init__(
        self,
        keys: KeysCollection,
        topology: Sequence[int],
        *,
        whole: bool = True,
        classes: bool = True,
        threshold: float = 0.25,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.clean = CleanPosteriors(topology, whole=whole, classes=classes, threshold=threshold)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.clean(d[key])
        return d


class SoftVolumes(Transform):
    """Volume of every channel in mm^3: the sum of its posteriors times the volume of a voxel."""

    def __call__(self, posteriors: Tensor) -> Tensor:  # (K, D, H, W) to (K,) float64
        if not isinstance(posteriors, MetaTensor):
            raise TypeError(f"posteriors must be a MetaTensor, whose affine tells the spacing, got {type(posteriors)}")
        voxel_mm3 = float(affine_to_spacing(posteriors.affine.double(), 3).prod())
        return posteriors.as_tensor().flatten(1).sum(1, dtype=torch.float64) * voxel_mm3


class SoftVolumesd(MapTransform):
    """Dictionary version of ``SoftVolumes``; the volumes of ``key`` go to ``output_key``."""

    def __init__(
        self, keys: KeysCollection, *, output_key: str = "volumes_mm3", allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.volumes = SoftVolumes()
        self.output_key = output_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[self.output_key] = self.volumes(d[key])
        return d
