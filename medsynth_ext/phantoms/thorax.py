"""The chest around the heart phantom: wall, bones, lungs with vessels, airways, great vessels, liver and stomach.

Millimetres of an average adult, x to the right, y forward, z up; the origin is the centre of the heart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from medsynth_ext.phantoms.painter import Painter
from medsynth_ext.phantoms.shapes import Waves, ellipsoid_depth

__all__ = ["SPINE_X", "SPINE_Y", "Thorax", "superellipse_depth"]

SPINE_X, SPINE_Y = 12.0, -82.0
CAVITY_TOP, CAVITY_MIDDLE = 175.0, -45.0


def _lung_finder(painter: Painter, lungs: Tensor) -> Callable[[np.ndarray], bool]:
    """Tells whether a place (mm of the average person) is lung, by the nearest voxel of a drawn chest.

    Args:
        painter: of that chest.
        lungs: share of every voxel.
    """
    mask = lungs > 0.5

    def inside(place: np.ndarray) -> bool:
        index = [round((float(p) - float(a[0])) / painter.voxel_mm) for p, a in zip(place, painter.axes, strict=True)]
        index = [min(max(i, 0), n - 1) for i, n in zip(index, mask.shape, strict=True)]
        return bool(mask[index[0], index[1], index[2]])

    return inside


class Thorax:
    """One chest, drawn from ``rng``; ``paint`` draws it, the heart comes on top.

    Args:
        rng: the source of all offsets.
        landmarks: places of the heart in mm to which vessels run: ``aorta``, ``pulmonary``, ``cava_superior``,
            ``cava_inferior``, ``vein_left``, ``vein_right``.
    """

    cavity = (12.0, -17.0, 137.0, 85.0)  # centre and semi-axes, across and front to back
    rib_fall_mm = 62.0  # from beside the spine to the front

    def __init__(self, rng: np.random.Generator, landmarks: Mapping[str, Sequence[float]]) -> None:
        self.landmarks = {name: tuple(float(v) for v in place) for name, place in landmarks.items()}
        self.centre = (12.0 + rng.normal(0, 2), -24.0 + rng.normal(0, 2))
        self.fat = rng.uniform(7, 18)
        self.width, self.depth = 154.0 + 0.7 * self.fat + rng.normal(0, 3), 102.0 + 0.7 * self.fat + rng.normal(0, 2)
        self.domes = (-16.0 + rng.normal(0, 6), -32.0 + rng.normal(0, 6))
        self.disc_phase = rng.uniform(0, 27)
        self.rib_phase = rng.uniform(0, 26)
        self.calcium = rng.uniform(0.8, 1.15)
        self.wall_waves = Waves.draw(rng, 10, (25.0, 80.0))
        self.streak_waves = Waves.draw(rng, 14, (12.0, 45.0))
        self.lung_waves = Waves.draw(rng, 12, (8.0, 70.0))
        self.organ_waves = Waves.draw(rng, 12, (12.0, 70.0))
        self.tube_rng_state = rng.integers(2**62, size=2)
        self.stomach = (-62.0 + rng.normal(0, 5), 5.0 + rng.normal(0, 6), self.domes[1] - 26.0)
        self.bubble = rng.uniform(4, 20)

    def paint(
        self,
        painter: Painter,
        heart: Tensor,  # (D, H, W) share of the heart and its fat
    ) -> Tensor:  # (D, H, W)
        """Draw the chest; lungs leave out ``heart``. Returns the share of the lungs."""
        x, y, z = painter.points
        cavity = self._wall(painter, x, y, z)
        lungs = self._lungs(painter, x, y, z, cavity, heart)
        self._abdomen(painter, x, y, z, cavity)
        painter.blend(lungs, painter.table["lung"] * (1 + painter.table["lung_texture"] * self._lung_grain(x, y, z)))
        self._lung_vessels(painter, lungs)
        self._spine(painter)
        self._ribs(painter)
        self._mediastinum(painter)
        return lungs

    def _wall(self, painter: Painter, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """Skin, fat, muscle; returns the depth in the cavity."""
        u, v = x - self.centre[0], y - self.centre[1]
        body = superellipse_depth(u, v, self.width, self.depth, 2.35)
        painter.lay(body, "skin")
        painter.lay(body - 2.0, "fat")
        back = (-v / self.depth).clamp(0, 1)
        rim = self.fat * (1 - 0.35 * back) + 2.0 * self.wall_waves.value(x, y, z)
        painter.lay(body - 2.0 - rim.clamp_min(3.0), "muscle")
        cavity = self._cavity_depth(x, y, z)
        # Fat between the muscles of the wall, along sheets that run around the chest.
        streaks = self.streak_waves.value(x, y, z * 0.4)
        between = torch.minimum(streaks - 1.0, torch.minimum(-cavity - 5.0, body - rim - 6.0))
        painter.lay(between * 4, "fat", soft_mm=3.0)
        painter.lay(cavity + 1.5, "muscle")
        painter.lay(cavity, "mediastinal_fat")
        return cavity

    def _cavity_depth(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        taper = ((z - CAVITY_MIDDLE) / (CAVITY_TOP - CAVITY_MIDDLE)).clamp(0, 0.97)
        taper = (1 - taper * taper).sqrt_()
        across, along, a, b = self.cavity
        return superellipse_depth(x - across, y - along, a * taper, b * taper**0.6, 2.3)

    def _diaphragm(self, x: Tensor, y: Tensor) -> Tensor:
        """Height of the diaphragm."""
        right = self.domes[0] - 0.0045 * (x - 62) ** 2 - 0.007 * (y + 4) ** 2
        left = self.domes[1] - 0.006 * (x + 55) ** 2 - 0.007 * (y + 4) ** 2
        return torch.maximum(torch.maximum(right, left), torch.full_like(x, -140.0))

    def _lungs(self, painter: Painter, x: Tensor, y: Tensor, z: Tensor, cavity: Tensor, heart: Tensor) -> Tensor:
        off = (x - SPINE_X).abs()
        high = ((z - 20) / 50).clamp(0, 1)
        half = 12 + 16 * torch.exp(-(((y + 22) / 38) ** 2)) * (0.5 + 0.5 * high)
        half = half + 2.5 * self.wall_waves.value(x, y, z)
        half = torch.where(y > 15, half * (1 - 0.65 * ((y - 15) / 45).clamp(0, 1)), half)
        spine = ellipsoid_depth(x, y, z, centre=(SPINE_X, SPINE_Y - 4, 0), radii=(26.0, 27.0, 1e4))
        depth = torch.minimum(cavity - 2.0, off - half)
        depth = torch.minimum(depth, -spine)
        depth = torch.minimum(depth, (z - self._diaphragm(x, y)) * 0.8)
        return (depth / painter.voxel_mm + 0.5).clamp_(0, 1) * (1 - heart)

    def _lung_grain(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        return 0.35 * self.lung_waves.value(x, y, z) + ((y + 20) / 90)

    def _abdomen(self, painter: Painter, x: Tensor, y: Tensor, z: Tensor, cavity: Tensor) -> None:
        below = torch.minimum(cavity - 3.0, (self._diaphragm(x, y) - 3.0 - z) * 0.8)
        if float(below.max()) < -painter.voxel_mm:
            return
        grain = 1 + painter.table["organ_texture"] * self.organ_waves.value(x, y, z)
        edge = 4 * self.wall_waves.value(x, y, z)
        liver = torch.minimum(below, ((x + 42) * 0.7 + (y + 10) * 0.3 + 0.15 * (z + 60)) + edge)
        liver = torch.minimum(liver, y + 96 - 0.2 * (x - 12))
        painter.lay(liver, painter.table["liver"] * grain)
        centre = (-84.0, -56.0, self.domes[1] - 36)
        spleen = ellipsoid_depth(x, y, z, centre=centre, radii=(30.0, 36.0, 40.0), yaw_deg=25)
        painter.lay(torch.minimum(below, spleen), painter.table["spleen"] * grain)
        sx, sy, sz = self.stomach
        stomach = ellipsoid_depth(x, y, z, centre=(sx, sy, sz), radii=(40.0, 36.0, 34.0), yaw_deg=-20)
        stomach = torch.minimum(below, stomach)
        painter.lay(stomach, "muscle")
        painter.lay(stomach - 4, "stomach")
        painter.lay(torch.minimum(stomach - 4, y - sy - 30 + self.bubble), "air")
        for side in (-14, 14):  # crura
            start, end = (SPINE_X + side, SPINE_Y + 18, -70, 6.0), (SPINE_X + side, SPINE_Y + 16, -170, 9.0)
            painter.tube([start, end], "muscle")

    def _lung_vessels(self, painter: Painter, lungs: Tensor) -> None:
        inside = _lung_finder(painter, lungs)
        rng = np.random.default_rng(self.tube_rng_state[0])
        for side, hilum in ((1, (48.0, -36.0, 34.0)), (-1, (-34.0, -40.0, 38.0))):
            for tree, value in ((0, "blood_right"), (1, "blood_left")):
                place = np.array(hilum) + rng.normal(0, 3, 3) + np.array([0.0, 5.0 if tree else -3.0, -12.0 * tree])
                for k, direction in enumerate(_fan(side, rng, 6)):
                    root = 2 * (side + 1) + tree + 8 * k
                    self._branch(painter, inside, root, place, direction, rng.uniform(4.5, 6.0), value, 0)

    def _branch(
        self,
        painter: Painter,
        inside: Callable[[np.ndarray], bool],
        number: int,
        start: np.ndarray,
        direction: np.ndarray,
        radius: float,
        value: str,
        depth: int,
    ) -> None:
        # Every branch has random numbers of its own: one that leaves the lung does not change the others.
        rng = np.random.default_rng([int(self.tube_rng_state[0]), number, depth])
        length = (20.0 if depth == 0 else 8.0 + 3.2 * radius) * rng.uniform(0.75, 1.3)
        bent = direction + rng.normal(0, 0.12, 3)
        middle = start + 0.5 * length * direction
        end = middle + 0.5 * length * bent / np.linalg.norm(bent)
        thin = 0.85 * radius
        nodes = [(*start, radius), (*middle, (radius + thin) / 2), (*end, thin)]
        if depth > 1 and not inside(end):
            return
        painter.tube(nodes, value)
        if thin < max(0.75, 0.25 * painter.voxel_mm) or depth > 6:
            return
        share = rng.uniform(0.55, 0.85)
        turn = rng.normal(0, 1, 3)
        turn -= turn @ bent * bent
        turn /= np.linalg.norm(turn)
        for side, part in enumerate((share, 1.36 - share)):
            aim = bent + (1 - 2 * side) * turn * rng.uniform(0.3, 0.6) * (1.6 - part)
            aim /= np.linalg.norm(aim)
            self._branch(painter, inside, 2 * number + 64 + side, end, aim, thin * part, value, depth + 1)

    def _spine(self, painter: Painter) -> None:
        region = painter.box((SPINE_X - 30, SPINE_Y - 32, -1e4), (SPINE_X + 30, SPINE_Y + 24, 1e4))
        if region is None:
            return
        x, y, z = (p[region] for p in painter.points)
        u, v = x - SPINE_X, y - SPINE_Y
        phase = (z + self.disc_phase) % 27.0
        disc = torch.minimum(phase, 27 - phase)  # mm from the middle of the disc
        waist = 1 + 0.10 * ((6 - disc) / 6).clamp(0, 1)
        body = superellipse_depth(u, v, 17.5 * waist, 14.5 * waist, 2.3)
        ring = superellipse_depth(u, v + 21.0, torch.full_like(u, 16.0), torch.full_like(u, 11.5), 2.0)
        lamina = torch.minimum(ring, 13.5 - (phase - 12).abs())
        painter.lay(lamina, painter.table["bone"] * self.calcium, region=region)
        painter.lay(lamina - 2.5, "marrow", region=region)
        painter.lay(body, painter.table["bone"] * 0.75 * self.calcium, region=region)
        painter.lay(body - 1.6, "marrow", region=region)
        painter.lay(torch.minimum(body - 0.3, 4.6 - disc), painter.table["bone"] * 0.75 * self.calcium, region=region)
        painter.lay(torch.minimum(body - 0.3, 3.2 - disc), "disc", region=region)
        canal = superellipse_depth(u, v + 21.5, torch.full_like(u, 9.5), torch.full_like(u, 8.0), 2.0)
        painter.lay(canal, "mediastinal_fat", region=region)
        painter.lay(canal - 1.5, "fluid", region=region)
        painter.lay(canal - 3.6, "cord", region=region)
        bone, start = painter.table["bone"] * self.calcium, 13.5 - self.disc_phase
        for k in range(-8, 9):
            height = start + 27.0 * k
            tip = (SPINE_X, SPINE_Y - 46.0, height - 16, 3.0)
            painter.tube([(SPINE_X, SPINE_Y - 32.0, height, 4.5), tip], bone, core="marrow", shell_mm=2.0)
            for side in (-1, 1):
                wing = (SPINE_X + side * 32, SPINE_Y - 32.0, height + 5, 4.5)
                root = (SPINE_X + side * 13, SPINE_Y - 22.0, height + 3, 5.0)
                painter.tube([root, wing], bone, core="marrow", shell_mm=2.0)

    def _ribs(self, painter: Painter) -> None:
        rng = np.random.default_rng(self.tube_rng_state[1])
        bone = painter.table["bone"] * self.calcium
        for k in range(-6, 9):
            for side in (-1, 1):
                high = self.rib_phase + 26.0 * k + rng.normal(0, 1.5)
                radius = rng.uniform(4.2, 5.2)
                nodes: list[tuple[float, ...]] = []
                cartilage: list[tuple[float, ...]] = []
                for step in np.linspace(0, 1, 15):
                    angle = math.radians(-90 + 14 + 158 * step)  # from beside the spine to the front
                    fallen = self.rib_fall_mm * math.sin(min(step * 1.15, 1.0) * math.pi / 2)
                    z = high - fallen + 30 * max(step - 0.8, 0) / 0.2
                    taper = float(np.clip((z - CAVITY_MIDDLE) / (CAVITY_TOP - CAVITY_MIDDLE), 0, 0.97))
                    taper = math.sqrt(1 - taper * taper)
                    a, b = self.cavity[2] * taper + 6.0, self.cavity[3] * taper**0.6 + 6.0
                    c, s = math.cos(angle), math.sin(angle)
                    far = (abs(c) ** 2.3 + abs(s) ** 2.3) ** (-1 / 2.3)
                    node = (self.cavity[0] + side * a * c * far, self.cavity[1] + b * s * far, z, radius)
                    (nodes if step < 0.8 else cartilage).append(node)
                painter.tube(nodes, bone, core="marrow", shell_mm=1.6)
                painter.tube([nodes[-1], *cartilage], "cartilage")
        self._sternum(painter, bone)

    def _sternum(self, painter: Painter, bone: float) -> None:
        front = self.cavity[1] + self.cavity[3]
        region = painter.box((SPINE_X - 24, front - 40, -38.0), (SPINE_X + 24, front + 16, 1e4))
        if region is None:
            return
        x, y, z = (p[region] for p in painter.points)
        taper = ((z - CAVITY_MIDDLE) / (CAVITY_TOP - CAVITY_MIDDLE)).clamp(0, 0.97)
        middle = self.cavity[1] + self.cavity[3] * (1 - taper * taper).sqrt() ** 0.6 + 6.0
        width = 14.0 + 10.0 * ((z - 80) / 40).clamp(0, 1)
        plate = torch.minimum(superellipse_depth(x - SPINE_X, y - middle, width, 6.0, 3.0), z + 34.0)
        painter.lay(plate, 0.8 * bone, region=region)
        painter.lay(plate - 1.5, "marrow", region=region)

    def _mediastinum(self, painter: Painter) -> None:
        place = self.landmarks
        tracheal = [(10.0, -44.0, 170.0, 9.5), (11.0, -46.0, 110.0, 9.5), (10.0, -50.0, 74.0, 9.5)]
        bronchi = [
            [(10.0, -50.0, 74.0, 8.0), (30.0, -50.0, 54.0, 7.0), (48.0, -46.0, 42.0, 6.0)],
            [(10.0, -50.0, 74.0, 7.5), (-14.0, -52.0, 56.0, 6.5), (-34.0, -48.0, 46.0, 5.5)],
        ]
        gullet = [
            (6.0, -58.0, 170.0, 7.5),
            (2.0, -60.0, 60.0, 7.5),
            (0.0, -62.0, -10.0, 7.5),
            (-14.0, -54.0, -90.0, 8.0),
        ]
        painter.tube(gullet, "muscle")
        ax, ay, az = place["aorta"]
        arch = [(ax, ay, az, 13.5), (ax - 5, ay - 8, az + 16, 13.0), (ax - 16, ay - 32, az + 20, 12.5)]
        arch += [(ax - 27, ay - 56, az + 8, 12.5), (-20.0, -66.0, az - 18, 12.0), (-17.0, -69.0, 0.0, 11.5)]
        arch += [(-10.0, -62.0, -110.0, 11.0), (-2.0, -60.0, -180.0, 10.5)]
        px, py, pz = place["pulmonary"]
        right = [
            (px, py, pz, 11.0),
            (px + 18, py - 18, pz - 5, 10.0),
            (34.0, -32.0, 46.0, 9.0),
            (50.0, -34.0, 38.0, 7.0),
        ]
        painter.tube(right, "blood_right")
        left = [(px, py, pz, 11.0), (px - 4, py - 22, pz - 2, 9.5), (-38.0, -40.0, 44.0, 8.0)]
        painter.tube(left, "blood_right")
        for name, hilum in (("vein_right", (52.0, -36.0, 18.0)), ("vein_left", (-40.0, -44.0, 20.0))):
            painter.tube([(*place[name], 7.0), (*hilum, 5.5)], "blood_left")
        cx, cy, cz = place["cava_superior"]
        painter.tube([(cx, cy, cz - 4, 9.5), (36.0, -4.0, cz + 40, 9.0), (30.0, -2.0, 130.0, 9.0)], "cava")
        ix, iy, iz = place["cava_inferior"]
        lower = [(ix, iy, iz + 4, 11.0), (ix - 4, iy - 8, iz - 30, 12.0), (26.0, -40.0, -170.0, 12.0)]
        painter.tube(lower, "blood_mixed")
        azygos = [(SPINE_X + 14, SPINE_Y + 20, 60.0, 4.0), (SPINE_X + 10, SPINE_Y + 19, -150.0, 4.0)]
        painter.tube(azygos, "blood_mixed")
        painter.tube(arch, "blood_left")
        for tube in (tracheal, *bronchi):
            painter.tube(tube, "muscle", core="air", shell_mm=1.5)


def superellipse_depth(u: Tensor, v: Tensor, a: float | Tensor, b: float | Tensor, power: float) -> Tensor:
    """Depth below the surface of the cylinder ``|u / a|^power + |v / b|^power = 1``."""
    s, t = (u / a).abs().clamp_min(1e-6), (v / b).abs().clamp_min(1e-6)
    norm = (s**power + t**power) ** (1 / power)
    slope = ((s ** (power - 1) / a) ** 2 + (t ** (power - 1) / b) ** 2).sqrt() * norm ** (1 - power)
    return (1 - norm) / slope


def _fan(side: int, rng: np.random.Generator, count: int) -> list[np.ndarray]:
    """Directions into one lung."""
    out = []
    for k in range(count):
        height = -0.85 + 1.7 * (k + rng.uniform(0.2, 0.8)) / count
        flat = math.sqrt(1 - height * height)
        forward = rng.uniform(-1.1, 1.2)
        out.append(np.array([side * flat * math.cos(forward), flat * math.sin(forward), height]))
    return out
