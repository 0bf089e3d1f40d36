"""Other packages' CT geometries, to ours and back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from medsynth_ext.ops.ct_geometry import CTGeometry

__all__ = [
    "from_astra",
    "from_leap",
    "from_projection_matrices",
    "from_tigre",
    "projections_from_astra",
    "projections_to_astra",
    "to_astra",
    "volume_from_astra",
    "volume_to_astra",
]

_ASTRA_KINDS = {
    "parallel_vec": "parallel2d",
    "fanflat_vec": "fan2d",
    "parallel3d_vec": "parallel3d",
    "cone_vec": "cone3d",
}


def _table(values: Any) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64).detach().cpu()


def _plain(name: str, values: Any) -> None:
    """Refuse an option that our geometry does not hold, unless it is zero."""
    if values is not None and bool((_table(values) != 0).any()):
        raise ValueError(f"{name} is not supported unless it is 0, got {values}")


def volume_from_astra(volume: Tensor) -> Tensor:
    """ASTRA's volume in our order: 2-D rows run from the largest y down, 3-D is the same. Its own inverse.

    >>> volume_from_astra(torch.tensor([[1, 2], [3, 4]])).tolist()
    [[3, 4], [1, 2]]
    """
    return volume.flip(-2) if volume.ndim == 2 else volume


def volume_to_astra(volume: Tensor) -> Tensor:
    """Our volume in ASTRA's order."""
    return volume_from_astra(volume)


def projections_from_astra(projections: Tensor) -> Tensor:
    """ASTRA's projections in our order: 3-D comes as (rows, views, cols), 2-D is the same. Its own inverse."""
    return projections.transpose(0, 1) if projections.ndim == 3 else projections


def projections_to_astra(projections: Tensor) -> Tensor:
    """Our projections in ASTRA's order."""
    return projections_from_astra(projections)


def _astra_volume(vol_geom: Mapping[str, Any]) -> tuple[tuple[int, ...], tuple[float, ...], tuple[float, ...]]:
    """Shape, spacing and centre of ASTRA's volume."""
    counts = [int(vol_geom["GridColCount"]), int(vol_geom["GridRowCount"])]
    counts += [int(vol_geom["GridSliceCount"])] if "GridSliceCount" in vol_geom else []
    window = vol_geom.get("option", {})
    ends = [
        (float(window.get(f"WindowMin{a}", -n / 2)), float(window.get(f"WindowMax{a}", n / 2)))
        for a, n in zip("XYZ", counts, strict=False)
    ]
    spacing = tuple((high - low) / n for (low, high), n in zip(ends, counts, strict=True))
    return tuple(counts[::-1]), spacing, tuple((low + high) / 2 for low, high in ends)


def from_astra(cls: type[CTGeometry], vol_geom: Mapping[str, Any], proj_geom: Mapping[str, Any]) -> CTGeometry:
    """See :meth:`CTGeometry.from_astra`."""
    kind = proj_geom["type"]
    shape, spacing, center = _astra_volume(vol_geom)
    place: dict[str, Any] = {"spacing_mm": spacing, "center_mm": center}
    if kind in _ASTRA_KINDS:
        flat = "DetectorCount" in proj_geom
        det = (proj_geom["DetectorCount"],) if flat else (proj_geom["DetectorRowCount"], proj_geom["DetectorColCount"])
        return cls(_ASTRA_KINDS[kind], _table(proj_geom["Vectors"]), det, shape, **place)
    if kind not in ("parallel", "fanflat", "parallel3d", "cone"):
        known = ["parallel", "fanflat", "parallel3d", "cone", *_ASTRA_KINDS]
        raise ValueError(f"proj_geom must be of type {', '.join(known)}, got {kind!r}")
    angles = proj_geom["ProjectionAngles"]
    if kind in ("fanflat", "cone"):
        place["source_origin_mm"] = float(proj_geom["DistanceOriginSource"])
        place["source_detector_mm"] = place["source_origin_mm"] + float(proj_geom["DistanceOriginDetector"])
    if kind in ("parallel", "fanflat"):
        make = cls.parallel2d if kind == "parallel" else cls.fan2d
        return make(angles, int(proj_geom["DetectorCount"]), float(proj_geom["DetectorWidth"]), shape, **place)
    det = (int(proj_geom["DetectorRowCount"]), int(proj_geom["DetectorColCount"]))
    pixel = (float(proj_geom["DetectorSpacingX"]), float(proj_geom["DetectorSpacingY"]))
    return (cls.parallel3d if kind == "parallel3d" else cls.cone3d)(angles, det, pixel, shape, **place)


