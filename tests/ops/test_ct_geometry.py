"""CTGeometry: conventions, other packages' geometries in and out, and refusals."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from ct_scans import scans, turn

from medsynth_ext import ops
from medsynth_ext.ops import CTGeometry

FAN = {"source_origin_mm": 60.0, "source_detector_mm": 90.0}


def close(a: CTGeometry, b: CTGeometry) -> None:
    """Same kind, shapes, voxels and vectors."""
    assert (a.kind, a.det_shape, a.vol_shape) == (b.kind, b.det_shape, b.vol_shape)
    assert a.spacing_mm == pytest.approx(b.spacing_mm)
    assert a.center_mm == pytest.approx(b.center_mm)
    torch.testing.assert_close(a.vectors, b.vectors, rtol=0, atol=1e-9)


def test_circular_vectors_are_astras() -> None:
    t = 0.3
    s, c = math.sin(t), math.cos(t)
    parallel = CTGeometry.parallel3d([t], (2, 3), (1.5, 2.0), (4, 4, 4))
    assert parallel.vectors[0].tolist() == pytest.approx([s, -c, 0, 0, 0, 0, 1.5 * c, 1.5 * s, 0, 0, 0, 2.0])
    cone = CTGeometry.cone3d([t], (2, 3), (1.5, 2.0), (4, 4, 4), **FAN)
    assert cone.vectors[0, :6].tolist() == pytest.approx([60 * s, -60 * c, 0, -30 * s, 30 * c, 0])
    fan = CTGeometry.fan2d([t], 3, 1.5, (4, 4), **FAN)
    assert fan.vectors[0].tolist() == pytest.approx([60 * s, -60 * c, -30 * s, 30 * c, 1.5 * c, 1.5 * s])


def test_a_point_is_seen_where_the_table_of_the_scan_says() -> None:
    t, x, y, z = 0.7, 5.0, -8.0, 3.0
    cone = CTGeometry.cone3d([t], (11, 21), (1.5, 2.0), (32, 32, 32), offset_mm=(0.75, -1.0), **FAN)
    distance = 60 - x * math.sin(t) + y * math.cos(t)
    u = 90 * (x * math.cos(t) + y * math.sin(t)) / distance
    v = 90 * z / distance
    col, row, depth = (cone.projection_matrices()[0] @ torch.tensor([x, y, z, 1.0], dtype=torch.float64)).tolist()
    assert depth * 90 == pytest.approx(distance)
    assert col / depth == pytest.approx((u - 0.75) / 1.5 + 10)
    assert row / depth == pytest.approx((v + 1.0) / 2.0 + 5)


def test_voxels_grow_with_the_world_and_matrices_take_their_indices() -> None:
    geometry = CTGeometry.cone3d(
        [0.2, 0.9], (11, 21), 1.5, (5, 6, 7), spacing_mm=(1.0, 2.0, 3.0), center_mm=(4.0, 5.0, 6.0), **FAN
    )
    index = torch.tensor([6.0, 1.0, 0.0, 1.0], dtype=torch.float64)
    world = torch.tensor([4 + 3 * 1.0, 5 - 1.5 * 2.0, 6 - 2 * 3.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(geometry.voxel_matrices() @ index, geometry.projection_matrices() @ world)


@pytest.mark.parametrize("name", list(scans()))
def test_astra_round_trip(name: str) -> None:
    geometry = scans()[name]
    close(CTGeometry.from_astra(*geometry.to_astra()), geometry)


def test_astra_circular_dictionaries() -> None:
    angles = [0.1, 0.2, 0.4]
    flat = {"GridRowCount": 5, "GridColCount": 6, "option": {}}
    solid = {"GridRowCount": 5, "GridColCount": 6, "GridSliceCount": 7, "option": {}}
    fan = {"DistanceOriginSource": 60.0, "DistanceOriginDetector": 30.0, "ProjectionAngles": angles}
    line = {"DetectorWidth": 1.5, "DetectorCount": 8, "ProjectionAngles": angles}
    plane = {"DetectorSpacingX": 1.5, "DetectorSpacingY": 2.0, "DetectorRowCount": 3, "DetectorColCount": 8}
    plane |= {"ProjectionAngles": angles}
    close(CTGeometry.from_astra(flat, {"type": "parallel", **line}), CTGeometry.parallel2d(angles, 8, 1.5, (5, 6)))
    close(
        CTGeometry.from_astra(flat, {"type": "fanflat", **line, **fan}), CTGeometry.fan2d(angles, 8, 1.5, (5, 6), **FAN)
    )
    solid_shape = (7, 5, 6)
    want = CTGeometry.parallel3d(angles, (3, 8), (1.5, 2.0), solid_shape)
    close(CTGeometry.from_astra(solid, {"type": "parallel3d", **plane}), want)
    want = CTGeometry.cone3d(angles, (3, 8), (1.5, 2.0), solid_shape, **FAN)
    got = CTGeometry.from_astra(solid, {"type": "cone", **plane, **fan})
    close(got, want)
    assert got.orbit is not None
    window = {"WindowMinX": 0.0, "WindowMaxX": 12.0, "WindowMinY": -2.0, "WindowMaxY": 3.0}
    moved = CTGeometry.from_astra(flat | {"option": window}, {"type": "parallel", **line})
    assert moved.spacing_mm == (2.0, 1.0)
    assert moved.center_mm == (6.0, 0.5)
    with pytest.raises(ValueError, match="proj_geom must be of type"):
        CTGeometry.from_astra(flat, {"type": "sparse_matrix"})


def test_astras_data_orders() -> None:
    image, volume, projections = torch.rand(3, 4), torch.rand(2, 3, 4), torch.rand(5, 6, 7)
    assert torch.equal(ops.volume_from_astra(image), image.flip(0))
    assert torch.equal(ops.volume_to_astra(ops.volume_from_astra(image)), image)
    assert torch.equal(ops.volume_from_astra(volume), volume)
    assert torch.equal(ops.projections_from_astra(projections), projections.transpose(0, 1))
    assert torch.equal(ops.projections_to_astra(ops.projections_from_astra(projections)), projections)


def tigre(**changes: object) -> SimpleNamespace:
    """A TIGRE geometry object of its usual attributes."""
    values = {
        "mode": "cone",
        "DSO": 60.0,
        "DSD": 90.0,
        "nDetector": [3, 8],
        "dDetector": [2.0, 1.5],
        "nVoxel": [7, 5, 6],
        "dVoxel": [1.0, 2.0, 3.0],
        "offOrigin": [0.5, 0.0, -1.0],
        "offDetector": [1.0, 0.25],
        "COR": 0.0,
        "rotDetector": [0.0, 0.0, 0.0],
    }
    return SimpleNamespace(**(values | changes))


def test_tigres_source_starts_on_x_and_turns_to_y() -> None:
    geometry = CTGeometry.from_tigre(tigre(), [0.0, math.pi / 2])
    start, d, u, v = geometry.frames()
    torch.testing.assert_close(start, torch.tensor([[60.0, 0, 0], [0, 60.0, 0]], dtype=torch.float64))
    torch.testing.assert_close(d, torch.tensor([[-30.0, 0.25, 1.0], [-0.25, -30.0, 1.0]], dtype=torch.float64))
    torch.testing.assert_close(u, torch.tensor([[0, 1.5, 0], [-1.5, 0, 0]], dtype=torch.float64))
    torch.testing.assert_close(v, torch.tensor([[0, 0, 2.0], [0, 0, 2.0]], dtype=torch.float64))
    assert geometry.spacing_mm == (3.0, 2.0, 1.0)
    assert geometry.center_mm == (-1.0, 0.0, 0.5)
    assert geometry.orbit is not None


def test_tigres_euler_angles_and_refusals() -> None:
    plain = CTGeometry.from_tigre(tigre(), [0.3, 0.5])
    close(CTGeometry.from_tigre(tigre(), torch.tensor([[0.3, 0.0, 0.0], [0.5, 0.0, 0.0]], dtype=torch.float64)), plain)
    tilted = CTGeometry.from_tigre(
        tigre(offDetector=None), torch.tensor([[0.0, math.pi / 2, 0.0]], dtype=torch.float64)
    )
    torch.testing.assert_close(tilted.frames()[0], torch.tensor([[0.0, 0.0, -60.0]], dtype=torch.float64))
    assert tilted.orbit is None
    assert CTGeometry.from_tigre(tigre(mode="parallel"), [0.3]).kind == "parallel3d"
    with pytest.raises(ValueError, match="COR"):
        CTGeometry.from_tigre(tigre(COR=1.0), [0.3])
    with pytest.raises(ValueError, match="mode"):
        CTGeometry.from_tigre(tigre(mode="helix"), [0.3])


def leap(**changes: object) -> dict[str, object]:
    """LEAP's parameters."""
    values: dict[str, object] = {"geometry": "cone", "numRows": 3, "numCols": 8, "pixelHeight": 2.0, "pixelWidth": 1.5}
    values |= {"centerRow": 1.0, "centerCol": 3.0, "phis": [0.0, 90.0], "sod": 60.0, "sdd": 90.0}
    values |= {"numX": 6, "numY": 5, "numZ": 7, "voxelWidth": 1.0, "voxelHeight": 2.0, "offsetZ": 3.0}
    return values | changes


