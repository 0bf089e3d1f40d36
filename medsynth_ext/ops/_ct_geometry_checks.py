"""What a CT geometry must satisfy."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from medsynth_ext.ops.ct_geometry import CTGeometry

__all__ = ["check_sight", "check_vectors", "numbers", "sizes"]


def numbers(name: str, values: float | Sequence[float], count: int, *, positive: bool) -> tuple[float, ...]:
    """``count`` finite numbers as a tuple; a single one stands for all."""
    single = isinstance(values, int | float)
    given = [float(values)] * count if single else [float(v) for v in values]  # type: ignore[arg-type, union-attr]
    if len(given) != count:
        raise ValueError(f"{name} must have {count} entries, got {given}")
    lowest = 0.0 if positive else -math.inf
    if not all(lowest < v < math.inf for v in given):
        raise ValueError(f"{name} must be {'positive and ' if positive else ''}finite, got {given}")
    return tuple(given)


def sizes(name: str, values: Sequence[int], count: int) -> tuple[int, ...]:
    """``count`` positive sizes as a tuple."""
    given = tuple(int(v) for v in values)
    if len(given) != count or any(n < 1 for n in given):
        raise ValueError(f"{name} must be {count} positive sizes, got {given}")
    return given


def _refuse(bad: Tensor, message: str) -> None:
    views = bad.nonzero()
    if views.numel():
        raise ValueError(f"{message}; view {views[0].item()} is so")


def check_vectors(geometry: CTGeometry) -> None:
    """Refuse vectors that are not finite or have no length, u along v, and rays along the detector."""
    _refuse(~geometry.vectors.isfinite().all(1), "vectors must be finite")
    start, d, u, v = geometry.frames()
    ray = d - start if geometry.diverging else start
    _refuse(u.norm(dim=1) == 0, "u must not be of zero length")
    _refuse(v.norm(dim=1) == 0, "v must not be of zero length")
    what = "the source must not be the detector's centre" if geometry.diverging else "rays must not be of zero length"
    _refuse(ray.norm(dim=1) == 0, what)
    normal = torch.linalg.cross(u, v, dim=1)
    size = normal.norm(dim=1)
    _refuse(size <= 1e-9 * u.norm(dim=1) * v.norm(dim=1), "u must not run along v")
    _refuse((normal * ray).sum(1).abs() <= 1e-9 * size * ray.norm(dim=1), "rays must not run along the detector")


def check_sight(geometry: CTGeometry) -> None:
    """Refuse a detector that sees the volume in no view, and warn of a source inside the volume."""
    start, d, u, v = geometry.frames()
    size, det, spacing, center = geometry.padded()
    half = torch.tensor([n * s / 2 for n, s in zip(size[::-1], spacing, strict=True)], dtype=torch.float64)
    middle = torch.tensor(center, dtype=torch.float64)
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 3)
    corners = middle + signs * half  # (8, 3)
    axes = torch.linalg.inv(torch.stack([u, v, d - start if geometry.diverging else start], 2))
    place = (corners - (start if geometry.diverging else d)[:, None]) @ axes.mT  # (views, 8, 3): u, v, depth
    beside = torch.zeros(geometry.views, dtype=torch.bool)
    if geometry.diverging:
        inside = ((start - middle).abs() < half)[:, : geometry.dims].all(1)
        if bool(inside.any()):
            warnings.warn(
                f"the source of view {int(inside.nonzero()[0])} lies inside the volume; rays count from the source on",
                stacklevel=5,
            )
        depth = place[..., 2:]
        beside = (depth <= 0).any(1)[:, 0] & (depth > 0).any(1)[:, 0]  # partly behind the source: no bounded shadow
        place = torch.where(depth > 0, place / depth.clamp_min(1e-300), math.nan)
    reach = torch.tensor([det[1] / 2, det[0] / 2], dtype=torch.float64)
    shadow = place[..., :2]
    seen = ((shadow.amin(1) < reach) & (shadow.amax(1) > -reach)).all(1)
    if not bool((seen | beside).any()):
        raise ValueError(
            "no view's detector sees the volume; spacing_mm, center_mm and the vectors must all be millimetres in one "
            f"world, got a volume of {[round(2 * h, 3) for h in half.tolist()]} mm about {center}"
        )
