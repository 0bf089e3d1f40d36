"""The mitral valve as a surgeon's endoscope sees it: annulus, leaflets, sutures and what lies about.

Lengths are reference pixels, those of a picture 512 pixels wide; points are ``(y, x)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medsynth_ext.phantoms.endoscopy_canvas import Canvas, bezier

__all__ = ["Annulus", "Scene", "draw_scene", "mixed"]

HALF = (300.0, 430.0)
STAGES = 3
_SUTURE = ((0.93, 0.95, 0.93), (0.10, 0.42, 0.52))  # white and blue
_STAINED = ((0.70, 0.52, 0.47), (0.16, 0.24, 0.27))
_METAL = (0.70, 0.72, 0.75)


def mixed(
    simulator: float | Sequence[float] | np.ndarray, surgery: float | Sequence[float] | np.ndarray, share: float
) -> np.ndarray:
    """Between the look of the simulator (0) and that of surgery (1)."""
    a, b = np.asarray(simulator, dtype=float), np.asarray(surgery, dtype=float)
    return np.asarray(a + share * (b - a))


@dataclass(frozen=True)
class Annulus:
    """A tilted ellipse, flatter on its anterior side."""

    centre: tuple[float, float]
    radii: tuple[float, float]  # y, x
    tilt: float
    flat: float  # the anterior half's height over the other's

    def local(self, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates along the ellipse's axes, the anterior side stretched to a full ellipse."""
        c, s = math.cos(self.tilt), math.sin(self.tilt)
        u, v = x - self.centre[1], y - self.centre[0]
        u, v = c * u + s * v, c * v - s * u
        return torch.where(v < 0, v / self.flat, v), u

    def distance(self, y: Tensor, x: Tensor) -> Tensor:
        """How far outside; close to the distance near the ellipse, negative inside."""
        v, u = self.local(y, x)
        ratio = torch.hypot(v / self.radii[0], u / self.radii[1]).clamp_min(1e-3)
        slope = torch.hypot(v / self.radii[0] ** 2, u / self.radii[1] ** 2) / ratio
        return (ratio - 1) / slope.clamp_min(1e-3)

    def point(self, angle: float, outwards: float = 0.0) -> np.ndarray:  # (2,)
        """The point of the ellipse at an angle, moved outwards."""
        v, u = (self.radii[0] + outwards) * math.sin(angle), (self.radii[1] + outwards) * math.cos(angle)
        v = v * self.flat if v < 0 else v
        c, s = math.cos(self.tilt), math.sin(self.tilt)
        return np.array([self.centre[0] + s * u + c * v, self.centre[1] + c * u - s * v])

    def outwards(self, angle: float) -> np.ndarray:  # (2,)
        """Direction away from the centre, of length one."""
        away = self.point(angle) - np.asarray(self.centre)
        return np.asarray(away / np.linalg.norm(away))

    def angles(self, start: float, steps: np.ndarray) -> np.ndarray:
        """Angles of the points that lie at the given arc lengths from one another, the first at ``start``."""
        fine = start + np.linspace(0, 2 * math.pi, 721)
        line = np.stack([self.point(a) for a in fine])
        walked = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
        wanted = np.cumsum(steps)
        return np.interp(wanted[wanted < walked[-1] - 20], walked, fine)


@dataclass(frozen=True)
class Scene:
    """A valve while it is sutured: every stage has the sutures of the one before and more."""

    annulus: Annulus
    stages: list[Tensor]  # (6, H, W) each, see Canvas.planes
    points: list[np.ndarray]  # (K, 2) each
    half: tuple[float, float]


def draw_scene(rng: np.random.Generator, *, surgery: float, scale: float) -> Scene:
    """Draw tissue and sutures.

    Args:
        rng: what all is drawn from; the same numbers whatever ``surgery``.
        surgery: 0 for a silicone valve, 1 for a patient's.
        scale: pixels of the canvas to one reference pixel.
    """
    annulus = Annulus(
        (rng.uniform(-20, 25), rng.uniform(-25, 25)),
        (rng.uniform(88, 122), rng.uniform(160, 215)),
        rng.uniform(-0.3, 0.3),
        rng.uniform(0.65, 0.9),
    )
    canvas = Canvas(HALF, scale)
    _draw_tissue(canvas, annulus, rng, surgery)
    _draw_blood(canvas, annulus, rng, surgery)
    _draw_litter(canvas, annulus, rng, surgery)
    pairs = _suture_pairs(annulus, rng)
    ends = [*np.sort(rng.integers(0, len(pairs) + 1, STAGES - 1)).tolist(), len(pairs)]
    if rng.random() < 0.5:  # from the first suture on; else some recordings begin with none
        ends[0] = max(ends[0], min(2, len(pairs)))
        ends[1] = max(ends[:2])
    stages, points, placed = [], [], 0
    for end in ends:
        canvas = canvas.copy()
        for angle, pair in pairs[placed:end]:
            _draw_suture(canvas, annulus, angle, pair, rng, surgery)
        placed = end
        stages.append(canvas.planes())
        points.append(np.concatenate([pair for _, pair in pairs[:end]]) if end else np.zeros((0, 2)))
    return Scene(annulus, stages, points, canvas.half)


