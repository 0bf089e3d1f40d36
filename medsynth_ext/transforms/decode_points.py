"""From a predicted map to points of the frame that it was made from."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch import Tensor

from medsynth_ext.transforms._landmark_space import voxels_to_world

__all__ = ["DecodePointsd"]

Decoder = Callable[[Tensor], tuple[Tensor, ...]]


class DecodePointsd(MapTransform):
    """Find points in a map and say where they are in the frame as it is stored.

    What was padded behind the frame's last row and column is cut off first, so that no padding reaches the decoder.

    Args:
        keys: maps (1, H, W).
        image_key: the network's input, a ``MetaTensor`` from ``LoadPointFramed`` and MONAI's spatial transforms.
        decoder: ``decoder(maps (B, 1, H, W))`` gives points (B, K, 2), scores (B, K) and counts (B,), possibly more.
        points_key: where to put the points (count, 2), float64 ``(y, x)``.
        score_key: where to put the scores (count,).
    """

    def __init__(
        self,
        keys: KeysCollection = "pred",
        image_key: Hashable = "image",
        *,
        decoder: Decoder,
        points_key: Hashable = "pred_points",
        score_key: Hashable = "pred_scores",
    ) -> None:
        super().__init__(keys)
        self.image_key = image_key
        self.decoder = decoder
        self.points_key = points_key
        self.score_key = score_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        image = d[self.image_key]
        rows, columns = _without_padding(image)
        for key in self.key_iterator(d):
            maps = torch.as_tensor(d[key]).as_subclass(torch.Tensor).detach()[None, :, :rows, :columns]
            points, score, count, *_ = self.decoder(maps.contiguous())
            found = int(count[0])
            d[self.points_key] = voxels_to_world(points[0, :found], image, str(self.image_key)).cpu()
            d[self.score_key] = score[0, :found].double().cpu()
        return d


def _without_padding(image: Tensor) -> tuple[int, int]:
    """Rows and columns of the picture that show the frame."""
    if not isinstance(image, MetaTensor) or "frame_size" not in image.meta:
        raise TypeError("the image must be a MetaTensor as LoadPointFramed makes it, to know the frame's size")
    frame = torch.as_tensor(image.meta["frame_size"], dtype=torch.float64).flatten().tolist()
    pixel = image.affine.detach().cpu().double()[:2, :2].norm(dim=0).tolist()  # frame pixels to one of the picture
    rows, columns = (max(round(n / p), 1) for n, p in zip(frame, pixel, strict=True))
    return min(rows, image.shape[-2]), min(columns, image.shape[-1])
