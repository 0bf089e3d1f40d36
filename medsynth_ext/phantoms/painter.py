"""Drawing of implicit shapes on a grid with soft edges, so that every voxel holds its share of each tissue."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from medsynth_ext.phantoms.shapes import flow_displacement, interpolation_matrix, tube_depth

__all__ = ["Grid", "Painter"]

_LATTICE_MM = 20.0
_THIN_VOXELS = 0.6  # radius below which a tube is drawn wider and fainter
_CHUNK = 1 << 20  # voxels of boxes that are looked at together


@dataclass(frozen=True)
class Grid:
    """A grid along right, anterior, superior: the millimetres of its first voxel's centre, shape and voxel size."""

    first_mm: tuple[float, float, float]
    shape: tuple[int, int, int]
    spacing_mm: float

    @classmethod
    def centred(cls, size: int | Sequence[int], spacing_mm: float) -> Grid:
        """A grid around the origin: voxels along each axis, or the edge of a cube."""
        shape = (size, size, size) if isinstance(size, int) else (size[0], size[1], size[2])
        x, y, z = (-(n - 1) / 2 * spacing_mm for n in shape)
        return cls((x, y, z), shape, spacing_mm)

    def grown(self, low: Sequence[int], high: Sequence[int]) -> Grid:
        """With further voxels before the first (``low``) and after the last (``high``) along each axis."""
        first = [f - n * self.spacing_mm for f, n in zip(self.first_mm, low, strict=True)]
        shape = [n + a + b for n, a, b in zip(self.shape, low, high, strict=True)]
        return Grid((first[0], first[1], first[2]), (shape[0], shape[1], shape[2]), self.spacing_mm)

    def axes(self) -> list[Tensor]:
        """Millimetres of the voxel centres along each axis."""
        return [f + self.spacing_mm * torch.arange(n) for f, n in zip(self.first_mm, self.shape, strict=True)]

    @property
    def affine(self) -> Tensor:  # (4, 4) float64
        """Voxel indices to millimetres."""
        affine = torch.eye(4, dtype=torch.float64) * self.spacing_mm
        affine[:3, 3] = torch.tensor(self.first_mm, dtype=torch.float64)
        affine[3, 3] = 1
        return affine