def test_leaps_source_starts_on_x_and_its_columns_have_a_centre() -> None:
    geometry = CTGeometry.from_leap(leap())
    start, d, u, _ = geometry.frames()
    torch.testing.assert_close(start, torch.tensor([[60.0, 0, 0], [0, 60.0, 0]], dtype=torch.float64))
    torch.testing.assert_close(u[0], torch.tensor([0, 1.5, 0], dtype=torch.float64))
    torch.testing.assert_close(d[0], torch.tensor([-30.0, 0.75, 0], dtype=torch.float64))  # column 3 on the axis
    assert geometry.center_mm == (0.0, 0.0, 3.0)
    assert geometry.spacing_mm == (1.0, 1.0, 2.0)
    flat = CTGeometry.from_leap(leap(geometry="fan", numRows=1, numZ=1, centerRow=0.0))
    assert (flat.kind, flat.vol_shape, flat.det_shape) == ("fan2d", (5, 6), (8,))
    assert CTGeometry.from_leap(leap(geometry="parallel", numRows=1, numZ=1, centerRow=0.0)).kind == "parallel2d"
    assert CTGeometry.from_leap(leap(geometry="parallel")).kind == "parallel3d"
    for bad in ({"geometry": "curved"}, {"tau": 1.0}, {"helicalPitch": 2.0}, {"geometry": "fan"}):
        with pytest.raises(ValueError, match=next(iter(bad)) if "geometry" not in bad else "fan"):
            CTGeometry.from_leap(leap(**bad))


