"""A moving camera over a drawn valve: perspective, light, instruments, smoke, blur and noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medsynth_ext import ops
from medsynth_ext.phantoms.endoscopy_canvas import stroke_distance
from medsynth_ext.phantoms.endoscopy_scene import STAGES, Scene, mixed
from medsynth_ext.phantoms.shapes import Waves

__all__ = ["View"]

_CREAM = (0.93, 0.90, 0.82)


@dataclass(frozen=True)
class _Drift:
    """Slow movements: every column a sum of two sines of the frame's number, within -1 to 1."""

    frequency: np.ndarray  # (2, N) radians a frame
    phase: np.ndarray  # (2, N)

    @classmethod
    def draw(cls, rng: np.random.Generator, count: int, period: tuple[float, float]) -> _Drift:
        return cls(2 * math.pi / rng.uniform(*period, (2, count)), rng.uniform(0, 2 * math.pi, (2, count)))

    def at(self, frame: int) -> np.ndarray:  # (N,)
        return np.asarray(np.sin(self.frequency * frame + self.phase).sum(0) / 2)


class View:
    """The camera of one recording; :meth:`frame` takes pictures.

    Args:
        scene: what it looks at.
        rng: what its path and instruments are drawn from; the same numbers whatever ``surgery``.
        camera: what light, colours, blur, noise and vignetting are drawn from; ``rng`` when ``None``.
        surgery: 0 for a simulator's look, 1 for a patient's.
        size: rows and columns of the pictures.
    """

    def __init__(
        self,
        scene: Scene,
        rng: np.random.Generator,
        *,
        surgery: float,
        size: tuple[int, int],
        camera: np.random.Generator | None = None,
    ) -> None:
        camera = rng if camera is None else camera
        self.scene, self.surgery, self.size = scene, surgery, size
        self.scale = size[1] / 512
        rows, columns = (torch.arange(n) - (n - 1) / 2 for n in size)
        self.y = (rows / self.scale)[:, None].expand(size)  # reference pixels from the middle
        self.x = (columns / self.scale)[None].expand(size)
        self.path = _Drift.draw(rng, 6, (70, 220))
        self.zoom, self.roll = rng.uniform(0.92, 1.12), rng.uniform(-0.12, 0.12)
        self.exposure = mixed(1.0, camera.uniform(0.75, 1.0), surgery).item() * camera.uniform(0.95, 1.05)
        self.balance = torch.from_numpy(
            mixed(camera.uniform(0.98, 1.02, 3), camera.uniform(0.92, 1.1, 3), surgery)
        ).float()
        self.lamp = camera.uniform(-50, 50, 2)
        self.blur = mixed(0.35, camera.uniform(0.6, 1.4), surgery).item()
        self.noise = mixed(0.006, camera.uniform(0.012, 0.03), surgery).item()
        self.smoke_waves = Waves.draw(rng, 7, (90, 400))
        self.smoke = surgery * (rng.uniform(0.15, 0.5) if rng.random() < 0.5 else 0.0)
        edge = camera.uniform(0.75, 1.05)
        corner = torch.hypot(self.y / 288, self.x / 288)
        self.vignette = 1 - surgery * torch.sigmoid((corner - edge) / 0.06) * camera.uniform(0.5, 1.0)
        self.tools = [_Tool.draw(rng) for _ in range(int(rng.integers(0, 3)))]
        self.ring = _Ring.draw(rng) if rng.random() < 0.35 else None

    def frame(
        self, number: int, stage: int, rng: np.random.Generator
    ) -> tuple[Tensor, np.ndarray]:  # (3, H, W) in [0, 1], (K, 2)
        """A picture and the sutures that show in it, as ``(y, x)`` pixels.

        Args:
            number: of the frame; the camera moves slowly with it.
            stage: of the scene.
            rng: of this frame's noise.
        """
        matrix = self._matrix(number)
        y, x = _projected(matrix, self.y, self.x)
        picture = self._lit(y, x, matrix, self.scene.stages[stage])
        hidden = torch.zeros(self.size)
        if self.ring is not None and stage == STAGES - 1:
            share, paint = self.ring.paint(y, x, self.scene, number)
            picture, hidden = torch.lerp(picture, paint, share), torch.maximum(hidden, share)
        for tool in self.tools:
            share, paint = tool.paint(self.y, self.x, number, self.scale)
            picture, hidden = torch.lerp(picture, paint, share), torch.maximum(hidden, share)
        places = self._places(self.scene.points[stage], matrix, hidden)
        if self.smoke:
            density = self.smoke_waves.value(self.x + 2.5 * number, self.y - 1.5 * number, torch.zeros_like(self.x))
            haze = self.smoke * torch.sigmoid(1.5 * density)
            picture = torch.lerp(picture, torch.full_like(picture, 0.78), haze)
        picture = picture * self.exposure * self.vignette * self.balance[:, None, None]
        wobble = self.blur * self.scale * (1 + 0.5 * self.path.at(number)[5])
        picture = ops.gaussian_blur(picture[None], wobble)[0] if wobble > 0.1 else picture
        grain = torch.from_numpy(rng.standard_normal((3, *self.size), dtype=np.float32))
        return (picture + self.noise * grain).clamp_(0, 1), places

    def _matrix(self, number: int) -> np.ndarray:  # (3, 3), pictures (y, x, 1) to the canvas
        move = self.path.at(number)
        turn, zoom = self.roll + 0.16 * move[2], 1 / (self.zoom * (1 + 0.14 * move[3]))
        c, s = zoom * math.cos(turn), zoom * math.sin(turn)
        lean = 2.5e-4 * move[[4, 5]]
        return np.array([[c, -s, 42 * move[0]], [s, c, 60 * move[1]], [lean[0], lean[1], 1.0]])

    def _places(self, points: np.ndarray, matrix: np.ndarray, hidden: Tensor) -> np.ndarray:
        back = np.linalg.inv(matrix) @ np.concatenate([points, np.ones((len(points), 1))], 1).T
        middle = (np.asarray(self.size)[:, None] - 1) / 2
        places = (back[:2] / back[2] * self.scale + middle).T  # (K, 2)
        inside = ((places >= 0) & (places <= np.asarray(self.size) - 1)).all(1)
        places = places[inside]
        row, column = np.rint(places).astype(int).T
        return np.asarray(places[(hidden[row, column] < 0.5).numpy()])

    def _lit(self, y: Tensor, x: Tensor, matrix: np.ndarray, planes: Tensor) -> Tensor:  # (3, H, W)
        grid = torch.stack([x / self.scene.half[1], y / self.scene.half[0]], -1)
        seen = torch.nn.functional.grid_sample(planes[None], grid[None], align_corners=True, padding_mode="border")[0]
        colour, slope_y, slope_x, gloss = seen[:3], seen[3], seen[4], seen[5]
        eye_y, eye_x = float(matrix[0, 2]), float(matrix[1, 2])
        far = 340.0
        ly, lx = eye_y + float(self.lamp[0]) - y, eye_x + float(self.lamp[1]) - x
        length = (ly**2 + lx**2 + far**2).sqrt()
        unit = (1 + slope_y**2 + slope_x**2).rsqrt()
        diffuse = ((far - slope_y * ly - slope_x * lx) * unit / length).clamp_min(0)
        vy, vx = eye_y - y, eye_x - x
        view = (vy**2 + vx**2 + far**2).sqrt()
        hy, hx, hz = ly / length + vy / view, lx / length + vx / view, far / length + far / view
        facing = ((hz - slope_y * hy - slope_x * hx) * unit / (hy**2 + hx**2 + hz**2).sqrt()).clamp(0, 1)
        sharp = mixed(50.0, 170.0, self.surgery).item()
        fall = (far / length) ** mixed(0.5, 1.7, self.surgery).item()
        ambient = mixed(0.45, 0.22, self.surgery).item()
        shine = mixed(0.35, 1.0, self.surgery).item() * gloss * facing**sharp * fall
        return colour * (ambient + (1.12 - ambient) * diffuse * fall) + shine


