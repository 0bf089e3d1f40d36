"""Where the rays of a CT scan run: one description for parallel, fan and cone beams, and other packages' in and out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from medsynth_ext.ops import _ct_formats
from medsynth_ext.ops._ct_geometry_checks import check_sight, check_vectors, numbers, sizes
from medsynth_ext.ops.ct_orbit import CircularOrbit

__all__ = ["CTGeometry"]

_KINDS = {"parallel2d": (2, False), "fan2d": (2, True), "parallel3d": (3, False), "cone3d": (3, True)}


@dataclass(frozen=True, eq=False)
class CTGeometry:
    """Rays and voxels of a CT scan in one world of millimetres.

    The world is right-handed with coordinates (x, y, z); circular scans turn about z. A volume tensor is (..., Z, Y, X)
    (2-D: (..., Y, X)); the index grows with the coordinate on every axis, and voxel i of axis x has its centre at
    ``center_x + (i - (X - 1) / 2) * spacing_x``. Volumes hold attenuation in 1/mm, projections line integrals without
    unit. Projections are (..., views, rows, cols), in 2-D (..., views, cols); pixel (i, j) has its centre at
    ``d + (i - (rows - 1) / 2) v + (j - (cols - 1) / 2) u``.

    ``vectors`` holds, per view, in mm: the source s (fan, cone) or the direction r of the rays (parallel), the centre d
    of the detector, u from pixel (0, 0) to (0, 1), and in 3-D v from pixel (0, 0) to (1, 0): ASTRA's vectors, in its
    order. Circular scans at angle t (radians) have

    ========  =======================  =========================  ====================  ===========
    beam      s or r                   d                          u                     v
    ========  =======================  =========================  ====================  ===========
    parallel  (sin t, -cos t, 0)       0                          du (cos t, sin t, 0)  (0, 0, dv)
    fan/cone  R (sin t, -cos t, 0)     (D - R) (-sin t, cos t, 0) du (cos t, sin t, 0)  (0, 0, dv)
    ========  =======================  =========================  ====================  ===========

    with R the distance from source to axis and D that from source to detector.

    Args:
        kind: ``parallel2d``, ``fan2d``, ``parallel3d`` or ``cone3d``.
        vectors: (views, 6) in 2-D, (views, 12) in 3-D, float64 on the CPU.
        det_shape: (cols,) or (rows, cols).
        vol_shape: (Y, X) or (Z, Y, X), in tensor order.
        spacing_mm: voxel edges in the order x, y[, z]; one number for all.
        center_mm: centre of the volume, in the order x, y[, z].
        orbit: of a circular scan; needed by ``fbp`` and ``fdk``.

    Raises:
        TypeError: when ``vectors`` is not a float tensor.
        ValueError: for sizes that do not fit, a spacing, u, v or ray of no length, u along v, no views, or a detector
            that never sees the volume.
        NotImplementedError: when ``vectors`` requires a gradient; there is none to the geometry.

    >>> geometry = CTGeometry.fan2d([0.0, 1.0], 8, 1.0, (4, 4), source_origin_mm=50, source_detector_mm=80)
    >>> geometry.proj_shape, geometry.vectors[0].tolist()
    ((2, 8), [0.0, -50.0, 0.0, 30.0, 1.0, 0.0])
    """

    kind: str
    vectors: Tensor
    det_shape: tuple[int, ...]
    vol_shape: tuple[int, ...]
    spacing_mm: tuple[float, ...] = 1.0  # type: ignore[assignment]  # one number becomes a tuple
    center_mm: tuple[float, ...] = 0.0  # type: ignore[assignment]
    orbit: CircularOrbit | None = None
    _tables: dict[tuple[str, torch.device], Tensor] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(f"kind must be one of {', '.join(_KINDS)}, got {self.kind!r}")
        dims = self.dims
        if not isinstance(self.vectors, Tensor) or not self.vectors.is_floating_point():
            raise TypeError(f"vectors must be a float tensor, got {getattr(self.vectors, 'dtype', type(self.vectors))}")
        if self.vectors.requires_grad:
            raise NotImplementedError("projections have no gradient to the geometry; pass vectors.detach()")
        width = 3 * dims if dims == 2 else 12
        if self.vectors.ndim != 2 or self.vectors.shape[1] != width or not self.vectors.shape[0]:
            raise ValueError(
                f"vectors must be (views, {width}) with at least one view, got {tuple(self.vectors.shape)}"
            )
        fix = object.__setattr__
        fix(self, "vectors", self.vectors.detach().to("cpu", torch.float64).contiguous().clone())
        fix(self, "det_shape", sizes("det_shape", self.det_shape, dims - 1))
        fix(self, "vol_shape", sizes("vol_shape", self.vol_shape, dims))
        fix(self, "spacing_mm", numbers("spacing_mm", self.spacing_mm, dims, positive=True))
        fix(self, "center_mm", numbers("center_mm", self.center_mm, dims, positive=False))
        if self.orbit is not None and self.orbit.angles.shape != (self.views,):
            raise ValueError(f"orbit has {tuple(self.orbit.angles.shape)} angles for {self.views} views")
        if not torch.compiler.is_compiling():  # a graph that is traced has no values; fdk only adds rows there
            check_vectors(self)
            check_sight(self)

    @property
    def dims(self) -> int:
        """2 or 3."""
        return _KINDS[self.kind][0]

    @property
    def diverging(self) -> bool:
        """Whether rays start in a source (fan, cone)."""
        return _KINDS[self.kind][1]

    @property
    def views(self) -> int:
        """Number of views."""
        return self.vectors.shape[0]

    @property
    def proj_shape(self) -> tuple[int, ...]:
        """(views, *det_shape)."""
        return (self.views, *self.det_shape)

    def frames(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """s or r, d, u and v of every view, each (views, 3); in 2-D z is 0 and v is (0, 0, 1)."""
        parts = self.vectors.view(self.views, -1, self.dims)
        if self.dims == 3:
            return parts[:, 0], parts[:, 1], parts[:, 2], parts[:, 3]
        flat = torch.nn.functional.pad(parts, (0, 1))
        return (
            flat[:, 0],
            flat[:, 1],
            flat[:, 2],
            torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand_as(flat[:, 0]),
        )

    def _table(self, name: str, device: torch.device, make: Callable[[], Tensor]) -> Tensor:
        place = torch.device("cpu") if device.type == "meta" else device
        if (name, place) in self._tables:
            return self._tables[name, place]
        table = make().contiguous().to(place)
        if not torch.compiler.is_compiling():  # what is traced has no values and must not stay
            self._tables[name, place] = table
        return table

    def frame_table(self, device: torch.device) -> Tensor:  # (views, 12)
        """:meth:`frames` side by side, as the operators take them; kept per device."""
        return self._table("frames", device, lambda: torch.cat(self.frames(), 1))

    def matrix_table(self, device: torch.device) -> Tensor:  # (views, 3, 4)
        """:meth:`voxel_matrices`, on a circular scan with depth 1 on the axis; kept per device."""

        def make() -> Tensor:
            orbit = self.orbit
            if orbit is None or orbit.source_origin_mm is None or orbit.source_detector_mm is None:
                return self.voxel_matrices()
            return self.voxel_matrices() * (orbit.source_detector_mm / orbit.source_origin_mm)

        return self._table("matrices", device, make)

    def padded(self) -> tuple[list[int], list[int], list[float], list[float]]:
        """(Z, Y, X), (rows, cols), spacing and centre in x, y, z; 2-D gets one slice and one row."""
        if self.dims == 3:
            return list(self.vol_shape), list(self.det_shape), list(self.spacing_mm), list(self.center_mm)
        return [1, *self.vol_shape], [1, *self.det_shape], [*self.spacing_mm, 1.0], [*self.center_mm, 0.0]

    @classmethod
    def parallel2d(
        cls,
        angles: Sequence[float] | Tensor,
        det_count: int,
        du: float,
        vol_shape: Sequence[int],
        *,
        spacing_mm: float | Sequence[float] = 1.0,
        center_mm: float | Sequence[float] = 0.0,
        offset_mm: float = 0.0,
    ) -> CTGeometry:
        """Parallel beam in a slice: ``angles`` in radians, ``det_count`` pixels of ``du`` mm.

        >>> CTGeometry.parallel2d([0.0], 4, 1.0, (4, 4)).vectors.tolist()
        [[0.0, -1.0, 0.0, 0.0, 1.0, 0.0]]
        """
        orbit = CircularOrbit(_angles(angles), _pixel((du, 1.0)), None, None, (offset_mm, 0.0))
        return cls("parallel2d", _circular(orbit, 2), (det_count,), tuple(vol_shape), spacing_mm, center_mm, orbit)  # type: ignore[arg-type]

    @classmethod
    def fan2d(
        cls,
        angles: Sequence[float] | Tensor,
        det_count: int,
        du: float,
        vol_shape: Sequence[int],
        *,
        source_origin_mm: float,
        source_detector_mm: float,
        spacing_mm: float | Sequence[float] = 1.0,
        center_mm: float | Sequence[float] = 0.0,
        offset_mm: float = 0.0,
    ) -> CTGeometry:
        """Fan beam in a slice with a flat detector: ``du`` mm on the detector, not on the axis."""
        distances = _distances(source_origin_mm, source_detector_mm)
        orbit = CircularOrbit(_angles(angles), _pixel((du, 1.0)), *distances, (offset_mm, 0.0))
        return cls("fan2d", _circular(orbit, 2), (det_count,), tuple(vol_shape), spacing_mm, center_mm, orbit)  # type: ignore[arg-type]

    @classmethod
    def parallel3d(
        cls,
        angles: Sequence[float] | Tensor,
        det_shape: Sequence[int],
        pixel_mm: float | Sequence[float],
        vol_shape: Sequence[int],
        *,
        spacing_mm: float | Sequence[float] = 1.0,
        center_mm: float | Sequence[float] = 0.0,
        offset_mm: Sequence[float] = (0.0, 0.0),
    ) -> CTGeometry:
        """Parallel beam on a flat detector of (rows, cols) pixels of ``pixel_mm`` = (du, dv)."""
        orbit = CircularOrbit(_angles(angles), _pixel(pixel_mm), None, None, (offset_mm[0], offset_mm[1]))
        return cls("parallel3d", _circular(orbit, 3), tuple(det_shape), tuple(vol_shape), spacing_mm, center_mm, orbit)  # type: ignore[arg-type]

    @classmethod
    def cone3d(
        cls,
        angles: Sequence[float] | Tensor,
        det_shape: Sequence[int],
        pixel_mm: float | Sequence[float],
        vol_shape: Sequence[int],
        *,
        source_origin_mm: float,
        source_detector_mm: float,
        spacing_mm: float | Sequence[float] = 1.0,
        center_mm: float | Sequence[float] = 0.0,
        offset_mm: Sequence[float] = (0.0, 0.0),
    ) -> CTGeometry:
        """Cone beam on a flat detector of (rows, cols) pixels of ``pixel_mm`` = (du, dv), measured on the detector.

        >>> CTGeometry.cone3d([0.0], (3, 5), 2.0, (4, 4, 4), source_origin_mm=10, source_detector_mm=15).proj_shape
        (1, 3, 5)
        """
        distances = _distances(source_origin_mm, source_detector_mm)
        orbit = CircularOrbit(_angles(angles), _pixel(pixel_mm), *distances, (offset_mm[0], offset_mm[1]))
        return cls("cone3d", _circular(orbit, 3), tuple(det_shape), tuple(vol_shape), spacing_mm, center_mm, orbit)  # type: ignore[arg-type]

    def subset(self, views: Sequence[int] | Tensor | slice) -> CTGeometry:
        """The geometry of some views, in the given order; take the same ones of the projections.

        >>> CTGeometry.parallel2d([0.0, 0.5, 1.0], 4, 1.0, (4, 4)).subset([2, 0]).orbit.angles.tolist()
        [1.0, 0.0]
        """
        index = views if isinstance(views, slice) else torch.as_tensor(views, dtype=torch.int64)
        orbit = None if self.orbit is None else replace(self.orbit, angles=self.orbit.angles[index])
        return replace(self, vectors=self.vectors[index], orbit=orbit)

    def short_scan(self) -> CTGeometry:
        """The first views of a circular scan, as few as cover pi (parallel) or pi + the full fan angle.

        The matching projections are the first ``short_scan().views`` views.

        Raises:
            ValueError: without an orbit, or when the scan does not reach that far.
        """
        if self.orbit is None:
            raise ValueError("short_scan needs a circular scan, but this geometry has no orbit")
        need = math.pi + 2 * self.orbit.half_fan(self.det_shape[-1])
        steps = self.orbit.angles.diff().abs()
        covered = torch.cat([steps[:1], steps]).cumsum(0) if steps.numel() else torch.zeros(1)
        enough = (covered >= need * (1 - 1e-9)).nonzero()
        if not enough.numel():
            raise ValueError(
                f"a short scan needs {math.degrees(need):.1f} degrees, this one covers {math.degrees(covered[-1]):.1f}"
            )
        return self.subset(slice(0, int(enough[0]) + 1))

    @classmethod
    def from_astra(cls, vol_geom: Mapping[str, Any], proj_geom: Mapping[str, Any]) -> CTGeometry:
        """From ASTRA's dictionaries: parallel, fanflat, parallel3d, cone and their ``_vec`` forms.

        ASTRA's data have another order than ours, see :func:`volume_from_astra` and :func:`projections_from_astra`.
        """
        return _ct_formats.from_astra(cls, vol_geom, proj_geom)

    def to_astra(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """ASTRA's volume and projection dictionaries (the ``_vec`` form); ASTRA itself is not needed."""
        return _ct_formats.to_astra(self)

    @classmethod
    def from_tigre(cls, geometry: Any, angles: Sequence[float] | Tensor) -> CTGeometry:
        """From TIGRE's geometry object (cone or parallel) and angles: (views,), or (views, 3) ZYZ angles, in radians.

        TIGRE's arrays have our order: volumes (Z, Y, X), projections (views, V, U).
        """
        return _ct_formats.from_tigre(cls, geometry, angles)

    @classmethod
    def from_leap(cls, parameters: Mapping[str, Any]) -> CTGeometry:
        """From LEAP's parameters, under the names of its setters and files.

        ``geometry`` (parallel, fan, cone, modular), ``numAngles``, ``numRows``, ``numCols``, ``pixelHeight``,
        ``pixelWidth``, ``centerRow``, ``centerCol``, ``phis`` in degrees, ``sod``, ``sdd``; ``numX``, ``numY``,
        ``numZ``, ``voxelWidth``, ``voxelHeight``, ``offsetX``, ``offsetY``, ``offsetZ``; for modular beams
        ``sourcePositions``, ``moduleCenters``, ``rowVectors``, ``colVectors``. Arrays have our order.
        """
        return _ct_formats.from_leap(cls, parameters)

    @classmethod
    def from_projection_matrices(
        cls,
        matrices: Sequence[Any] | Tensor,  # (views, 3, 4)
        det_shape: Sequence[int],
        vol_shape: Sequence[int],
        *,
        spacing_mm: float | Sequence[float] = 1.0,
        center_mm: float | Sequence[float] = 0.0,
    ) -> CTGeometry:
        """From matrices P with ``(col, row, 1) ~ P (x, y, z, 1)``: world in mm, pixel centres at integers from 0 on.

        The source is ``-M^-1 p4`` with ``P = [M | p4]``, the ray of pixel (col, row) runs along ``M^-1 (col, row, 1)``.
        A matrix does not say how far away the detector is; it is put at twice the depth of the volume's centre.
        """
        return _ct_formats.from_projection_matrices(cls, matrices, det_shape, vol_shape, spacing_mm, center_mm)

    def projection_matrices(self) -> Tensor:  # (views, 3, 4) float64
        """The matrices P with ``(col, row, 1) ~ P (x, y, z, 1)``, world in mm.

        For diverging beams the third component is the depth of the point, 0 in the source and 1 on the detector's
        plane; for parallel beams it is 1.
        """
        start, d, u, v = self.frames()
        rows, cols = self.padded()[1]
        ray = d - start if self.diverging else start
        # The inverse of (u, v, ray) by cross products: axes that do not mix stay exactly zero.
        base = torch.stack([torch.linalg.cross(a, b, dim=1) for a, b in ((v, ray), (ray, u), (u, v))], 1)
        base = base / (base[:, 2] * ray).sum(1)[:, None, None]  # (views, 3, 3)
        origin = start if self.diverging else d
        local = torch.cat([base, -(base @ origin[:, :, None])], 2)  # (views, 3, 4): along u, v and the depth
        last = local[:, 2:] if self.diverging else local.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(self.views, 1, 4)
        middle = local.new_tensor([[(cols - 1) / 2], [(rows - 1) / 2]])
        return torch.cat([local[:, :2] + middle * last, last], 1)

    def voxel_matrices(self) -> Tensor:  # (views, 3, 4) float64
        """:meth:`projection_matrices` for voxel indices (x, y, z) instead of millimetres."""
        size, _, spacing, center = self.padded()
        p = self.projection_matrices()
        step = p.new_tensor(spacing)
        first = p.new_tensor(center) - (p.new_tensor(size[::-1]) - 1) / 2 * step
        return torch.cat([p[:, :, :3] * step, (p[:, :, :3] * first).sum(2, keepdim=True) + p[:, :, 3:]], 2)


