"""Landmarks as the boxes, labels and record from which MONAI Label makes the answer of a detection bundle."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from medsynth_ext.data.landmark_files import landmark_record
from medsynth_ext.data.landmarks import Landmarks
from medsynth_ext.data.markups import markups_record

__all__ = ["DetectionBoxesd", "landmark_answer"]


def landmark_answer(landmarks: Landmarks) -> dict[str, Any]:
    """The landmarks as the bundles' own JSON files have them, and as markups of 3D Slicer.

    Raises:
        ValueError: for landmarks without positions in the world.
    """
    if landmarks.world_mm is None:
        raise ValueError("an answer needs world_mm, the landmarks' places in the world")
    return {
        "landmarks": landmark_record(landmarks),
        "markups": markups_record(landmarks.names, landmarks.world_mm),
    }


class DetectionBoxesd(MapTransform):
    """Puts a box around every landmark where boxes are asked for, as MONAI Label's writer of detections wants them.

    ``box`` (N, 6) holds centre and edges in LPS millimetres and ``label`` (N,) the landmarks' numbers from 1; those
    that were not found are left out. ``centroids`` has ``{name: [number, *voxel]}`` in the order of the file's axes
    and ``result`` the :func:`landmark_answer`.

    Args:
        keys: boxes, see :class:`medsynth_ext.inferers.InfererDetector`; items without are left as they are.
        landmarks_key: the :class:`medsynth_ext.data.Landmarks`.
        edge_mm: of a box, along each axis of the world.
    """

    def __init__(
        self, keys: KeysCollection = "box", *, landmarks_key: Hashable = "landmarks", edge_mm: float = 2.0
    ) -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.landmarks_key = landmarks_key
        self.edge_mm = edge_mm

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            landmarks: Landmarks = d[self.landmarks_key]
            d["result"] = landmark_answer(landmarks)
            assert landmarks.world_mm is not None
            found = np.flatnonzero(landmarks.visible)
            centres = landmarks.world_mm[found] * (-1.0, -1.0, 1.0)  # from RAS to LPS
            d[key] = torch.from_numpy(np.hstack([centres, np.full((len(found), 3), self.edge_mm)]))
            d["label"] = torch.from_numpy(found + 1)
            d["centroids"] = [
                {landmarks.names[i]: [int(i) + 1, *np.round(landmarks.index[i]).astype(int).tolist()]} for i in found
            ]
        return d