class Painter:
    """A picture of anatomy that is known in the coordinates of an average person.

    Args:
        grid: where to draw.
        table: the value of every tissue.
        background: the tissue of the empty picture.
        size: linear size of the person; 1 is average.
        flow: state for :func:`flow_displacement` and its strength in mm; the anatomy is bent by it.
    """

    def __init__(
        self,
        grid: Grid,
        table: Mapping[str, float],
        *,
        background: str,
        size: float = 1.0,
        flow: tuple[np.random.Generator, float] | None = None,
    ) -> None:
        self.table = table
        self.values = torch.full(grid.shape, float(table[background]))  # (D, H, W)
        self.voxel_mm = grid.spacing_mm / size
        self.axes = [axis / size for axis in grid.axes()]
        self.margin_mm = 0.0
        x, y, z = (a.view([-1 if k == d else 1 for k in range(3)]) for d, a in enumerate(self.axes))
        self.points = [axis.expand(grid.shape) for axis in (x, y, z)]
        if flow is not None and flow[1] > 0:
            # The inverse of a flow is the flow of the opposite velocity.
            bend = self._on_grid(lambda points: flow_displacement(flow[0], points, strength_mm=-flow[1]))
            self.points = [p + b for p, b in zip(self.points, bend, strict=True)]
            self.margin_mm = float(bend.abs().max())

    def _on_grid(self, field: Callable[[Tensor], Tensor]) -> Tensor:  # (3, D, H, W)
        """A smooth vector field, evaluated on a coarse lattice and interpolated."""
        nodes = [
            torch.arange(float(a[0]) - _LATTICE_MM, float(a[-1]) + 2 * _LATTICE_MM, _LATTICE_MM) for a in self.axes
        ]
        values = field(torch.cartesian_prod(*nodes)).T.reshape(3, *(len(n) for n in nodes))
        for axis in range(3):
            weights = interpolation_matrix(nodes[axis], self.axes[axis])
            values = torch.movedim(torch.tensordot(weights, values, dims=([1], [axis + 1])), 0, axis + 1)
        return values.contiguous()

    def lay(
        self, depth: Tensor, value: str | float | Tensor, *, region: tuple[slice, ...] = (), soft_mm: float = 0.0
    ) -> Tensor:
        """Draw where ``depth`` (mm) is positive; the edge is a voxel wide, or ``soft_mm``. Returns the shares."""
        share = (depth / max(self.voxel_mm, soft_mm) + 0.5).clamp_(0, 1)
        self.blend(share, value, region=region)
        return share

    def blend(self, share: Tensor, value: str | float | Tensor, *, region: tuple[slice, ...] = ()) -> None:
        """Replace the share ``share`` of every voxel."""
        target = self.values[region]
        colour = self.table[value] if isinstance(value, str) else value
        target.add_(share * (colour - target))

    def box(self, low: Sequence[float], high: Sequence[float]) -> tuple[slice, ...] | None:
        """Voxels that may hold anatomy between two corners in mm; None when there are none."""
        out = []
        reach = self.margin_mm + self.voxel_mm
        for axis, a, b in zip(self.axes, low, high, strict=True):
            start = math.ceil((a - reach - float(axis[0])) / self.voxel_mm)
            stop = math.floor((b + reach - float(axis[0])) / self.voxel_mm) + 1
            start, stop = max(start, 0), min(stop, len(axis))
            if start >= stop:
                return None
            out.append(slice(start, stop))
        return tuple(out)

    def tube(
        self,
        nodes: Sequence[Sequence[float]],
        value: str | float,
        *,
        core: str | float | None = None,
        shell_mm: float = 0.0,
    ) -> None:
        """A chain of round cones (rows ``x, y, z, radius``), with a core below a shell of ``shell_mm``."""
        layers: list[tuple[str | float, float]] = [(value, 0.0)]
        if core is not None:
            layers.append((core, shell_mm))
        for layer, below in layers:
            for a, b in pairwise(nodes):
                radius = max(a[3], b[3])
                low = [min(p, q) - radius for p, q in zip(a[:3], b[:3], strict=True)]
                high = [max(p, q) + radius for p, q in zip(a[:3], b[:3], strict=True)]
                region = self.box(low, high)
                if region is not None:
                    x, y, z = (p[region] for p in self.points)
                    self.lay(tube_depth(x, y, z, nodes=[a, b]) - below, layer, region=region)

    def tubes_share(self, pieces: np.ndarray) -> Tensor:  # grid's shape
        """The share of every voxel that lies in any of many round cones, as trees of vessels have them.

        A cone that is thinner than a voxel takes no more of it than its cross-section.

        Args:
            pieces: (P, 8) mm, both ends of each cone, ``x, y, z, radius``.
        """
        share = torch.zeros(self.values.shape).view(-1)
        ends = torch.as_tensor(pieces, dtype=torch.float32).view(-1, 2, 4)
        widest = ends[..., 3].amax(1).clamp_min(_THIN_VOXELS * self.voxel_mm)
        reach = (widest + self.margin_mm + 2 * self.voxel_mm)[:, None]  # most pieces are far from a slice
        first, last = (torch.tensor([float(axis[k]) for axis in self.axes]) for k in (0, -1))
        near = ((ends[..., :3].amax(1) + reach > first) & (ends[..., :3].amin(1) - reach < last)).all(1)
        ends, widest = ends[near], widest[near]
        low, high = self._voxels_near(ends[..., :3], widest)
        met = ((high > low).all(1)).nonzero()[:, 0]
        ends, low, high = ends[met], low[met], high[met]
        flat = [p.reshape(-1) for p in self.points]
        sides = (high - low + 3) // 4 * 4
        for size in torch.unique(sides, dim=0).tolist():
            offsets = torch.cartesian_prod(*(torch.arange(n) for n in size))  # (S, 3)
            for rows in (sides == torch.tensor(size)).all(1).nonzero()[:, 0].split(max(_CHUNK // len(offsets), 1)):
                voxel = (low[rows, None] + offsets).minimum(high[rows, None] - 1)  # (R, S, 3)
                shape = self.values.shape
                index = (voxel[..., 0] * shape[1] + voxel[..., 1]) * shape[2] + voxel[..., 2]
                part = self._cone_share([f[index] for f in flat], ends[rows])
                share.scatter_reduce_(0, index.view(-1), part.view(-1), "amax")
        return share.view(self.values.shape)

    def _voxels_near(self, places: Tensor, reach: Tensor) -> tuple[Tensor, Tensor]:  # (P, 3) each, first and past last
        """Corners of the boxes of voxels that may hold the pieces between two places (P, 2, 3)."""
        first = torch.tensor([float(axis[0]) for axis in self.axes])
        last = torch.tensor(self.values.shape) - 1
        seen = places
        for _ in range(2):  # where a place is seen: the bend of the anatomy is undone, to well below a voxel
            index = ((seen - first) / self.voxel_mm).round_().long().clamp_min_(0).minimum(last)
            at = tuple(index.unbind(-1))
            bend = torch.stack([p[at] - a[i] for p, a, i in zip(self.points, self.axes, at, strict=True)], -1)
            seen = places - bend
        index = (seen - first) / self.voxel_mm
        around = (reach / self.voxel_mm + 1.5)[:, None]
        low = (index.amin(1) - around).floor().long().clamp_min(0)
        return low, ((index.amax(1) + around).ceil().long() + 1).minimum(last + 1)

    def _cone_share(self, at: Sequence[Tensor], ends: Tensor) -> Tensor:  # (R, S) each, (R, 2, 4) -> (R, S)
        start, along = ends[:, 0, :, None], (ends[:, 1] - ends[:, 0])[..., None]  # (R, 4, 1)
        x, y, z = (p - start[:, k] for k, p in enumerate(at))
        dx, dy, dz = along[:, :3].unbind(1)
        t = ((x * dx).add_(y * dy).add_(z * dz) / (dx * dx + dy * dy + dz * dz).clamp_min(1e-6)).clamp_(0, 1)
        distance = x.sub_(t * dx).square_().add_(y.sub_(t * dy).square_()).add_(z.sub_(t * dz).square_()).sqrt_()
        radius = start[:, 3] + t * along[:, 3]
        drawn = radius.clamp_min(_THIN_VOXELS * self.voxel_mm)
        return ((drawn - distance) / self.voxel_mm + 0.5).clamp_(0, 1) * (radius / drawn) ** 2