def to_astra(geometry: CTGeometry) -> tuple[dict[str, Any], dict[str, Any]]:
    """See :meth:`CTGeometry.to_astra`."""
    counts = geometry.vol_shape[::-1]
    names = ("GridColCount", "GridRowCount", "GridSliceCount")
    vol_geom: dict[str, Any] = dict(zip(names, counts, strict=False))
    vol_geom["option"] = {}
    for axis, n, spacing, center in zip("XYZ", counts, geometry.spacing_mm, geometry.center_mm, strict=False):
        vol_geom["option"][f"WindowMin{axis}"] = center - n * spacing / 2
        vol_geom["option"][f"WindowMax{axis}"] = center + n * spacing / 2
    kind = next(astra for astra, ours in _ASTRA_KINDS.items() if ours == geometry.kind)
    proj_geom: dict[str, Any] = {"type": kind, "Vectors": geometry.vectors.numpy().copy()}
    if geometry.dims == 2:
        proj_geom["DetectorCount"] = geometry.det_shape[0]
    else:
        proj_geom["DetectorRowCount"], proj_geom["DetectorColCount"] = geometry.det_shape
    return vol_geom, proj_geom


def _turn(angles: Tensor) -> Tensor:  # (views, 3, 3)
    """The rotations Rz(a) Ry(b) Rz(c) of ZYZ angles (views, 3)."""
    (ca, cb, cc), (sa, sb, sc) = angles.cos().unbind(1), angles.sin().unbind(1)
    rows = [
        [ca * cb * cc - sa * sc, -ca * cb * sc - sa * cc, ca * sb],
        [sa * cb * cc + ca * sc, -sa * cb * sc + ca * cc, sa * sb],
        [-sb * cc, sb * sc, cb],
    ]
    return torch.stack([torch.stack(row, 1) for row in rows], 1)


def from_tigre(cls: type[CTGeometry], geometry: Any, angles: Sequence[float] | Tensor) -> CTGeometry:
    """See :meth:`CTGeometry.from_tigre`. At angle 0 TIGRE's source lies on +x and its u axis points to +y."""
    mode = getattr(geometry, "mode", None) or "cone"
    if mode not in ("cone", "parallel"):
        raise ValueError(f"geometry.mode must be cone or parallel, got {mode!r}")
    _plain("geometry.COR", getattr(geometry, "COR", None))
    _plain("geometry.rotDetector", getattr(geometry, "rotDetector", None))
    dv, du = _table(geometry.dDetector).tolist()
    rows, cols = (int(n) for n in geometry.nDetector)
    shift = getattr(geometry, "offDetector", None)
    offset_v, offset_u = (0.0, 0.0) if shift is None else _table(shift).flatten().tolist()
    origin = getattr(geometry, "offOrigin", None)
    center = [0.0, 0.0, 0.0] if origin is None else _table(origin).flatten().tolist()[::-1]
    place: dict[str, Any] = {"spacing_mm": _table(geometry.dVoxel).tolist()[::-1], "center_mm": center}
    shape = tuple(int(n) for n in geometry.nVoxel)
    turns = _table(angles)
    circular = turns.ndim == 1 or bool((turns[:, 1:] == 0).all())
    if mode == "cone":
        place["source_origin_mm"] = float(_table(geometry.DSO).flatten()[0])
        place["source_detector_mm"] = float(_table(geometry.DSD).flatten()[0])
    make = cls.cone3d if mode == "cone" else cls.parallel3d
    t = turns if turns.ndim == 1 else turns[:, 0]
    result = make(t + math.pi / 2, (rows, cols), (du, dv), shape, offset_mm=(offset_u, offset_v), **place)
    if circular:
        return result
    start = make([math.pi / 2], (rows, cols), (du, dv), shape, offset_mm=(offset_u, offset_v), **place)
    vectors = torch.einsum("nij,kj->nki", _turn(turns), start.vectors.view(4, 3)).flatten(1)
    return cls(result.kind, vectors, (rows, cols), shape, place["spacing_mm"], tuple(center))


