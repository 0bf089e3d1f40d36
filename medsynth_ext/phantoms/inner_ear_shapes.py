"""The average left inner ear in millimetres along right, anterior, superior; the origin is the modiolus' middle."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from medsynth_ext.phantoms.shapes import ellipsoid_depth, tube_depth

__all__ = ["LANDMARK_NAMES", "VESTIBULE", "cochlea_depth", "inner_ear_depth", "inner_ear_landmarks", "spiral_nodes"]

LANDMARK_NAMES = ("centre", "apex", "round_window")

TURNS, HEIGHT = 2.6, 3.3  # of the cochlea
OUTER, INNER = 3.5, 0.5  # radius of the spiral at its base and its apex
TUBE_BASE, TUBE_APEX = 1.0, 0.4  # radius of the duct
_NODES_A_TURN = 20
_RING, _CANAL = 3.1, 0.6  # of the semicircular canals

_unit = lambda v: np.asarray(v, dtype=float) / np.linalg.norm(v)  # noqa: E731

# From base to apex: to the left, forward and a little down. The basal turn opens backward, to the vestibule.
AXIS = _unit((-0.55, 0.78, -0.3))
_back = np.array((-0.35, -0.8, 0.45))
SIDE = _unit(_back - AXIS * float(_back @ AXIS))
ACROSS = np.cross(AXIS, SIDE)
VESTIBULE = 5.3 * SIDE - 1.2 * AXIS
_VESTIBULE_RADII = (1.7, 2.7, 2.2)
# Direction from the vestibule to the ring's centre, and the ring's normal.
_CANALS = (
    ((-0.35, 0.35, 0.87), (0.71, 0.71, 0.0)),
    ((-0.3, -0.85, 0.35), (-0.75, 0.45, 0.45)),
    ((-0.9, -0.4, 0.05), (0.1, -0.15, 0.98)),
)


def _spiral(angle: np.ndarray) -> np.ndarray:  # (n,) to (n, 3)
    """The duct's centre line."""
    share = angle / (2 * math.pi * TURNS)
    radius = OUTER + (INNER - OUTER) * share**0.8
    height = HEIGHT * (share - 0.5)
    circle = np.cos(angle)[:, None] * SIDE + np.sin(angle)[:, None] * ACROSS
    return radius[:, None] * circle + height[:, None] * AXIS


def spiral_nodes() -> np.ndarray:  # (n, 4): x, y, z, radius
    """The cochlea's duct as a chain of round cones."""
    angle = np.linspace(0, 2 * math.pi * TURNS, round(TURNS * _NODES_A_TURN) + 1)
    radius = TUBE_BASE + (TUBE_APEX - TUBE_BASE) * angle / angle[-1]
    return np.concatenate([_spiral(angle), radius[:, None]], axis=1)


def inner_ear_landmarks() -> Tensor:  # (3, 3) float64 mm
    """Middle of the modiolus, apex of the duct, and the round window: where the duct's base meets the axis' foot."""
    start, end = _spiral(np.array([0.0, 2 * math.pi * TURNS]))
    window = start - TUBE_BASE * AXIS
    return torch.from_numpy(np.stack([np.zeros(3), end + TUBE_APEX * AXIS, window]))


def cochlea_depth(x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Depths below the duct's wall, and below the surface of the whole cochlea with its modiolus."""
    duct = tube_depth(x, y, z, nodes=spiral_nodes().tolist())
    foot, top = -HEIGHT / 2 * AXIS, HEIGHT / 2 * AXIS
    core = tube_depth(x, y, z, nodes=[(*foot, OUTER - TUBE_BASE), (*top, INNER)])
    u = x * float(AXIS[0]) + y * float(AXIS[1]) + z * float(AXIS[2])
    core = torch.minimum(core, HEIGHT / 2 + TUBE_BASE / 2 - u.abs())  # without the cone's round ends
    return duct, torch.maximum(duct, core)


def _ring_depth(x: Tensor, y: Tensor, z: Tensor, towards: Sequence[float], normal: Sequence[float]) -> Tensor:
    n = _unit(normal)
    to = np.asarray(towards, dtype=float)
    to = _unit(to - n * float(to @ n))
    centre = VESTIBULE + _RING * to
    u, v, w = x - float(centre[0]), y - float(centre[1]), z - float(centre[2])
    height = u * float(n[0]) + v * float(n[1]) + w * float(n[2])
    around = (u * u + v * v + w * w - height**2).clamp_(min=0).sqrt_()
    return _CANAL - ((around - _RING) ** 2 + height**2).sqrt_()


def inner_ear_depth(x: Tensor, y: Tensor, z: Tensor, duct: Tensor) -> Tensor:
    """Depth below the wall of all that holds fluid: the duct, the vestibule and the three canals."""
    depth = torch.maximum(duct, ellipsoid_depth(x, y, z, centre=VESTIBULE.tolist(), radii=_VESTIBULE_RADII))
    hook = [(*(OUTER * SIDE - HEIGHT / 2 * AXIS), TUBE_BASE), (*VESTIBULE, TUBE_BASE)]
    depth = torch.maximum(depth, tube_depth(x, y, z, nodes=hook))
    for towards, normal in _CANALS:
        depth = torch.maximum(depth, _ring_depth(x, y, z, towards, normal))
    return depth
