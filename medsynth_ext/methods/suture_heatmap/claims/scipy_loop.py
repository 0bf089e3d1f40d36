"""The same post-processing written with SciPy and scikit-image, frame by frame, as a peer."""

from __future__ import annotations

import numpy as np

__all__ = ["scipy_points"]


def scipy_points(prob: np.ndarray, kappa: float) -> list[np.ndarray]:  # (B, H, W) to B times (K, 2)
    """Otsu's threshold, opening, regions and cutting of the large ones, for every frame of a batch."""
    from scipy import ndimage
    from skimage.filters import threshold_otsu
    from skimage.measure import regionprops

    square = np.ones((3, 3), dtype=bool)
    result = []
    for frame in prob:
        q = np.floor(255 * np.clip(frame.astype(np.float64), 0, 1) + 0.5).astype(np.uint8)
        mask = q > threshold_otsu(q)
        eroded = ndimage.binary_erosion(mask, square, border_value=1)
        labels, _ = ndimage.label(ndimage.binary_dilation(eroded, square), square)
        regions = regionprops(labels)
        mean = np.mean([region.area for region in regions]) if regions else 0.0
        points = []
        for region in regions:
            if region.area <= kappa * mean:
                points.append(region.centroid)
                continue
            y0, x0, y1, x1 = region.bbox
            axis = 0 if y1 - y0 > x1 - x0 else 1
            before = region.coords[:, axis] < region.centroid[axis]
            points += [tuple(region.coords[part].mean(0)) for part in (before, ~before) if part.any()]
        result.append(np.array(points).reshape(-1, 2))
    return result
