"""Slices of a real chest CT as a second test: real anatomy under the phantom's lesions, noise and kernels."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

__all__ = ["lung_mask", "real_chest_slices"]

LUNG_BELOW_HU = -500.0
SMALLEST_LUNG_MM2 = 2500.0
SMALLEST_SLICE_MM2 = 12_000.0  # both lungs together: leaves out the tips


def lung_mask(hu: np.ndarray, pixel_mm2: float) -> np.ndarray:  # (H, W) bool
    """Air inside the body: regions below -500 HU that do not touch the border, filled, each of 25 cm^2 or more."""
    regions, count = ndimage.label(hu < LUNG_BELOW_HU)
    rim = np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]])
    areas = np.bincount(regions.ravel(), minlength=count + 1) * pixel_mm2
    kept = [i for i in range(1, count + 1) if areas[i] >= SMALLEST_LUNG_MM2 and i not in rim]
    return np.asarray(ndimage.binary_closing(np.isin(regions, kept), iterations=2))


def real_chest_slices(
    path: str | Path, *, count: int, size: int, spacing_mm: float
) -> list[tuple[Tensor, Tensor]]:  # HU (2 N, 2 N), lungs (2 N, 2 N) bool
    """Evenly spaced axial slices with much lung, on the fine pixels of ``phantoms.chest``.

    The slices are centred on the lungs; rows run from front to back, columns from right to left.

    Args:
        path: chest CT in HU, NIfTI, of any orientation.
        count: number of slices.
        size: pixels N of the slices that will be reconstructed.
        spacing_mm: their pixel size.

    Raises:
        ValueError: when the scan has fewer slices with lung.
    """
    scan = nib.as_closest_canonical(nib.load(path))
    step = np.asarray(scan.header.get_zooms()[:2], dtype=float)
    volume = np.asarray(scan.dataobj, dtype=np.float32)
    volume = np.maximum(volume, -1000.0).transpose(2, 1, 0)[:, ::-1, ::-1]  # (slice, front to back, right to left)
    masks = [lung_mask(plane, float(step.prod())) for plane in volume]
    good = [k for k, mask in enumerate(masks) if mask.sum() * step.prod() >= SMALLEST_SLICE_MM2]
    if len(good) < count:
        raise ValueError(f"{path} has {len(good)} slices with lung, wanted at least {count}")
    fine = spacing_mm / 2
    found = []
    for k in (good[int(i)] for i in np.linspace(0, len(good) - 1, count)):
        scale = fine / step[::-1]  # CT pixels per fine pixel, rows and columns
        smooth = ndimage.gaussian_filter(volume[k], 0.4 * np.maximum(scale - 1, 0))
        centre = np.array(ndimage.center_of_mass(masks[k]))
        offset = centre - scale * (2 * size - 1) / 2
        hu, lungs = (
            ndimage.affine_transform(plane, scale, offset, (2 * size, 2 * size), order=order, mode="constant", cval=air)
            for plane, order, air in ((smooth, 1, -1000.0), (masks[k].astype(np.uint8), 0, 0))
        )
        found.append((torch.from_numpy(hu), torch.from_numpy(lungs.astype(bool))))
    return found
