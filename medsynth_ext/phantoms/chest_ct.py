"""A chest of one person as a stack of slices: the anatomy around the heart phantom, with infected regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from medsynth_ext.phantoms.chest import FINE, ChestSlice, add_lesions, coarse_mask
from medsynth_ext.phantoms.chest_thorax import ChestThorax
from medsynth_ext.phantoms.heart_parameters import draw_heart_parameters
from medsynth_ext.phantoms.heart_rendering import HEART_HOUNSFIELD
from medsynth_ext.phantoms.painter import Grid
from medsynth_ext.phantoms.whole_heart import WholeHeartPhantom, whole_heart_phantom

__all__ = ["PLAIN_HOUNSFIELD", "chest_ct"]

# Hounsfield units without a contrast agent: blood and the muscle of the heart are hardly told apart. Typical values.
PLAIN_HOUNSFIELD: Mapping[str, float] = {
    **HEART_HOUNSFIELD,
    **dict.fromkeys(("blood_left", "blood_right", "blood_pulmonary", "blood_mixed", "cava"), 42.0),
    "mixing": 0.0,
    "myocardium": 46.0,
    "wall": 44.0,
    "liver": 58.0,
    "spleen": 48.0,
    "airway_wall": 20.0,
    "couch": 100.0,
}
_MIDDLE_MM = (12.0, -24.0)  # of the average person's chest, right and forward of the heart's centre
_LOWEST_MM, _HIGHEST_MM = -30.0, 95.0  # of the slices
_GUIDE_MM = 5.0
_PLANES = 2  # in the thickness of a slice, half a pixel apart
_PERSON, _PERSON_SPREAD = 0.86, 0.03  # sizes of persons who fit into 320 mm


@torch.no_grad()
def chest_ct(
    seed: int,
    *,
    slices: int = 8,
    gap_mm: float = 8.0,
    size: int = 160,
    spacing_mm: float = 2.0,
    lesions: int | None = None,
) -> list[ChestSlice]:  # from below
    """Draw one person's chest, without noise, as slices at equal distances; a pure function of its arguments.

    Heart, great vessels and organs are those of the whole-heart phantom without a contrast agent, the wall and what
    fills the lungs those of :class:`ChestThorax`. A slice is as thick as a pixel is wide.
    Infected regions reach over several slices.

    Args:
        seed: addresses the person.
        slices: how many.
        gap_mm: from one to the next.
        size: pixels N of a slice.
        spacing_mm: pixel size; N times it should be about 320 mm.
        lesions: number of infected regions; 0 to 4 at random by default.

    Raises:
        ValueError: for less than one slice.
    """
    if slices < 1:
        raise ValueError(f"slices must be at least 1, got {slices}")
    rng = np.random.default_rng([seed, 273])
    phantom = _chest_person(seed, rng)
    person = phantom.parameters.person
    step = spacing_mm / FINE
    first = [person * middle - (FINE * size - 1) / 2 * step for middle in _MIDDLE_MM]
    reach = gap_mm * (slices - 1)
    low = rng.uniform(person * _LOWEST_MM, max(person * _HIGHEST_MM - reach, person * _LOWEST_MM))
    heights = [low + gap_mm * k for k in range(slices)]
    pictures, lungs = [], []
    for height in heights:
        below = height - (_PLANES - 1) / 2 * step
        grid = Grid((first[0], first[1], below), (FINE * size, FINE * size, _PLANES), step)
        values, share = (field.mean(-1) for field in phantom.paint_chest(PLAIN_HOUNSFIELD, grid))
        # From right-anterior to rows from the front to the back and columns from right to left.
        pictures.append(values.flip(0, 1).T)
        lungs.append(share.flip(0, 1).T > 0.5)
    stack, mask = torch.stack(pictures), torch.stack(lungs)
    infected = torch.zeros_like(mask)
    count = int(rng.integers(0, 5)) if lesions is None else lesions
    x, y, z = _places(heights, size, step)
    if mask.any():
        infected = add_lesions(stack, (x, y, z), mask, rng, count)
    return [
        ChestSlice(hu.contiguous(), coarse_mask(ill), coarse_mask(lung), spacing_mm)
        for hu, ill, lung in zip(stack, infected, mask, strict=True)
    ]


def _chest_person(seed: int, rng: np.random.Generator) -> WholeHeartPhantom:
    """A person whose lungs, known from a coarse picture of the whole chest, have been filled with vessels."""
    person = float(np.clip(rng.normal(_PERSON, _PERSON_SPREAD), 0.75, 0.9))
    parameters = replace(draw_heart_parameters(rng, "A"), person=person)
    phantom = whole_heart_phantom(seed, site="A", size=32, parameters=parameters)
    thorax = ChestThorax(phantom.rng(3), phantom.thorax.landmarks)
    phantom = replace(phantom, thorax=thorax)
    half = [person * reach for reach in (185.0, 135.0, 175.0)]
    shape = [2 * round(h / _GUIDE_MM) for h in half]
    first = [person * m - (n - 1) / 2 * _GUIDE_MM for m, n in zip((*_MIDDLE_MM, 0.0), shape, strict=True)]
    grid = Grid((first[0], first[1], first[2]), (shape[0], shape[1], shape[2]), _GUIDE_MM)
    _, lungs = phantom.paint_chest(PLAIN_HOUNSFIELD, grid)
    thorax.grow_vessels(phantom.rng(5), lungs, [axis / person for axis in grid.axes()])
    return phantom


def _places(heights: Sequence[float], size: int, step: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    axis = (torch.arange(FINE * size) - (FINE * size - 1) / 2) * step
    z, y, x = torch.meshgrid(torch.tensor(heights), axis, axis, indexing="ij")
    return x, y, z