def _draw_tissue(canvas: Canvas, annulus: Annulus, rng: np.random.Generator, surgery: float) -> None:
    tint = rng.uniform(-0.04, 0.04, 3)
    wall = mixed((0.85, 0.50, 0.47), (0.60, 0.25, 0.20), surgery) + tint
    rim = mixed((0.88, 0.56, 0.52), (0.74, 0.44, 0.35), surgery) + tint
    leaflet = mixed((0.90, 0.64, 0.58), (0.80, 0.63, 0.50), surgery) + tint
    away = annulus.distance(canvas.y, canvas.x)
    v, u = annulus.local(canvas.y, canvas.x)
    broad, medium = canvas.waves(rng, 10, (120, 400)), canvas.waves(rng, 12, (25, 80))
    fine, bumps = canvas.waves(rng, 14, (6, 18)), canvas.waves(rng, 14, (10, 26))
    away = away + 3 * medium
    canvas.blend(torch.ones_like(away), wall)
    canvas.blend(torch.exp(-((away / 22) ** 2)), rim)
    canvas.blend(canvas.share(-away - 8, 14.0), leaflet)
    mottle = 1 + mixed(0.025, 0.09, surgery).item() * broad + mixed(0.012, 0.05, surgery).item() * medium
    canvas.colour *= mottle + mixed(0.004, 0.03, surgery).item() * fine
    vessels = torch.exp(-((canvas.waves(rng, 10, (30, 120)) / 0.05) ** 2)) * (medium > 0.2)
    canvas.blend(0.35 * surgery * vessels * canvas.share(away, 30.0), (0.45, 0.08, 0.08))

    # The leaflets meet along a curved line; the orifice gapes there, darker and with chordae in it.
    curve = 0.25 * annulus.radii[0] * (1 - (u / (0.8 * annulus.radii[1])) ** 2) + rng.uniform(-8, 8) + 2 * medium
    gape = rng.uniform(2, 15)
    width = gape * (1 - (u / (0.72 * annulus.radii[1])) ** 2).clamp_min(0).sqrt() - 0.6
    inside = canvas.share(width - (v - curve).abs(), 5.0) * canvas.share(-away - 16, 16.0)
    canvas.blend(inside, mixed((0.42, 0.16, 0.15), (0.20, 0.03, 0.03), surgery))
    shade = torch.exp(-((((v - curve).abs() - width).clamp_min(0) / 10) ** 2)) * canvas.share(-away - 15, 20.0)
    canvas.blend(0.35 * shade, wall * 0.55)
    turn = torch.atan2(v - curve, u)
    folds = torch.sin(turn * int(rng.integers(9, 15)) + 1.5 * broad) * canvas.share(-away - 12, 30.0)
    canvas.height += 14 * torch.exp(-((away / 26) ** 2)) + 22 * torch.tanh(away / 90)
    canvas.height += 1.8 * folds - 10 * inside + 4 * broad + mixed(0.5, 1.4, surgery).item() * medium
    canvas.height += mixed(0.03, 0.2, surgery).item() * bumps + mixed(0.0, 0.06, surgery).item() * fine
    canvas.gloss += mixed(0.22, 0.75, surgery).item()
    for _ in range(int(rng.integers(3, 8))):
        start = np.array([annulus.centre[0], annulus.centre[1]]) + rng.normal(0, [6, 55])
        line = bezier(
            [start, start + rng.normal(0, 8, 2), start + rng.normal(0, 14, 2), start + rng.normal(0, 26, 2)], 8
        )
        before = canvas.colour.clone()
        canvas.stroke(line, rng.uniform(0.8, 1.8), leaflet, gloss=0.3)
        canvas.colour = torch.lerp(before, canvas.colour, inside)


def _draw_blood(canvas: Canvas, annulus: Annulus, rng: np.random.Generator, surgery: float) -> None:
    field = canvas.waves(rng, 10, (70, 260)) + 0.25 * canvas.waves(rng, 12, (20, 60))
    away = annulus.distance(canvas.y, canvas.x)
    pool = torch.sigmoid((field - rng.uniform(1.0, 1.9) - (away / 200).clamp_min(0)) / 0.15)
    canvas.blend(surgery * 0.8 * pool, (0.34, 0.03, 0.03))
    canvas.height *= 1 - 0.35 * surgery * pool  # a liquid is flat and shines
    canvas.gloss += 0.5 * surgery * pool


