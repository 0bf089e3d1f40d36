"""Where the organ lies in a scan that shows more than a training volume, and the crop to it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.data.utils import affine_to_spacing
from monai.networks.utils import eval_mode
from monai.transforms import Crop, Cropd
from torch import Tensor, nn

from medsynth_ext.data.scans import ScanError
from medsynth_ext.handlers.weights import WeightsError, load_weights
from medsynth_ext.inferers import VolumeInferer

__all__ = ["CropToOrgand", "OrganLocator", "OrganWarning"]


_FOLLOWED = 4
_LEAST_SHARE = 1e-6  # keeps the logarithm of a part that is nowhere finite


class OrganWarning(UserWarning):
    """The organ was not found where a scan was to be cropped to it."""


class OrganLocator:
    """Finds the window around the organ with a segmenter that knows the organ's parts.

    The segmenter first sees windows all over the scan. Of all places of a window, the one counts that holds the most of
    every part (the greatest product of their volumes): elsewhere in the body it takes this or that for a part, but
    hardly all of them. From there the window follows the middle of what the segmenter finds inside it, a few times.

    The weights are read at the first call, so a run in which every scan is as small as a window needs none.

    Args:
        network: a segmenter whose channel 0 is the background.
        weights: its state dict; ``None`` keeps the network as it is.
        intensities: from ``{"image": scan}`` to the segmenter's range.
        window: voxels of a window.
        device: where the network runs.
        least_ml: volume from which the organ counts as found.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        weights: str | os.PathLike | None,
        intensities: Callable[[dict[str, Any]], Mapping[str, Any]],
        window: Sequence[int],
        device: str | torch.device = "cpu",
        least_ml: float = 50.0,
    ) -> None:
        self.network = network
        self.weights = weights
        self.intensities = intensities
        self.window = tuple(int(n) for n in window)
        self.device = device
        self.least_ml = least_ml
        self._ready = False

    def __call__(self, image: Any) -> list[int]:  # MetaTensor (1, *S) to the first voxel of the window
        """Find the window; an ``OrganWarning`` when what it holds is less than ``least_ml``.

        Raises:
            ScanError: when the weights cannot be loaded.
        """
        self._load()
        with torch.no_grad(), eval_mode(self.network):
            first = self._coarse(image)
            for _ in range(_FOLLOWED):
                first, held = self._follow(image, first)
        volume_ml = held * float(affine_to_spacing(image.affine, 3).prod()) / 1000
        if volume_ml < self.least_ml:
            warnings.warn(
                f"{image.meta.get('filename_or_obj', 'the scan')} shows {volume_ml:.0f} ml of what the segmenter takes "
                f"for the organ, wanted {self.least_ml:.0f}; give its middle with --centre_mm, or --whole True",
                OrganWarning,
                stacklevel=2,
            )
        return first

    def _coarse(self, image: Any) -> list[int]:
        inferer = VolumeInferer(self.window, progress=False)
        parts = inferer(self._scaled(image), lambda windows: self.network(windows).softmax(1))[:, 1:].cpu()
        size = [min(n, w) for n, w in zip(image.shape[1:], self.window, strict=True)]
        shares = F.avg_pool3d(parts, size, stride=1)[0]
        score = (shares + _LEAST_SHARE).log().sum(0)
        return [int(i) for i in np.unravel_index(int(score.argmax()), score.shape)]

    def _follow(self, image: Any, first: Sequence[int]) -> tuple[list[int], float]:
        """The window around the middle of what is found in a window, and how many voxels that is."""
        places = (slice(None), *(slice(f, f + w) for f, w in zip(first, self.window, strict=True)))
        part = image[places]
        found = self.network(self._scaled(part)).argmax(1)[0].cpu().nonzero().double()
        if not len(found):
            return list(first), 0.0
        middle = found.mean(0).tolist()
        moved = [
            max(0, min(round(f + m - (w - 1) / 2), n - w))
            for f, m, w, n in zip(first, middle, self.window, image.shape[1:], strict=True)
        ]
        return moved, float(len(found))

    def _scaled(self, image: Any) -> Tensor:  # (1, *S) to (1, 1, *S) in the segmenter's range
        scaled = self.intensities({"image": image.clone()})["image"]
        return torch.as_tensor(scaled).as_subclass(Tensor)[None].float().to(self.device)

    def _load(self) -> None:
        if self._ready:
            return
        if self.weights is not None:
            try:
                load_weights(self.network, self.weights)
            except WeightsError as error:
                raise ScanError(f"no segmenter to find the organ with: {error}") from None
        self.network.to(self.device)
        self._ready = True


class CropToOrgand(Cropd):
    """Crop a scan to a window around the organ. Axes that are not longer than the window stay; the inverse puts zeros.

    Put it behind the turning to RAS and the resampling, before intensities are scaled to percentiles.

    Args:
        keys: volumes, MetaTensors.
        window: voxels that stay.
        locator: from a volume to the first voxel of the window; not asked when every axis stays.
        centre_mm: middle of the organ in scanner coordinates (RAS), instead of the locator.
        whole: keep the scan as it is.

    Raises:
        ValueError: for a centre that is not three numbers.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        window: Sequence[int],
        locator: Callable[[Any], Sequence[int]],
        centre_mm: Sequence[float] | None = None,
        whole: bool = False,
    ) -> None:
        if centre_mm is not None and len(centre_mm) != 3:
            raise ValueError(f"centre_mm must be [x, y, z] in scanner coordinates, got {centre_mm}")
        super().__init__(keys, _CropToOrgan(window, locator, centre_mm, whole))


class _CropToOrgan(Crop):
    def __init__(
        self,
        window: Sequence[int],
        locator: Callable[[Any], Sequence[int]],
        centre_mm: Sequence[float] | None,
        whole: bool,
    ) -> None:
        super().__init__()
        self.window = tuple(int(n) for n in window)
        self.locator = locator
        self.centre_mm = None if centre_mm is None else [float(c) for c in centre_mm]
        self.whole = whole

    def __call__(self, img: Any, lazy: bool | None = None) -> Any:  # type: ignore[override]
        return super().__call__(img, self._slices(img), lazy=lazy)

    def _slices(self, image: Any) -> tuple[slice, ...]:
        shape = image.shape[1:]
        if self.whole or all(n <= w for n, w in zip(shape, self.window, strict=True)):
            return (slice(None),) * 3
        first = self.locator(image) if self.centre_mm is None else self._around(image)
        starts = [max(0, min(int(f), n - w)) for f, n, w in zip(first, shape, self.window, strict=True)]
        return tuple(slice(s, s + w) for s, w in zip(starts, self.window, strict=True))

    def _around(self, image: Any) -> list[int]:
        assert self.centre_mm is not None
        inverse = torch.linalg.inv(torch.as_tensor(image.affine, dtype=torch.float64))
        centre = (inverse @ torch.tensor([*self.centre_mm, 1.0], dtype=torch.float64))[:3].tolist()
        if not all(0 <= c < n for c, n in zip(centre, image.shape[1:], strict=True)):
            name = image.meta.get("filename_or_obj", "the scan")
            raise ScanError(f"centre_mm {self.centre_mm} lies outside of {name}; wanted scanner coordinates (RAS)")
        return [round(c - (w - 1) / 2) for c, w in zip(centre, self.window, strict=True)]