def from_leap(cls: type[CTGeometry], parameters: Mapping[str, Any]) -> CTGeometry:
    """See :meth:`CTGeometry.from_leap`. At angle phi LEAP's source lies at (cos phi, sin phi), u along its tangent."""
    p = dict(parameters)
    kind = str(p.get("geometry", "")).lower()
    if kind not in ("parallel", "fan", "cone", "modular"):
        raise ValueError(f"geometry must be parallel, fan, cone or modular, got {p.get('geometry')!r}")
    for name in ("tau", "tiltAngle", "helicalPitch"):
        _plain(name, p.get(name))
    rows, cols = int(p["numRows"]), int(p["numCols"])
    dv, du = float(p["pixelHeight"]), float(p["pixelWidth"])
    shape = (int(p["numZ"]), int(p["numY"]), int(p["numX"]))
    spacing = (float(p["voxelWidth"]), float(p["voxelWidth"]), float(p["voxelHeight"]))
    center = tuple(float(p.get(f"offset{a}", 0.0)) for a in "XYZ")
    if kind == "modular":
        if p.get("centerRow", (rows - 1) / 2) != (rows - 1) / 2 or p.get("centerCol", (cols - 1) / 2) != (cols - 1) / 2:
            raise ValueError("centerRow and centerCol of a modular beam must be the detector's middle")
        parts = [_table(p[n]).view(-1, 3) for n in ("sourcePositions", "moduleCenters", "colVectors", "rowVectors")]
        vectors = torch.cat([parts[0], parts[1], du * parts[2], dv * parts[3]], 1)
        return cls("cone3d", vectors, (rows, cols), shape, spacing, center)
    angles = torch.deg2rad(_table(p["phis"])) + math.pi / 2
    offset_u = ((cols - 1) / 2 - float(p.get("centerCol", (cols - 1) / 2))) * du
    offset_v = ((rows - 1) / 2 - float(p.get("centerRow", (rows - 1) / 2))) * dv
    place: dict[str, Any] = {"spacing_mm": spacing, "center_mm": center}
    if kind in ("fan", "cone"):
        place |= {"source_origin_mm": float(p["sod"]), "source_detector_mm": float(p["sdd"])}
    if kind == "fan" and rows == 1 and shape[0] == 1:
        place |= {"spacing_mm": spacing[:2], "center_mm": center[:2]}
        return cls.fan2d(angles, cols, du, shape[1:], offset_mm=offset_u, **place)
    if kind == "fan":
        raise ValueError("a fan beam must have one row and one slice; it is 2-D here")
    if kind == "parallel" and rows == 1 and shape[0] == 1:
        place |= {"spacing_mm": spacing[:2], "center_mm": center[:2]}
        return cls.parallel2d(angles, cols, du, shape[1:], offset_mm=offset_u, **place)
    make = cls.parallel3d if kind == "parallel" else cls.cone3d
    return make(angles, (rows, cols), (du, dv), shape, offset_mm=(offset_u, offset_v), **place)


def from_projection_matrices(
    cls: type[CTGeometry],
    matrices: Sequence[Any] | Tensor,
    det_shape: Sequence[int],
    vol_shape: Sequence[int],
    spacing_mm: float | Sequence[float],
    center_mm: float | Sequence[float],
) -> CTGeometry:
    """See :meth:`CTGeometry.from_projection_matrices`."""
    p = _table(matrices)
    if p.ndim != 3 or p.shape[1:] != (3, 4) or not p.shape[0]:
        raise ValueError(f"matrices must be (views, 3, 4) with at least one view, got {tuple(p.shape)}")
    if not bool(p.isfinite().all()):
        raise ValueError("matrices must be finite")
    if bool((torch.linalg.det(p[:, :, :3]) == 0).any()):
        raise ValueError("the left 3x3 part of every matrix must be invertible; parallel beams have no such matrix")
    inverse = torch.linalg.inv(p[:, :, :3])
    center = [float(center_mm)] * 3 if isinstance(center_mm, int | float) else [float(v) for v in center_mm]
    depth = p[:, 2] @ torch.tensor([*center, 1.0], dtype=torch.float64)  # (views,)
    if bool((depth == 0).any()):
        raise ValueError("the centre of the volume must not lie in the plane of a source")
    far = 2 * depth[:, None]
    rows, cols = (int(n) for n in det_shape)
    start = -(inverse @ p[:, :, 3:])[:, :, 0]
    middle = torch.tensor([(cols - 1) / 2, (rows - 1) / 2, 1.0], dtype=torch.float64)
    vectors = torch.cat([start, start + far * (inverse @ middle), far * inverse[:, :, 0], far * inverse[:, :, 1]], 1)
    return cls("cone3d", vectors, (rows, cols), tuple(vol_shape), spacing_mm, center_mm)  # type: ignore[arg-type]