def _projected(matrix: np.ndarray, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    (a, b, c), (d, e, f), (g, h, i) = matrix.tolist()
    depth = g * y + h * x + i
    return (a * y + b * x + c) / depth, (d * y + e * x + f) / depth


@dataclass(frozen=True)
class _Tool:
    """Forceps or a needle holder that comes in from the border for some time."""

    angle: float
    drift: _Drift
    period: float
    phase: float
    thick: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> _Tool:
        return cls(
            rng.uniform(0, 2 * math.pi),
            _Drift.draw(rng, 4, (25, 90)),
            rng.uniform(60, 160),
            rng.uniform(0, 2 * math.pi),
            rng.uniform(6, 10),
        )

    def paint(self, y: Tensor, x: Tensor, number: int, scale: float) -> tuple[Tensor, Tensor]:
        move = self.drift.at(number)
        out = 1.0 + 1.1 * math.sin(2 * math.pi * number / self.period + self.phase)  # above 1 it is out of view
        angle = self.angle + 0.2 * move[0]
        away = np.array([0.62 * math.sin(angle), math.cos(angle)])
        tip = away * (60 + 220 * max(out, 0.0)) + 30 * move[1:3]
        joint, side = tip + 34 * away / np.linalg.norm(away), np.array([-away[1], away[0]])
        depth, along = stroke_distance(y, x, np.stack([joint, joint + 700 * away]), np.full(2, self.thick))
        opening = 4 + 5 * (1 + move[3])
        for sign in (-1, 1):
            bend = (joint + tip) / 2 + sign * opening * side
            jaw, _ = stroke_distance(
                y, x, np.stack([joint, bend, tip + 0.3 * sign * opening * side]), np.array([self.thick * 0.6, 3.4, 1.6])
            )
            depth = torch.maximum(depth, jaw)
        share = (depth * scale + 0.5).clamp(0, 1)
        roundness = (depth / self.thick).clamp(0, 1)
        streak = torch.exp(-(((roundness - 0.75) / 0.12) ** 2))
        grey = 0.22 + 0.45 * roundness + 0.5 * streak + 0.02 * torch.sin(along * 0.8)
        return share, grey * torch.tensor([0.97, 0.99, 1.0])[:, None, None]


@dataclass(frozen=True)
class _Ring:
    """A prosthetic ring that is lowered towards the annulus."""

    offset: np.ndarray
    size: float
    drift: _Drift

    @classmethod
    def draw(cls, rng: np.random.Generator) -> _Ring:
        return cls(rng.uniform(-30, 30, 2), rng.uniform(0.6, 0.82), _Drift.draw(rng, 2, (40, 120)))

    def paint(self, y: Tensor, x: Tensor, scene: Scene, number: int) -> tuple[Tensor, Tensor]:
        annulus = scene.annulus
        cy, cx = np.asarray(annulus.centre) + self.offset + 16 * self.drift.at(number)
        yy = (y - cy) / self.size + annulus.centre[0]
        xx = (x - cx) / self.size + annulus.centre[1]
        depth = 8.5 - annulus.distance(yy, xx).abs() * self.size
        share = (depth / 1.2 + 0.5).clamp(0, 1)
        roundness = (depth / 8.5).clamp(0, 1)
        weave = 0.05 * torch.sin(torch.atan2(yy - annulus.centre[0], xx - annulus.centre[1]) * 150)
        light = 0.5 + 0.5 * roundness.sqrt() + weave
        return share, light * torch.tensor(_CREAM)[:, None, None]
