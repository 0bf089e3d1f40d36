"""The tissues of a male pelvis in axial slices: body wall, muscles, hips, bladder, prostate, rectum with gas.

Millimetres of an average adult, x to the patient's left, y to the back, z up; the origin is midway between the hips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from medsynth_ext.phantoms.shapes import ellipsoid_depth, flow_displacement, interpolation_matrix, tube_depth

__all__ = ["TISSUES", "PelvisAnatomy", "draw_pelvis_anatomy"]

TISSUES = (
    "air",
    "fat",
    "muscle",
    "spongy",
    "compact",
    "bladder",
    "prostate",
    "rectum",
    "gas",
    "vesicles",
    "vessel",
)
_LATTICE_MM = 30.0
_MARGIN_MM = 18.0  # more than the flow moves anything
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class PelvisAnatomy:
    """Tissues of one patient on a stack of axial slices, rows from front to back, columns from right to left.

    Args:
        tissues: (S, M, M) uint8, places in ``TISSUES``.
        half_depth_mm: from the middle of the body to its back.
        gas_pockets: number that were drawn in the rectum; the slices may miss some.
    """

    tissues: Tensor
    half_depth_mm: float
    gas_pockets: int


class _Canvas:
    """Draws shapes of tissue, the later over the earlier, inside of a flowing patient."""

    def __init__(self, axes: Sequence[Tensor], rng: np.random.Generator, flow_mm: float, size: float) -> None:
        z, y, x = (axis / size for axis in axes)
        self.axes = (z, y, x)
        shape = (len(z), len(y), len(x))
        self.tissues = torch.zeros(shape, dtype=torch.uint8)
        nodes = [
            torch.arange(float(a[0]) - _LATTICE_MM, float(a[-1]) + 2 * _LATTICE_MM, _LATTICE_MM) for a in self.axes
        ]
        grid = torch.cartesian_prod(*nodes)
        bend = flow_displacement(rng, grid, strength_mm=flow_mm, wavelength_mm=(110.0, 260.0))
        field = bend.T.reshape(3, *(len(n) for n in nodes))
        for k, (node, axis) in enumerate(zip(nodes, self.axes, strict=True), 1):
            field = torch.movedim(torch.tensordot(interpolation_matrix(node, axis), field, dims=([1], [k])), 0, k)
        views = (z[:, None, None], y[:, None], x)
        self.z, self.y, self.x = (view.expand(shape) + part for view, part in zip(views, field, strict=True))

    def _box(self, low: Triple, high: Triple) -> tuple[slice, ...] | None:  # corners as x, y, z
        out = []
        for axis, a, b in zip(self.axes, low[::-1], high[::-1], strict=True):
            inside = ((axis >= a - _MARGIN_MM) & (axis <= b + _MARGIN_MM)).nonzero()
            if not len(inside):
                return None
            out.append(slice(int(inside[0]), int(inside[-1]) + 1))
        return tuple(out)

    def fill(self, depth: Tensor, tissue: str, region: tuple[slice, ...] = (), *, only: Sequence[str] = ()) -> None:
        """Put tissue where depth is positive; with ``only`` just in place of these tissues."""
        part, inside = self.tissues[region], depth > 0
        if only:
            inside = inside & torch.isin(part, torch.tensor([TISSUES.index(name) for name in only], dtype=torch.uint8))
        part[inside] = TISSUES.index(tissue)

    def ellipsoid(
        self, centre: Triple, radii: Triple, tissue: str, *, yaw_deg: float = 0.0, only: Sequence[str] = ()
    ) -> None:
        reach = max(radii[:2])
        low = (centre[0] - reach, centre[1] - reach, centre[2] - radii[2])
        region = self._box(low, (centre[0] + reach, centre[1] + reach, centre[2] + radii[2]))
        if region is not None:
            x, y, z = (p[region] for p in (self.x, self.y, self.z))
            self.fill(ellipsoid_depth(x, y, z, centre=centre, radii=radii, yaw_deg=yaw_deg), tissue, region, only=only)

    def tube(self, nodes: Sequence[Sequence[float]], tissue: str, *, less_mm: float = 0.0) -> None:
        """A chain of round cones (rows x, y, z, radius), ``less_mm`` thinner."""
        for a, b in pairwise(nodes):
            radius = max(a[3], b[3])
            low, high = (
                tuple(choose(p, q) + side * radius for p, q in zip(a[:3], b[:3], strict=True))
                for choose, side in ((min, -1), (max, 1))
            )
            region = self._box(low, high)  # type: ignore[arg-type]
            if region is not None:
                x, y, z = (p[region] for p in (self.x, self.y, self.z))
                self.fill(tube_depth(x, y, z, nodes=[a, b]) - less_mm, tissue, region)


def draw_pelvis_anatomy(seed: int, axes: Sequence[Tensor]) -> PelvisAnatomy:
    """Draw a patient.

    Args:
        seed: addresses the patient.
        axes: millimetres of slices (z), rows (y) and columns (x).
    """
    rng = np.random.default_rng([seed, 707])
    size = rng.uniform(0.93, 1.07)
    canvas = _Canvas(axes, rng, 3.0, size)
    half_width, half_depth = rng.uniform(168, 188), rng.uniform(98, 118)
    side, front, back = rng.uniform(10, 26), rng.uniform(12, 30), rng.uniform(12, 28)
    _body(canvas, half_width, half_depth, (side, front, back))
    _muscles(canvas, rng, half_width - side, half_depth, (front, back))
    for sign in (-1, 1):
        _hip(canvas, rng, sign)
    _sacrum(canvas, rng)
    pockets = _organs(canvas, rng)
    return PelvisAnatomy(canvas.tissues, half_depth * size, pockets)


def _body(canvas: _Canvas, half_width: float, half_depth: float, fat: Triple) -> None:
    side, front, back = fat
    x, y = canvas.x, canvas.y
    # Wider at the trochanters, narrower at the waist.
    width = half_width * (1 - 0.06 * ((canvas.z + 20) / 60) ** 2)
    canvas.fill(1 - (x / width).abs() ** 2.5 - (y / half_depth).abs() ** 2.5, "fat")
    middle = (back - front) / 2
    inner = ((y + middle) / (half_depth - (front + back) / 2)).abs() ** 2.5
    canvas.fill(1 - (x / (width - side)).abs() ** 2.5 - inner, "muscle")


def _muscles(
    canvas: _Canvas, rng: np.random.Generator, inner_width: float, half_depth: float, fat: tuple[float, float]
) -> None:
    """Fat between the muscles, then the muscles one by one, and the femoral vessels."""
    front, back = fat
    septum = rng.uniform(2.5, 5.0)
    inside = ("muscle",)
    canvas.ellipsoid((0, -4, 5), (inner_width - 6, half_depth - max(front, back) - 4, 110), "fat", only=inside)
    for s in (-1, 1):
        for x, y, z, rx, ry, rz, yaw in (
            (78, half_depth - back - 30, -5, 62, 28, 95, 14),  # gluteus maximus
            (inner_width - 26, 2, 30, 20, 46, 62, -8),  # gluteus medius
            (112, -12, 35, 17, 34, 45, -10),  # gluteus minimus
            (80, -46, 15, 24, 20, 120, 0),  # iliopsoas
            (118, -58, -30, 19, 17, 55, 0),  # rectus femoris and tensor
            (46, -52, -38, 27, 16, 24, 12),  # pectineus and adductors
            (52, 4, -5, 8, 38, 42, 4),  # obturator internus
            (64, 44, -42, 26, 12, 22, 0),  # quadratus femoris
            (30, -(half_depth - front - 8), 20, 30, 7, 110, 4),  # rectus abdominis
        ):
            jitter = rng.normal(0, 2.0, 3)
            centre = (s * (x + jitter[0]), y + jitter[1], z + jitter[2])
            grown = rng.uniform(0.94, 1.08)
            canvas.ellipsoid(centre, (rx * grown - septum / 2, ry * grown, rz), "muscle", yaw_deg=s * yaw)
        for x, radius in ((54, 5.0), (64, 4.4)):  # femoral vein and artery
            canvas.tube([(s * x, -68, -60, radius), (s * (x - 4), -58, 60, radius)], "vessel")


def _hip(canvas: _Canvas, rng: np.random.Generator, sign: int) -> None:
    """Femur and hip bone of one side: a compact shell around spongy bone, and the gap of the joint."""
    shell = rng.uniform(2.6, 3.8)
    head, joint = rng.uniform(22.5, 25.5), rng.uniform(2.5, 4.0)
    hip = sign * rng.uniform(85, 91)
    socket = [(hip - sign * 7, 2, 3, head + joint + 7.0), (hip - sign * 4, 2, 1, head + joint + 6.0)]
    pelvis = [
        socket,
        [(hip - sign * 2, 6, 22, 19.0), (hip + sign * 8, 14, 70, 13.0)],  # ilium
        [(hip - sign * 14, 34, -6, 15.0), (hip - sign * 28, 42, -48, 13.0)],  # ischium
        [(hip - sign * 24, -26, 6, 10.0), (sign * 14, -42, -12, 9.0), (sign * 9, -40, -26, 9.0)],  # pubis
    ]
    femur = [
        [(hip, 0, 0, head), (hip + sign * 2, 0, -1, head)],
        [(hip, 0, 0, 16.0), (hip + sign * 36, 8, -24, 15.0)],  # neck
        [(hip + sign * 40, 10, -20, 18.0), (hip + sign * 40, 8, -70, 17.0)],  # trochanter and shaft
    ]
    for bone in pelvis:
        canvas.tube(bone, "compact")
    for bone in pelvis:
        canvas.tube(bone, "spongy", less_mm=shell)
    canvas.ellipsoid((hip + sign * 2, 0, -2), (head + joint,) * 3, "muscle")  # cartilage and fluid
    for bone in femur:
        canvas.tube(bone, "compact")
    for bone in femur:
        canvas.tube(bone, "spongy", less_mm=shell)


def _sacrum(canvas: _Canvas, rng: np.random.Generator) -> None:
    y, shell = rng.uniform(62, 70), rng.uniform(2.0, 3.0)
    for less, tissue in ((0.0, "compact"), (shell, "spongy")):
        canvas.ellipsoid((0, y + 4, 50), (40 - less, 15 - less, 26 - less), tissue)
        canvas.tube([(0, y + 6, 34, 11.0), (0, y, -2, 6.5)], tissue, less_mm=less)


def _organs(canvas: _Canvas, rng: np.random.Generator) -> int:
    """Bladder, prostate, vesicles and rectum; returns the number of gas pockets."""
    fill = rng.uniform(0.7, 1.15)
    prostate = (rng.uniform(19, 27), rng.uniform(15, 21), rng.uniform(17, 24))
    top = -14 + prostate[2]
    rectum = rng.uniform(11, 19)
    canvas.ellipsoid((0, 26, 0), (20, 12, 60), "muscle")  # what lies between rectum and prostate
    canvas.ellipsoid((0, -16, top + 20 * fill), (36 * fill, 27 * fill, 25 * fill), "bladder")
    for s in (-1, 1):
        canvas.ellipsoid((s * 17, 12, top + 2), (17, 5.5, 8), "vesicles", yaw_deg=-s * 15)
    canvas.ellipsoid((0, -8, -14), prostate, "prostate")
    canvas.tube([(0, 44, 60, rectum), (rng.normal(0, 4), 38, 10, rectum), (0, 30, -30, 0.8 * rectum)], "rectum")
    canvas.tube([(0, 30, -30, 0.8 * rectum), (0, 38, -70, 11.0)], "rectum")
    pockets = int(rng.integers(0, 4))
    for _ in range(pockets):
        z = rng.uniform(-40, 45)
        room = rectum * rng.uniform(0.35, 0.8)
        # Gas rises to the front, since the patient lies on the back.
        centre = (rng.normal(0, 2), (36 if z > -10 else 31) - 0.25 * rectum, z)
        canvas.ellipsoid(centre, (room, 0.7 * room, rng.uniform(5, 18)), "gas", only=("rectum",))
    return pockets