def test_leaps_modular_beams() -> None:
    want = scans()["any vectors"]
    start, d, u, v = want.frames()
    given = leap(geometry="modular", numRows=20, numCols=23, numX=13, numY=12, numZ=11, voxelHeight=1.0, offsetZ=0.0)
    given |= {"centerRow": 9.5, "centerCol": 11.0, "sourcePositions": start, "moduleCenters": d}
    given |= {"colVectors": u / 1.5, "rowVectors": v / 2.0}
    torch.testing.assert_close(CTGeometry.from_leap(given).vectors, want.vectors)


def test_matrices_give_the_same_rays() -> None:
    geometry = scans()["any vectors"]
    signs = torch.tensor([1.0, -2.0, 3.0, -0.5, 1.0, 1.0, 7.0], dtype=torch.float64)  # a matrix has no scale or sign
    matrices = geometry.projection_matrices() * signs[:, None, None]
    back = CTGeometry.from_projection_matrices(matrices, (20, 23), (11, 12, 13), spacing_mm=(1.0, 1.1, 0.8))
    x = torch.rand(11, 12, 13, dtype=torch.float64)
    torch.testing.assert_close(ops.ct_forward(x, back), ops.ct_forward(x, geometry), rtol=0, atol=1e-10)
    with pytest.raises(ValueError, match=r"\(views, 3, 4\)"):
        CTGeometry.from_projection_matrices(matrices[0], (20, 23), (11, 12, 13))
    with pytest.raises(ValueError, match="invertible"):
        CTGeometry.from_projection_matrices(matrices * 0, (20, 23), (11, 12, 13))


def test_subset_and_short_scan_keep_the_orbit() -> None:
    fan = CTGeometry.fan2d(turn(360), 61, 1.5, (33, 29), **FAN)
    some = fan.subset(slice(10, 20, 2))
    assert torch.equal(some.vectors, fan.vectors[10:20:2])
    assert torch.equal(some.orbit.angles, fan.orbit.angles[10:20:2])
    short = fan.short_scan()
    degrees = 180 + 2 * math.degrees(math.atan(30 * 1.5 / 90))
    assert short.views == math.ceil(degrees)
    with pytest.raises(ValueError, match="a short scan needs"):
        fan.subset(slice(0, 100)).short_scan()
    with pytest.raises(ValueError, match="no orbit"):
        scans()["any vectors"].short_scan()


