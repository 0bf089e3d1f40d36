"""The seven parts of the heart as closed surfaces in correspondence: one sphere, pushed onto each of them.

Millimetres, x to the right, y forward, z up (RAS); the origin is the centre of the heart of an average adult.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from medsynth_ext.phantoms.heart_parameters import HeartParameters

__all__ = ["PARTS", "heart_meshes", "icosphere"]

# Names in the order of their labels, 1 to 7; where parts overlap the first one counts.
PARTS = (
    "left ventricle",
    "left ventricular muscle",
    "right ventricle",
    "left atrium",
    "right atrium",
    "ascending aorta",
    "pulmonary artery",
)

LONG_AXIS = (-0.65, 0.45, -0.61)  # from the base of the ventricles to the apex
TO_RIGHT_VENTRICLE = (0.75, 0.66, 0.0)
LV_CENTRE, LV_RADII = (-14.0, 6.0, -10.0), (42.0, 20.0)
WALL_MM = 9.0
RV_DISTANCE, RV_RADII = 30.0, (46.0, 30.0, 26.0)
LA_CENTRE, LA_RADII = (-2.0, -32.0, 14.0), (30.0, 22.0, 24.0)
RA_CENTRE, RA_RADII = (42.0, -8.0, 0.0), (26.0, 24.0, 30.0)
AORTA, AORTA_RADIUS = ((0.0, -5.0, 12.0), (13.0, 4.0, 48.0), (8.0, -8.0, 80.0)), 14.0
PULMONARY, PULMONARY_RADIUS = ((-4.0, 32.0, 6.0), (-22.0, 31.0, 42.0), (-25.0, -6.0, 60.0)), 12.0


@lru_cache(maxsize=8)
def icosphere(subdivisions: int) -> tuple[Tensor, Tensor]:  # (V, 3) float64 and (F, 3) int64
    """A sphere of 20 * 4^n triangles, n = ``subdivisions``, outward by the right-hand rule.

    >>> [len(part) for part in icosphere(2)]
    [162, 320]
    """
    if not isinstance(subdivisions, int) or not 0 <= subdivisions <= 6:
        raise ValueError(f"subdivisions must be a whole number from 0 to 6, got {subdivisions!r}")
    g = (1 + math.sqrt(5)) / 2
    corners: list[tuple[float, float, float]] = [(-1, g, 0), (1, g, 0), (-1, -g, 0), (1, -g, 0), (0, -1, g), (0, 1, g)]
    corners += [(0, -1, -g), (0, 1, -g), (g, 0, -1), (g, 0, 1), (-g, 0, -1), (-g, 0, 1)]
    faces = [(0, 11, 5), (0, 5, 1), (0, 1, 7), (0, 7, 10), (0, 10, 11), (1, 5, 9), (5, 11, 4), (11, 10, 2), (10, 7, 6)]
    faces += [(7, 1, 8), (3, 9, 4), (3, 4, 2), (3, 2, 6), (3, 6, 8), (3, 8, 9), (4, 9, 5), (2, 4, 11), (6, 2, 10)]
    faces += [(8, 6, 7), (9, 8, 1)]
    points = [torch.tensor(c, dtype=torch.float64) / math.hypot(1, g) for c in corners]
    for _ in range(subdivisions):
        middles: dict[tuple[int, int], int] = {}

        def middle(a: int, b: int, middles: dict[tuple[int, int], int] = middles) -> int:
            key = (min(a, b), max(a, b))
            if key not in middles:
                point = points[a] + points[b]
                points.append(point / point.norm())
                middles[key] = len(points) - 1
            return middles[key]

        finer = []
        for a, b, c in faces:
            ab, bc, ca = middle(a, b), middle(b, c), middle(c, a)
            finer += [(a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca)]
        faces = finer
    return torch.stack(points), torch.tensor(faces)


def heart_meshes(parameters: HeartParameters, *, subdivisions: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Surfaces of the seven parts, one after the other.

    All parts have the connectivity of one icosphere, so vertex i is the same place in every heart. The muscle's
    surface is the outer one; it dips into the blood pool at the base, where the valves are.

    Args:
        parameters: the sliders; ``person`` and ``deformation_mm`` are left to the caller.
        subdivisions: of the icosphere: 2 gives 162 vertices per part, 3 gives 642.

    Returns:
        Vertices (7 V, 3) float64 in mm of the average person, faces (7 F, 3) int64, and the part 0 to 6 of every face.
    """
    sphere, faces = icosphere(subdivisions)
    p = parameters
    axis = _turned(torch.tensor(LONG_AXIS, dtype=torch.float64), p.tilt_deg, p.lift_deg)
    right = torch.tensor(TO_RIGHT_VENTRICLE, dtype=torch.float64)
    right = right - (right @ axis) * axis
    right = right / right.norm()
    frame = torch.stack([axis, torch.linalg.cross(right, axis, dim=0), right])  # rows: apex, along the septum, right
    lv_centre = torch.tensor(LV_CENTRE, dtype=torch.float64)
    length, width = LV_RADII[0] * p.lv, LV_RADII[1] * p.lv * p.sphericity
    pool = _ventricle(sphere, frame, lv_centre, (length, width, width))
    wall = WALL_MM * p.wall * _wall_profile(sphere, frame, p.septum)
    outer = pool + wall[:, None] * _normals(sphere, frame, (length, width, width))
    rv_centre = lv_centre + right * (RV_DISTANCE + (width - LV_RADII[1]) + (p.wall - 1) * WALL_MM / 2)
    rv_radii = (RV_RADII[0] * p.rv, RV_RADII[1] * p.rv * p.sphericity, RV_RADII[2] * p.rv)
    rv = _ventricle(sphere, frame, rv_centre, rv_radii)
    rv = _drawn_out(sphere, rv, rv_centre, torch.tensor(PULMONARY[0], dtype=torch.float64), reach=0.75)
    la = _atrium(sphere, LA_CENTRE, LA_RADII, p.la, [(-1.0, -0.5, 0.5), (1.0, -0.55, 0.35), (-1.0, -0.5, -0.2)])
    ra = _atrium(sphere, RA_CENTRE, RA_RADII, p.ra, [(-0.15, -0.1, 1.0), (-0.1, -0.3, -1.0)])
    aorta = _vessel(sphere, AORTA, AORTA_RADIUS * p.aorta, p.bend)
    pulmonary = _vessel(sphere, PULMONARY, PULMONARY_RADIUS * p.pulmonary, p.bend)
    vertices = p.heart * torch.cat([pool, outer, rv, la, ra, aorta, pulmonary])
    count = len(PARTS)
    shift = torch.arange(count).repeat_interleave(len(faces))[:, None] * len(sphere)
    part = torch.arange(count, dtype=torch.uint8).repeat_interleave(len(faces))
    return vertices, faces.repeat(count, 1) + shift, part


