"""Pictures of a joint training."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from medsynth_ext.handlers.sample_pictures import SamplePictures, slice_grid

__all__ = ["JointPictures"]


class JointPictures(SamplePictures):
    """Writes a PNG of the first sample of an epoch's last batch: rows of middle slices.

    The rows are the volume of a, its translation and its label, then the same of b; before there are translations, what
    the segmenter makes of a stands in the place of the first.
    """

    def picture(self, sample: Mapping[str, Tensor]) -> np.ndarray:  # (H, W, 3) uint8
        """What is written of a sample."""
        if "pred_a" not in sample:
            return slice_grid(sample["image"][0], sample["label"], sample["pred"])
        rows = []
        for image, fake, label in (("image", "pred", "label"), ("image_b", "pred_a", "label_b")):
            rows += [slice_grid(sample[image][0]), slice_grid(sample[fake][0], sample[label])]
        return np.concatenate(rows)
