"""Whether an image is CT or MR, judged by its intensities."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np

__all__ = ["MODALITIES", "ModalityGuess", "ModalityWarning", "check_modality", "guess_modality"]

MODALITIES = ("CT", "MR")
_AIR_HU, _NOT_AIR_HU = (-1100.0, -900.0), -300.0  # scanners fill what they did not see with lower values still
_LEAST_AIR = 0.01


class ModalityWarning(UserWarning):
    """An image does not look like what it should be."""


class ModalityGuess(NamedTuple):
    """``CT``, ``MR`` or None where the intensities fit neither, and the figures that say so."""

    modality: str | None
    why: str


def guess_modality(values: np.ndarray) -> ModalityGuess:
    """Tell CT in Hounsfield units from MR by the distribution of the values.

    CT has much air near -1000 and, between air and -300, next to nothing but partial volume. MR magnitudes are not
    negative; normalised ones have a small negative minimum.

    >>> guess_modality(np.array([-1000.0, -990.0, 0.0, 40.0, 1000.0])).modality
    'CT'
    >>> guess_modality(np.array([0.0, 120.0, 300.0])).modality
    'MR'
    """
    values = np.asarray(values)
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values.ravel()
    if finite.size == 0:
        return ModalityGuess(None, "it has no finite value")
    low, high = float(finite.min()), float(finite.max())
    seen = finite >= _AIR_HU[0]
    air = float((seen & (finite <= _AIR_HU[1])).mean())
    below = float((seen & (finite < _NOT_AIR_HU)).mean())
    text = f"values from {low:.4g} to {high:.4g}, {100 * air:.1f} % of them in {_AIR_HU[0]:.0f} to {_AIR_HU[1]:.0f}"
    if air >= _LEAST_AIR and air >= 0.3 * below:
        return ModalityGuess("CT", f"{text} as air in Hounsfield units")
    if low >= 0:
        return ModalityGuess("MR", f"{text}: no negative value, so no air in Hounsfield units")
    if low > -20 and high < 60:
        return ModalityGuess("MR", f"{text}: the range of normalised MR, not of Hounsfield units")
    return ModalityGuess(None, f"{text}: neither the air of CT nor the range of MR")


def check_modality(values: np.ndarray, expected: str, *, name: str) -> ModalityGuess:
    """Warn when an image that should be of one modality looks like the other; what fits neither passes.

    Args:
        values: the image as it was stored.
        expected: ``CT`` or ``MR``.
        name: of the image, for the warning.

    Raises:
        ValueError: for another modality.
    """
    if expected not in MODALITIES:
        raise ValueError(f"expected must be one of {', '.join(MODALITIES)}, got {expected!r}")
    guess = guess_modality(values)
    if guess.modality not in (None, expected):
        text = f"{name} should be {expected} but looks like {guess.modality}: {guess.why}; were the two swapped?"
        warnings.warn(text, ModalityWarning, stacklevel=2)
    return guess
