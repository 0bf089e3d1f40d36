"""What an ultrasound probe looks into: layers, fibres, vessels, a mass, a nerve, as a map of tissues."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

__all__ = ["ARTERY", "CONTENTS", "TISSUES", "VEIN", "draw_tissues"]

VEIN, ARTERY = 1, 2  # labels of the masks

# Mean log-amplitude of the scatterers in dB, its spread inside a tissue in dB, attenuation in dB over the whole depth.
TISSUES: dict[str, tuple[float, float, float]] = {
    "gel": (-12.0, 1.0, 6.0),
    "skin": (0.0, 2.0, 14.0),
    "fat": (-14.0, 2.5, 8.0),
    "muscle": (-17.0, 2.0, 12.0),
    "fibre": (-6.0, 3.0, 14.0),
    "fascia": (3.0, 2.0, 16.0),
    "blood": (-48.0, 1.0, 2.0),
    "vein wall": (-5.0, 2.0, 8.0),
    "artery wall": (3.0, 2.0, 12.0),
    "lobule": (-19.0, 2.0, 8.0),
    "gland": (-7.0, 3.0, 12.0),
    "mass": (-30.0, 3.0, 60.0),
    "fascicle": (-24.0, 1.5, 10.0),
    "nerve sheath": (-3.0, 2.0, 12.0),
}
_INDEX = {name: number for number, name in enumerate(TISSUES)}


class _Canvas:
    """Tissues and labels on a grid; depth and lateral position run from 0 to 1 and from -0.5 to 0.5."""

    def __init__(self, rows: int, columns: int, rng: np.random.Generator) -> None:
        depth = (np.arange(rows) + 0.5) / rows
        lateral = (np.arange(columns) + 0.5) / columns - 0.5
        self.z, self.x = np.meshgrid(depth, lateral, indexing="ij")
        self.tissues = np.zeros((rows, columns), dtype=np.uint8)
        self.labels = np.zeros((rows, columns), dtype=np.uint8)
        self.rng = rng

    def lay(self, tissue: str, where: np.ndarray, label: int = 0) -> None:
        self.tissues[where] = _INDEX[tissue]
        self.labels[where] = label

    def wave(self, amplitude: float) -> np.ndarray:  # (rows, columns), a curve that depends on x alone
        """A gentle curve: a slope and two cosines."""
        slope, first, second = self.rng.normal(0, amplitude, 3)
        phases = self.rng.uniform(0, 2 * np.pi, 2)
        waves = first * np.cos(2 * np.pi * self.x + phases[0]) + 0.5 * second * np.cos(5 * np.pi * self.x + phases[1])
        return slope * self.x + waves

    def ellipse(self, z: float, x: float, rz: float, rx: float, angle: float = 0.0) -> np.ndarray:
        """Relative radius: below 1 inside."""
        dz, dx = self.z - z, self.x - x
        c, s = np.cos(angle), np.sin(angle)
        return np.hypot((c * dz - s * dx) / rz, (s * dz + c * dx) / rx)

    def fibres(self, where: np.ndarray, angle: float, spacing: float, thickness: float) -> None:
        """Bright broken stripes inside a region."""
        across = self.z * np.cos(angle) - self.x * np.sin(angle) + self.wave(0.01)
        along = self.z * np.sin(angle) + self.x * np.cos(angle)
        number = np.floor(across / spacing)
        offset, period = (self.rng.uniform(a, b, 64)[number.astype(int) % 64] for a, b in ((0, 1), (0.25, 0.6)))
        on = (across / spacing - number) * spacing < thickness
        self.lay("fibre", where & on & (((along / period + offset) % 1) < 0.7))


def _vessels(canvas: _Canvas, count: int, top: float, bottom: float, kinds: tuple[int, ...]) -> None:
    """Vessels that do not touch: a vein is a flattened ellipse with a thin wall, an artery a disc with a thick one."""
    rng = canvas.rng
    placed: list[tuple[float, float, float]] = []
    for number in range(count):
        kind = kinds[number % len(kinds)]
        for _ in range(60):
            radius = rng.uniform(0.085, 0.13) if kind == VEIN else rng.uniform(0.065, 0.095)
            z, x = rng.uniform(top + radius, bottom - radius), rng.uniform(-0.5 + 1.1 * radius, 0.5 - 1.1 * radius)
            if all(np.hypot(z - a, x - b) > radius + r + 0.07 for a, b, r in placed):
                break
        else:
            continue
        placed.append((z, x, radius))
        flat = rng.uniform(0.5, 0.8) if kind == VEIN else rng.uniform(0.93, 1.0)
        wall = 0.012 if kind == VEIN else rng.uniform(0.022, 0.03)
        angle = rng.normal(0, 0.2) if kind == VEIN else rng.uniform(0, np.pi)
        outside = canvas.ellipse(z, x, flat * radius + wall, radius + wall, angle) < 1
        canvas.lay("vein wall" if kind == VEIN else "artery wall", outside)
        canvas.lay("blood", canvas.ellipse(z, x, flat * radius, radius, angle) < 1, kind)


def _order(rng: np.random.Generator) -> tuple[int, int]:
    return (VEIN, ARTERY) if rng.random() < 0.5 else (ARTERY, VEIN)


def _leg(canvas: _Canvas) -> None:
    canvas.lay("gel", canvas.z >= 0)
    canvas.lay("skin", canvas.z < 0.05 + canvas.wave(0.004))
    _vessels(canvas, int(canvas.rng.integers(1, 4)), 0.16, 0.85, _order(canvas.rng))


def _pig(canvas: _Canvas) -> None:
    rng = canvas.rng
    canvas.lay("muscle", canvas.z >= 0)
    fat = 0.1 + rng.uniform(0.06, 0.14) + canvas.wave(0.015)
    layers = int(rng.integers(2, 4))
    edges = [fat, *(fat + (0.95 - fat) * (k + 1) / layers + canvas.wave(0.02) for k in range(layers))]
    for upper, lower in pairwise(edges):
        inside = (canvas.z >= upper) & (canvas.z < lower)
        angle = rng.normal(0, 0.35)
        canvas.fibres(inside, angle, spacing=rng.uniform(0.06, 0.09), thickness=rng.uniform(0.012, 0.02))
    for edge in edges:
        canvas.lay("fascia", np.abs(canvas.z - edge) < 0.009)
    canvas.lay("fat", canvas.z < fat - 0.009)
    canvas.lay("skin", canvas.z < 0.07 + canvas.wave(0.004))
    _vessels(canvas, int(rng.integers(1, 4)), 0.24, 0.9, _order(rng))


def _breast(canvas: _Canvas) -> None:
    rng = canvas.rng
    canvas.lay("gland", canvas.z >= 0)
    for _ in range(16):
        z, x = rng.uniform(0.1, 1.0), rng.uniform(-0.5, 0.5)
        canvas.lay(
            "lobule", canvas.ellipse(z, x, rng.uniform(0.04, 0.1), rng.uniform(0.08, 0.2), rng.normal(0, 0.2)) < 1
        )
    radius = rng.uniform(0.09, 0.16)
    z, x, angle = rng.uniform(0.35, 0.6), rng.uniform(-0.25, 0.25), rng.normal(0, 0.3)
    around = np.arctan2(canvas.z - z, canvas.x - x)
    rough = 1 + 0.08 * np.cos(5 * around + rng.uniform(0, 6)) + 0.05 * np.cos(9 * around + rng.uniform(0, 6))
    canvas.lay("mass", canvas.ellipse(z, x, rng.uniform(0.6, 0.95) * radius, radius, angle) < rough)
    canvas.lay("skin", canvas.z < 0.06 + canvas.wave(0.004))


def _nerve(canvas: _Canvas) -> None:
    rng = canvas.rng
    canvas.lay("muscle", canvas.z >= 0)
    canvas.fibres(canvas.z > 0.16, rng.normal(0, 0.2), spacing=rng.uniform(0.07, 0.1), thickness=0.014)
    for depth in (rng.uniform(0.25, 0.35), rng.uniform(0.7, 0.8)):
        canvas.lay("fascia", np.abs(canvas.z - depth - canvas.wave(0.02)) < 0.009)
    canvas.lay("fat", canvas.z < 0.14 + canvas.wave(0.01))
    canvas.lay("skin", canvas.z < 0.06 + canvas.wave(0.004))
    z, x, radius = rng.uniform(0.45, 0.6), rng.uniform(-0.3, 0.0), rng.uniform(0.11, 0.15)
    bundle = canvas.ellipse(z, x, 0.7 * radius, radius) < 1
    canvas.lay("nerve sheath", bundle)
    pitch = radius / 2.6
    row = np.round((canvas.z - z) / pitch)
    dx = (canvas.x - x) / pitch - 0.5 * (row % 2)
    hole = np.hypot((canvas.z - z) / pitch - row, dx - np.round(dx)) < 0.33
    canvas.lay("fascicle", bundle & hole)
    if rng.random() < 0.7:
        side = _Canvas(*canvas.z.shape, rng)
        side.lay("gel", side.z >= 0)
        _vessels(side, 1, 0.35, 0.75, (ARTERY,))
        side_x = side.x[side.labels > 0]
        if len(side_x) and side_x.min() > x + radius + 0.04:
            chosen = side.tissues != _INDEX["gel"]
            canvas.tissues[chosen], canvas.labels[chosen] = side.tissues[chosen], side.labels[chosen]


CONTENTS: dict[str, Callable[[_Canvas], None]] = {"leg": _leg, "pig": _pig, "breast": _breast, "nerve": _nerve}


def draw_tissues(
    content: str, rows: int, columns: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:  # (rows, columns) uint8 both
    """Indices of ``TISSUES``, and labels: 0, ``VEIN`` or ``ARTERY`` inside a vessel.

    Raises:
        KeyError: for a content that is not in ``CONTENTS``.
    """
    canvas = _Canvas(rows, columns, rng)
    CONTENTS[content](canvas)
    return canvas.tissues, canvas.labels
