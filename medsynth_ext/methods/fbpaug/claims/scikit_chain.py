"""The same chain written with scikit-image's Radon transforms, as a peer."""

from __future__ import annotations

import numpy as np

from medsynth_ext.ops import WATER_AIR_HU

__all__ = ["scikit_chain"]


def scikit_chain(image_hu: np.ndarray, a: float, b: float, views: int) -> np.ndarray:  # (N, N) both
    """Project with ``radon``, filter with the kernel's own response, back-project with ``iradon`` without filter."""
    from skimage.transform import iradon, radon

    size = image_hu.shape[0]
    angles = np.arange(views) * 180.0 / views
    at = np.arange(size) - size // 2
    outside = at[:, None] ** 2 + at**2 > (size // 2) ** 2  # where scikit-image wants zeros
    units = np.where(outside, 0.0, np.maximum(image_hu, -1000) + WATER_AIR_HU)
    sino = radon(units, theta=angles, circle=True)  # (N, views)
    length = max(64, 2 ** int(np.ceil(np.log2(2 * np.ceil(np.sqrt(2) * size)))))
    distance = np.minimum(np.arange(length), length - np.arange(length))
    kernel = np.where(distance % 2 == 1, -1 / (np.pi * np.maximum(distance, 1)) ** 2, 0.0)
    kernel[0] = 0.25
    ramp = 2 * np.fft.fft(kernel).real
    gain = ramp * (1 + a * ramp**b)
    filtered = np.fft.ifft(np.fft.fft(sino, length, axis=0) * gain[:, None], axis=0).real[:size]
    values = iradon(filtered, theta=angles, filter_name=None, circle=True, output_size=size)
    return np.clip(values - WATER_AIR_HU, -1000, 3000)