def _angles(angles: Sequence[float] | Tensor) -> Tensor:
    t = torch.as_tensor(angles, dtype=torch.float64).detach().cpu().flatten().clone()
    if not t.numel() or not bool(t.isfinite().all()):
        raise ValueError(f"angles must be finite and at least one, got {t.tolist()}")
    return t


def _pixel(pixel_mm: float | Sequence[float]) -> tuple[float, float]:
    du, dv = numbers("the detector's pixel size", pixel_mm, 2, positive=True)
    return du, dv


def _distances(source_origin_mm: float, source_detector_mm: float) -> tuple[float, float]:
    r, d = numbers("source_origin_mm and source_detector_mm", (source_origin_mm, source_detector_mm), 2, positive=True)
    return r, d


def _circular(orbit: CircularOrbit, dims: int) -> Tensor:
    """The vectors of a circular scan."""
    sin, cos = orbit.angles.sin(), orbit.angles.cos()
    zero, one = torch.zeros_like(sin), torch.ones_like(sin)
    to_source, along_u = torch.stack([sin, -cos, zero], 1), torch.stack([cos, sin, zero], 1)
    along_v = torch.stack([zero, zero, one], 1)
    start, d = to_source, torch.zeros_like(to_source)
    if orbit.source_origin_mm is not None and orbit.source_detector_mm is not None:
        start = orbit.source_origin_mm * to_source
        d = (orbit.source_origin_mm - orbit.source_detector_mm) * to_source
    d = d + orbit.offset_mm[0] * along_u + orbit.offset_mm[1] * along_v
    parts = [start, d, orbit.pixel_mm[0] * along_u, orbit.pixel_mm[1] * along_v][: dims + 1]
    return torch.cat([p[:, :dims] for p in parts], 1)