def _thread_colour(rng: np.random.Generator, surgery: float, kind: int) -> list[float]:
    stain = surgery * rng.uniform(0.0, 0.75)
    return np.clip(mixed(_SUTURE[kind], _STAINED[kind], stain) + rng.uniform(-0.03, 0.03), 0, 1).tolist()


def _draw_litter(canvas: Canvas, annulus: Annulus, rng: np.random.Generator, surgery: float) -> None:
    """What looks like a suture and is none: cut ends of thread and needles that lie on the tissue, a retractor."""
    for _ in range(int(rng.integers(0, 4))):
        at = annulus.point(rng.uniform(0, 2 * math.pi), rng.uniform(-40, 60))
        nodes = at + np.cumsum(rng.normal(0, 22, (4, 2)), axis=0)
        colour = _thread_colour(rng, surgery, int(rng.integers(2)))
        canvas.stroke(bezier(nodes, 14), rng.uniform(1.0, 1.5), colour, twist=0.25, shadow=0.35)
    for _ in range(int(rng.integers(0, 3))):
        at = annulus.point(rng.uniform(0, 2 * math.pi), rng.uniform(-30, 70))
        turn, radius = rng.uniform(0, 2 * math.pi), rng.uniform(13, 20)
        angles = turn + np.linspace(0, rng.uniform(2.2, 3.2), 16)
        line = at + radius * np.stack([np.sin(angles), np.cos(angles)], 1)
        canvas.stroke(line, np.linspace(1.5, 0.4, 16), _METAL, gloss=1.0, shadow=0.4)
    if rng.random() < 0.4:
        side = rng.choice([-1.0, 1.0])
        reach = rng.uniform(190, 230)
        edge = np.array([[side * reach, x] for x in np.linspace(-90, 90, 7)])
        edge[:, 0] += side * 30 * (edge[:, 1] / 90) ** 2
        edge[:, 1] += rng.uniform(-120, 120)
        for row in range(5):
            canvas.stroke(edge + np.array([side * 14 * row, 0]), 11.0, _METAL, gloss=0.8, shadow=0.3, rise=0.3)


def _suture_pairs(annulus: Annulus, rng: np.random.Generator) -> list[tuple[float, np.ndarray]]:
    """Mattress sutures one after the other along the annulus: angle, and the two places where the thread enters."""
    count = int(rng.integers(5, 12))
    steps = np.empty(2 * count)
    steps[0::2], steps[1::2] = rng.uniform(25, 50, count), rng.uniform(8, 14, count)
    steps[0] = 0
    angles = annulus.angles(rng.uniform(0, 2 * math.pi), steps)
    lift = rng.normal(0, 2.5, len(angles)) + rng.uniform(-4, 6)
    places = [annulus.point(a, up) for a, up in zip(angles, lift, strict=True)]
    return [(float(angles[i]), np.stack(places[i : i + 2])) for i in range(0, len(angles) - 1, 2)]


def _draw_suture(
    canvas: Canvas, annulus: Annulus, angle: float, pair: np.ndarray, rng: np.random.Generator, surgery: float
) -> None:
    colour = _thread_colour(rng, surgery, int(rng.integers(2)))
    bite = np.linspace(pair[0], pair[1], 5)  # the thread runs below the tissue here and lifts it
    middle = pair.mean(0)
    canvas.spot(middle, 7.0, 0.25, mixed((0.94, 0.70, 0.66), (0.82, 0.55, 0.47), surgery).tolist(), dent=-1.0)
    canvas.spot(bite[int(rng.integers(5))], rng.uniform(5, 12), surgery * rng.uniform(0, 0.9), (0.42, 0.03, 0.03))
    for place in pair:
        canvas.spot(
            place,
            3.6,
            rng.uniform(0.55, 0.8),
            mixed((0.42, 0.14, 0.14), (0.22, 0.03, 0.03), surgery).tolist(),
            dent=1.6,
        )
    away = annulus.outwards(angle)
    side = np.array([away[1], -away[0]])
    if rng.random() < 0.12:
        away = -away  # over the valve
    aim = middle + 430 * away + rng.normal(0, 150) * side
    lean = rng.normal(0, 0.45)
    radius = rng.uniform(1.0, 1.5)
    for place in pair:
        first = place + rng.uniform(30, 80) * (away + (lean + rng.normal(0, 0.25)) * side)
        second = middle + rng.uniform(110, 200) * away + rng.normal(0, 45) * side
        line = bezier([place, first, second, aim + rng.normal(0, 18, 2)], 22)
        canvas.stroke(line, radius, colour, twist=0.28, shadow=0.4)
