"""Label map in, synthetic training image out, as MONAI transforms."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Randomizable, Transform
from monai.utils import TransformBackends
from torch import Tensor

from medsynth_ext.generators import SynthSegGenerator
from medsynth_ext.transforms._random_image import OneRandomState

__all__ = ["RandSynthFromLabels", "RandSynthFromLabelsd"]


class RandSynthFromLabels(Randomizable, Transform):
    """Make an image of random contrast, shape and resolution from a label map (Billot et al., MedIA 2023).

    ``randomize`` draws the seed of the next image from the transform's random state; everything else follows from it.
    The result lies on a grid of the generator's crop size and spacing; its affine says so, centred on the origin.

    Args:
        generator: a :class:`medsynth_ext.generators.SynthSegGenerator` with its label table and ranges.

    >>> transform = RandSynthFromLabels(generator).set_random_state(seed=1)  # doctest: +SKIP
    >>> image, target = transform(label_map)  # doctest: +SKIP
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012

    def __init__(self, generator: SynthSegGenerator) -> None:
        self.generator = generator
        self.seed = 0

    def randomize(self, data: object = None) -> None:
        """Draw the seed of the next image."""
        self.seed = int(self.R.randint(0, 2**62, dtype=np.int64))

    def __call__(
        self,
        labels: Tensor,  # (1, D, H, W) integer label values, RAS
        *,
        randomize: bool = True,
    ) -> tuple[Tensor, Tensor]:  # (C, *crop) float32 in [0, 1], (1, *crop) integer
        if labels.ndim != 4 or labels.shape[0] != 1:
            raise ValueError(f"labels must be (1, D, H, W), got {tuple(labels.shape)}")
        if randomize:
            self.randomize()
        values = labels.as_tensor() if isinstance(labels, MetaTensor) else torch.as_tensor(labels)
        if values.is_floating_point():
            raise TypeError(f"labels must be integers, got {values.dtype}; load the map with an integer dtype")
        image, target = self.generator(values[None], seed=self.seed)
        size = torch.tensor(self.generator.crop_size, dtype=torch.float64)
        affine = torch.diag(torch.tensor([self.generator.spacing_mm] * 3 + [1.0], dtype=torch.float64))
        affine[:3, 3] = -self.generator.spacing_mm * (size - 1) / 2
        return MetaTensor(image[0], affine=affine), MetaTensor(target[0], affine=affine)


class RandSynthFromLabelsd(OneRandomState, MapTransform):
    """Dictionary version of :class:`RandSynthFromLabels`: one label map becomes an image and a target.

    Args:
        keys: the label map; one key.
        generator: what makes the pair.
        image_key: where the image goes.
        target_key: where the target goes; may be the key of the label map.
        allow_missing_keys: leave a dictionary without the key as it is.
    """

    backend = RandSynthFromLabels.backend
    transform: RandSynthFromLabels

    def __init__(
        self,
        keys: KeysCollection,
        generator: SynthSegGenerator,
        *,
        image_key: str = "image",
        target_key: str = "label",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if len(self.keys) != 1:
            raise ValueError(f"keys must be one key, the label map, got {self.keys}")
        self.transform = RandSynthFromLabels(generator)
        self.image_key = image_key
        self.target_key = target_key

    def randomize(self, data: object = None) -> None:
        """Draw the seed of the next image."""
        self.transform.randomize()

    def __call__(self, data: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
        result = dict(data)
        for key in self.key_iterator(result):
            self.randomize()
            image, target = self.transform(result[key], randomize=False)
            result[self.image_key], result[self.target_key] = image, target
        return result
