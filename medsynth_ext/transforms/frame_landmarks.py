"""Points of a video frame as landmarks."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform

from medsynth_ext.data.landmarks import Landmarks

__all__ = ["FrameLandmarksd"]


class FrameLandmarksd(MapTransform):
    """Adds ``landmarks``, the found points as :class:`medsynth_ext.data.Landmarks`, with their scores as a note.

    A picture's world is the one in which 3D Slicer shows it: a pixel is a millimetre, x runs to the left and y to the
    back of the patient.

    Args:
        keys: points (K, 2) as ``(y, x)``, see ``DecodePointsd``.
        score_key: scores (K,).
        image_key: the network's input, a ``MetaTensor`` from ``LoadPointFramed``.
    """

    def __init__(
        self,
        keys: KeysCollection = "pred_points",
        *,
        score_key: Hashable = "pred_scores",
        image_key: Hashable = "image",
    ) -> None:
        super().__init__(keys)
        self.score_key = score_key
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        meta = d[self.image_key].meta
        for key in self.key_iterator(d):
            index = np.asarray(d[key], dtype=np.float64).reshape(-1, 2)
            d["landmarks"] = Landmarks(
                names=tuple(f"point {number}" for number in range(1, len(index) + 1)),
                index=index,
                world_mm=np.column_stack([-index[:, 1], -index[:, 0], np.zeros(len(index))]),
                image=Path(str(meta["filename_or_obj"])).name,
                size=tuple(int(n) for n in meta["frame_size"]),
                notes={"scores": [round(float(s), 4) for s in d[self.score_key]]},
            )
        return d
