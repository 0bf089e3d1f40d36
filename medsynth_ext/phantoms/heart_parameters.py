"""Sliders of the whole-heart phantom, and the hospitals that they are drawn for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

__all__ = ["SITES", "HeartParameters", "Site", "draw_heart_parameters"]


@dataclass(frozen=True)
class HeartParameters:
    """One person: twelve sliders of the heart and the size of the person.

    Sizes are linear factors on an average adult.

    Args:
        lv: size of the left ventricle.
        rv: size of the right ventricle.
        la: size of the left atrium.
        ra: size of the right atrium.
        heart: size of the whole heart in the chest.
        wall: thickness of the left ventricular muscle.
        aorta: radius of the aorta.
        pulmonary: radius of the pulmonary artery.
        tilt_deg: turn of the ventricles' long axis about the head-foot axis.
        lift_deg: turn of the long axis towards the head.
        sphericity: width of the ventricles over their length.
        bend: bend of both great vessels.
        septum: thickness of the septum over that of the free wall.
        person: size of the whole person, chest and heart.
        deformation_mm: root mean square of the final random velocity along each axis.
    """

    lv: float = 1.0
    rv: float = 1.0
    la: float = 1.0
    ra: float = 1.0
    heart: float = 1.0
    wall: float = 1.0
    aorta: float = 1.0
    pulmonary: float = 1.0
    tilt_deg: float = 0.0
    lift_deg: float = 0.0
    sphericity: float = 1.0
    bend: float = 1.0
    septum: float = 1.1
    person: float = 1.0
    deformation_mm: float = 2.0

    def __post_init__(self) -> None:
        limits = {
            "tilt_deg": (-45.0, 45.0),
            "lift_deg": (-45.0, 45.0),
            "deformation_mm": (0.0, 5.0),
            "bend": (0.0, 3.0),
        }
        for field in fields(self):
            low, high = limits.get(field.name, (0.3, 2.0))
            if not low <= getattr(self, field.name) <= high:
                raise ValueError(f"{field.name} must be in [{low:g}, {high:g}], got {getattr(self, field.name)}")


# Deviation of every slider in the population (Gaussian, cut at 2.5 deviations).
DEVIATIONS: Mapping[str, float] = {
    "lv": 0.09,
    "rv": 0.10,
    "la": 0.12,
    "ra": 0.12,
    "heart": 0.08,
    "wall": 0.12,
    "aorta": 0.10,
    "pulmonary": 0.10,
    "tilt_deg": 8.0,
    "lift_deg": 8.0,
    "sphericity": 0.08,
    "bend": 0.12,
}


@dataclass(frozen=True)
class Site:
    """Whom a hospital sees: mean sliders where they differ from 1, and the law of the person's size."""

    means: Mapping[str, float]
    person: tuple[float, float]


SITES: Mapping[str, Site] = {
    "A": Site({}, (1.0, 0.08)),
    "B": Site({"rv": 1.35, "lv": 0.85}, (0.75, 0.15)),
    "C": Site({"la": 1.3, "pulmonary": 1.4, "septum": 0.7}, (0.7, 0.2)),
}
SMALLEST_PERSON, LARGEST_PERSON = 0.4, 1.25


def draw_heart_parameters(rng: np.random.Generator, site: str) -> HeartParameters:
    """Draw one person of a site (a key of ``SITES``)."""
    if site not in SITES:
        raise ValueError(f"site must be one of {', '.join(SITES)}, got {site!r}")
    law = SITES[site]
    draw = {name: float(np.clip(rng.standard_normal(), -2.5, 2.5)) for name in DEVIATIONS}
    neutral = HeartParameters()
    values = {}
    for name, deviation in DEVIATIONS.items():
        mean = law.means.get(name, getattr(neutral, name))
        values[name] = mean + deviation * draw[name] * (1.0 if name.endswith("deg") else mean)
    person = law.person[0] + law.person[1] * float(np.clip(rng.standard_normal(), -2.5, 2.5))
    return HeartParameters(
        **values,
        septum=law.means.get("septum", neutral.septum),
        person=float(np.clip(person, SMALLEST_PERSON, LARGEST_PERSON)),
    )