def _turned(axis: Tensor, tilt_deg: float, lift_deg: float) -> Tensor:
    """Unit vector, turned about z, then towards z."""
    axis = axis / axis.norm()
    azimuth = math.atan2(float(axis[1]), float(axis[0])) + math.radians(tilt_deg)
    height = math.asin(float(axis[2])) + math.radians(lift_deg)
    flat = math.cos(height)
    return torch.tensor([flat * math.cos(azimuth), flat * math.sin(azimuth), math.sin(height)], dtype=torch.float64)


def _ventricle(sphere: Tensor, frame: Tensor, centre: Tensor, radii: Sequence[float]) -> Tensor:
    """An ellipsoid in ``frame`` that is a little wider at the base than at the apex; a blunt base."""
    local = sphere @ frame.T
    along = local[:, 0]
    taper = 1 - 0.14 * along
    blunt = torch.where(along < 0, along * (1 - 0.12 * along**2), along)
    local = torch.stack([blunt * radii[0], local[:, 1] * taper * radii[1], local[:, 2] * taper * radii[2]], 1)
    return local @ frame + centre


def _normals(sphere: Tensor, frame: Tensor, radii: Sequence[float]) -> Tensor:
    local = (sphere @ frame.T) / torch.tensor(radii, dtype=torch.float64)
    return (local / local.norm(dim=1, keepdim=True)) @ frame


