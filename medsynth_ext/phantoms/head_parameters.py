"""Parameters of the head phantom and the populations that they are drawn from."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

__all__ = ["POPULATIONS", "HeadParameters", "draw_head_parameters"]

MAX_LESIONS = 20


@dataclass(frozen=True)
class HeadParameters:
    """Sliders of one head. Scales are factors on an average adult; unlisted shape is drawn from the phantom's seed.

    Args:
        size: Linear size of the head.
        aspect: Extra linear factor along right, anterior and superior.
        ventricle_scale: Volume of the lateral and third ventricles, 0.6 to 3; deep nuclei move aside.
        cortex_thickness_mm: Thickness of the cerebral cortex.
        atrophy: 0 for tight sulci, 1 for wide sulci and much fluid around the brain.
        hippocampus_scale: Volume of both hippocampi.
        hippocampus_asymmetry: Left minus right over the mean of both.
        lesions: Number of white matter lesions, 0 to 20.
        deformation_mm: Root mean square of the final random velocity along each axis.
        shape_jitter: Standard deviation of the random factor on the radii of every structure.
    """

    size: float = 1.0
    aspect: tuple[float, float, float] = (1.0, 1.0, 1.0)
    ventricle_scale: float = 1.0
    cortex_thickness_mm: float = 3.0
    atrophy: float = 0.2
    hippocampus_scale: float = 1.0
    hippocampus_asymmetry: float = 0.0
    lesions: int = 0
    deformation_mm: float = 2.0
    shape_jitter: float = 0.03

    def __post_init__(self) -> None:
        ranges = {
            "size": (0.8, 1.2),
            "ventricle_scale": (0.3, 4.0),
            "cortex_thickness_mm": (1.0, 5.0),
            "atrophy": (0.0, 1.0),
            "hippocampus_scale": (0.3, 2.0),
            "hippocampus_asymmetry": (-0.5, 0.5),
            "lesions": (0, MAX_LESIONS),
            "deformation_mm": (0.0, 5.0),
            "shape_jitter": (0.0, 0.1),
        }
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must be in [{low}, {high}], got {getattr(self, name)}")
        if len(self.aspect) != 3 or not all(0.8 <= factor <= 1.2 for factor in self.aspect):
            raise ValueError(f"aspect must be three factors in [0.8, 1.2], got {self.aspect}")


@dataclass(frozen=True)
class Population:
    """Ranges (low, high) drawn uniformly and (mean, deviation) drawn from a normal law cut at 2.5 deviations."""

    ventricle_scale: tuple[float, float]
    cortex_thickness_mm: tuple[float, float]
    atrophy: tuple[float, float]
    hippocampus_scale: tuple[float, float]
    lesions: tuple[int, int]
    size: tuple[float, float] = field(default=(1.0, 0.02))
    aspect_deviation: float = 0.015


# "patient" differs from "old" only in smaller hippocampi, by the group effect on their volume of Alzheimer's disease in
# Billot et al., Medical Image Analysis 2023 (Cohen's d of about 1.4 between controls and patients).
POPULATIONS = {
    "young": Population((0.6, 1.2), (3.0, 0.1), (0.0, 0.3), (1.0, 0.08), (0, 5)),
    "old": Population((1.0, 3.0), (2.6, 0.15), (0.3, 1.0), (0.95, 0.1), (0, MAX_LESIONS)),
    "patient": Population((1.0, 3.0), (2.6, 0.15), (0.3, 1.0), (0.78, 0.1), (0, MAX_LESIONS)),
}


def draw_head_parameters(rng: np.random.Generator, population: str) -> HeadParameters:
    """Draw the sliders of one head of ``population`` (a key of ``POPULATIONS``)."""
    if population not in POPULATIONS:
        raise ValueError(f"population must be one of {sorted(POPULATIONS)}, got {population!r}")
    law = POPULATIONS[population]

    def normal(mean: float, deviation: float) -> float:
        return float(mean + deviation * np.clip(rng.standard_normal(), -2.5, 2.5))

    aspect = (normal(1, law.aspect_deviation), normal(1, law.aspect_deviation), normal(1, law.aspect_deviation))
    return HeadParameters(
        size=normal(*law.size),
        aspect=aspect,
        ventricle_scale=float(rng.uniform(*law.ventricle_scale)),
        cortex_thickness_mm=normal(*law.cortex_thickness_mm),
        atrophy=float(rng.uniform(*law.atrophy)),
        hippocampus_scale=normal(*law.hippocampus_scale),
        hippocampus_asymmetry=normal(0.0, 0.03),
        lesions=int(rng.integers(law.lesions[0], law.lesions[1] + 1)),
    )