def cone(**changes: object) -> CTGeometry:
    """A cone geometry of one view with some of its fields changed."""
    values: dict[str, object] = {
        "kind": "cone3d",
        "vectors": torch.tensor([[60.0, 0, 0, -30, 0, 0, 0, 1, 0, 0, 0, 1]], dtype=torch.float64),
        "det_shape": (4, 4),
        "vol_shape": (4, 4, 4),
    }
    return CTGeometry(**(values | changes))  # type: ignore[arg-type]


def changed(**columns: list[float]) -> torch.Tensor:
    """The vectors of that view with s, d, u or v replaced."""
    vectors = cone().vectors.clone()
    for name, value in columns.items():
        vectors[0, 3 * "sduv".index(name) :][:3] = torch.tensor(value, dtype=torch.float64)
    return vectors


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"kind": "cone"}, ValueError, "kind must be one of parallel2d"),
        ({"vectors": [1.0]}, TypeError, "vectors must be a float tensor"),
        ({"vectors": torch.ones(1, 12).long()}, TypeError, "vectors must be a float tensor"),
        ({"vectors": torch.ones(1, 6)}, ValueError, r"vectors must be \(views, 12\)"),
        ({"vectors": torch.ones(0, 12)}, ValueError, "at least one view"),
        ({"vectors": torch.ones(1, 12, requires_grad=True)}, NotImplementedError, "no gradient to the geometry"),
        ({"vectors": changed(s=[math.nan, 0, 0])}, ValueError, "finite"),
        ({"vectors": changed(u=[0, 0, 0])}, ValueError, "u must not be of zero length"),
        ({"vectors": changed(v=[0, 0, 0])}, ValueError, "v must not be of zero length"),
        ({"vectors": changed(v=[0, 2, 0])}, ValueError, "u must not run along v"),
        ({"vectors": changed(s=[-30, 0, 0])}, ValueError, "detector's centre"),
        ({"vectors": changed(s=[-30, 5, 0])}, ValueError, "along the detector"),
        ({"det_shape": (4,)}, ValueError, "det_shape must be 2 positive sizes"),
        ({"vol_shape": (4, 0, 4)}, ValueError, "vol_shape must be 3 positive sizes"),
        ({"spacing_mm": 0.0}, ValueError, "spacing_mm must be positive"),
        ({"spacing_mm": (1.0, -1.0, 1.0)}, ValueError, "spacing_mm must be positive"),
        ({"spacing_mm": (1.0, 1.0)}, ValueError, "spacing_mm must have 3 entries"),
        ({"center_mm": math.inf}, ValueError, "center_mm must be finite"),
        ({"center_mm": (0.0, 0.0, 500.0)}, ValueError, "no view's detector sees the volume"),
        ({"center_mm": (500.0, 0.0, 0.0)}, ValueError, "no view's detector sees the volume"),
    ],
)
def test_bad_fields_are_refused(change: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        cone(**change)


def test_bad_constructor_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="angles must be finite"):
        CTGeometry.parallel2d([], 4, 1.0, (4, 4))
    with pytest.raises(ValueError, match="angles must be finite"):
        CTGeometry.parallel2d([math.nan], 4, 1.0, (4, 4))
    with pytest.raises(ValueError, match="pixel size must be positive"):
        CTGeometry.parallel2d([0.0], 4, 0.0, (4, 4))
    with pytest.raises(ValueError, match="source_origin_mm"):
        CTGeometry.fan2d([0.0], 4, 1.0, (4, 4), source_origin_mm=0.0, source_detector_mm=10.0)
    with pytest.raises(ValueError, match="det_shape"):
        CTGeometry.parallel3d([0.0], (4,), 1.0, (4, 4, 4))


def test_a_source_inside_the_volume_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="source of view 0 lies inside the volume"):
        cone(vectors=changed(s=[1, 0, 0]))


def test_a_geometry_survives_pickling_and_later_changes_of_its_inputs() -> None:
    import copy
    import pickle

    vectors = changed()
    geometry = cone(vectors=vectors)
    for other in (pickle.loads(pickle.dumps(geometry)), copy.deepcopy(geometry)):
        close(other, geometry)
    vectors.zero_()
    assert geometry.vectors.abs().sum() > 0