def _wall_profile(sphere: Tensor, frame: Tensor, septum: float) -> Tensor:
    """Thickness of the muscle as a share: ``septum`` on the side of the right ventricle, below 0 at the valves."""
    local = sphere @ frame.T
    side = ((local[:, 2] + 0.2) / 0.8).clamp(0, 1)
    thickness = 1 + (septum - 1) * side
    apex = 1 - 0.35 * ((local[:, 0] - 0.75) / 0.25).clamp(0, 1)  # thin at the very tip
    base = ((local[:, 0] + 0.80) / 0.15).clamp(0, 1)
    base = base * base * (3 - 2 * base)
    return thickness * apex * base - 0.25 * (1 - base)


def _drawn_out(sphere: Tensor, vertices: Tensor, centre: Tensor, target: Tensor, *, reach: float) -> Tensor:
    """Pull the cap of a surface that faces ``target`` towards it by the share ``reach``."""
    direction = target - centre
    weight = torch.exp((sphere @ (direction / direction.norm()) - 1) / 0.10)
    return vertices + reach * weight[:, None] * (target - vertices) * 0.6


def _atrium(
    sphere: Tensor, centre: Sequence[float], radii: Sequence[float], size: float, veins: Sequence[Sequence[float]]
) -> Tensor:
    """An ellipsoid with a bulge towards every vein."""
    stretch = torch.ones(len(sphere), dtype=torch.float64)
    for vein in veins:
        direction = torch.tensor(vein, dtype=torch.float64)
        stretch = stretch + 0.22 * torch.exp((sphere @ (direction / direction.norm()) - 1) / 0.06)
    scale = torch.tensor(radii, dtype=torch.float64) * size
    return sphere * scale * stretch[:, None] + torch.tensor(centre, dtype=torch.float64)


def _vessel(sphere: Tensor, nodes: Sequence[Sequence[float]], radius: float, bend: float) -> Tensor:
    """A capped tube along the parabola through three nodes; ``bend`` scales the middle one's distance from the chord.

    The meridian of the sphere runs over the lower cap, along the tube and over the upper cap at constant speed.
    """
    start, middle, end = (torch.tensor(node, dtype=torch.float64) for node in nodes)
    middle = (start + end) / 2 + bend * (middle - (start + end) / 2)
    bow = 4 * middle - 2 * start - 2 * end  # c(t) = (1 - t) start + t end + t (1 - t) bow
    length = float((end - start).norm()) * (1 + float(bow.norm() / (end - start).norm()) ** 2 / 24)
    cap = 0.35 * radius  # caps are flat ellipsoids
    meridian = length + math.pi * radius / 2
    way = torch.acos(sphere[:, 2].clamp(-1, 1)).neg().add(math.pi).div(math.pi) * meridian  # from the lower pole
    over = math.pi * radius / 4
    lower, upper = (way / over).clamp(0, 1), ((meridian - way) / over).clamp(0, 1)
    angle = torch.minimum(lower, upper) * math.pi / 2
    t = ((way - over) / (meridian - 2 * over)).clamp(0, 1)[:, None]
    place = (1 - t) * start + t * end + t * (1 - t) * bow
    tangent = end - start + (1 - 2 * t) * bow
    tangent = tangent / tangent.norm(dim=1, keepdim=True)
    azimuth = torch.atan2(sphere[:, 1], sphere[:, 0])[:, None]
    first = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64) - tangent * tangent[:, :1]
    first = first / first.norm(dim=1, keepdim=True)
    second = torch.linalg.cross(tangent, first, dim=1)
    around = azimuth.cos() * first + azimuth.sin() * second
    outward = torch.where(way < meridian / 2, -1.0, 1.0)[:, None]
    return place + radius * angle.sin()[:, None] * around + cap * angle.cos()[:, None] * outward * tangent
