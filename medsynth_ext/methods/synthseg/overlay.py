"""One picture of a scan and its segmentation."""

from __future__ import annotations

import colorsys
import os
from pathlib import Path

import nibabel as nib
import numpy as np

from medsynth_ext.data.files import replacing

__all__ = ["label_colours", "save_overlay"]

# The usual colours of FreeSurfer's left structures; the right ones share them. White matter is violet, since its usual
# white cannot be told from a bright scan.
_COLOURS = {
    2: (190, 170, 255),
    3: (205, 62, 78),
    4: (120, 18, 134),
    5: (196, 58, 250),
    7: (220, 248, 164),
    8: (230, 148, 34),
    10: (0, 118, 14),
    11: (122, 186, 220),
    12: (236, 13, 176),
    13: (12, 48, 255),
    14: (204, 182, 142),
    15: (42, 204, 164),
    16: (119, 159, 176),
    17: (220, 216, 20),
    18: (103, 255, 255),
    24: (60, 60, 60),
    26: (255, 165, 0),
    28: (165, 42, 42),
}
_RIGHT = {41: 2, 42: 3, 43: 4, 44: 5, 46: 7, 47: 8, 49: 10, 50: 11, 51: 12, 52: 13, 53: 17, 54: 18, 58: 26, 60: 28}


def label_colours(values: np.ndarray) -> np.ndarray:
    """RGB of label values, 0..1; FreeSurfer's colours where known, else a fixed hue per value."""
    table = []
    for value in np.asarray(values).tolist():
        known = _COLOURS.get(_RIGHT.get(value, value))
        table.append(colorsys.hsv_to_rgb(value * 0.618 % 1, 0.75, 1.0) if known is None else [c / 255 for c in known])
    return np.asarray(table, dtype=float).reshape(-1, 3)


def save_overlay(
    path: str | os.PathLike,
    scan: nib.spatialimages.SpatialImage,
    labels: nib.spatialimages.SpatialImage,
    *,
    title: str = "",
    opacity: float = 0.45,
    window: tuple[float, float] | None = None,
) -> None:
    """Draw sagittal, coronal and axial planes of a scan, alone and with its labels in colour, as a PNG.

    The planes go through the middle of the labelled voxels (of the scan when there are none); left is left.

    Args:
        scan: image on the same grid as the labels.
        opacity: how much of the colour is seen.
        window: values drawn black and white; the percentiles 0.5 and 99.5 by default.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    image = nib.as_closest_canonical(scan)
    x = np.asarray(image.dataobj, dtype=np.float32)
    x = np.nan_to_num(x.reshape(image.shape[:3]))
    y = np.asarray(nib.as_closest_canonical(labels).dataobj)
    y = y.reshape(y.shape[:3])
    if x.shape != y.shape:
        raise ValueError(f"scan and labels must be on one grid, got {x.shape} and {y.shape}")
    spacing = np.linalg.norm(image.affine[:3, :3], axis=0)
    low, high = np.percentile(x[:: max(1, x.shape[0] // 64)], [0.5, 99.5]) if window is None else window
    grey = np.clip((x - low) / max(high - low, 1e-9), 0, 1)
    where = np.argwhere(y > 0)
    middle = (where.mean(0) if len(where) else (np.asarray(y.shape) - 1) / 2).round().astype(int)

    extent = spacing * np.asarray(x.shape)
    widths = [extent[1], extent[0], extent[0]]
    figure = Figure(figsize=(10, 10 * 2 * max(extent[2], extent[1]) / sum(widths) + 0.4), facecolor="black")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3, width_ratios=widths, gridspec_kw={"wspace": 0.02, "hspace": 0.02})
    for column, axis in enumerate((0, 1, 2)):
        plane = np.take(grey, middle[axis], axis=axis).T
        marks = np.take(y, middle[axis], axis=axis).T
        across, up = [a for a in range(3) if a != axis]
        rgb = np.repeat(plane[..., None], 3, axis=-1)
        values, index = np.unique(marks, return_inverse=True)
        colour = label_colours(values)[index.reshape(marks.shape)]
        mixed = np.where((marks > 0)[..., None], (1 - opacity) * rgb + opacity * colour, rgb)
        for row, picture in enumerate((rgb, mixed)):
            axes[row, column].imshow(
                picture, origin="lower", aspect=spacing[up] / spacing[across], interpolation="nearest"
            )
            axes[row, column].set_axis_off()
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.01, top=0.95)
    figure.suptitle(title, color="white", fontsize=10)
    with replacing(Path(path)) as temporary:
        figure.savefig(temporary, dpi=110, facecolor="black")
