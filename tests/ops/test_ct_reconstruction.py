"""ct_filter, fbp and fdk: the ramp, constants inside ellipsoids, weights of short scans, gradients."""

from __future__ import annotations

import functools
import json
import math
import os
import subprocess
import sys

import pytest
import torch
from ct_scans import ellipsoid_lines, make, scans, turn
from torch.autograd import gradcheck, gradgradcheck

from medsynth_ext import ops
from medsynth_ext.ops import CTGeometry, ct_reconstruction, reference
from medsynth_ext.ops.ct_reconstruction import WINDOWS

MU = 0.02
FAR = {"source_origin_mm": 600.0, "source_detector_mm": 1000.0}
SHORT_FAN = CTGeometry.fan2d(turn(360), 61, 3.0, (24, 20), spacing_mm=4.0, **FAR).short_scan()


def rel(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


def inside(geometry: CTGeometry, center: tuple[float, ...], axes: tuple[float, ...]) -> torch.Tensor:
    """The voxels well inside an ellipsoid."""
    grids = [
        c + (torch.arange(n).double() - (n - 1) / 2) * s
        for n, s, c in zip(geometry.vol_shape, geometry.spacing_mm[::-1], geometry.center_mm[::-1], strict=True)
    ]
    place = torch.meshgrid(*grids, indexing="ij")
    return sum(((p - c) / a) ** 2 for p, c, a in zip(place, center[::-1], axes[::-1], strict=True)) < 0.75


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("cutoff", [1.0, 0.6])
@pytest.mark.parametrize("cols", [1, 2, 7, 64])
def test_filter_agrees_with_dense_matrix(window: str, cutoff: float, cols: int, device: torch.device) -> None:
    proj = torch.rand(2, 3, cols, dtype=torch.float64, device=device)
    want = reference.ct_filter(proj, 0.7, window=window, cutoff=cutoff)
    torch.testing.assert_close(ops.ct_filter(proj, 0.7, window=window, cutoff=cutoff), want, rtol=0, atol=1e-12)
    assert rel(ops.ct_filter(proj.float(), 0.7, window=window, cutoff=cutoff), want) < 2e-6


def test_filter_is_the_band_limited_ramp_and_its_own_adjoint() -> None:
    tau = 0.5
    found = ops.ct_filter(torch.eye(9, dtype=torch.float64)[4], tau)
    want = [
        tau * (1 / (4 * tau**2) if n == 0 else 0 if n % 2 == 0 else -1 / (math.pi * n * tau) ** 2) for n in range(-4, 5)
    ]
    assert found.tolist() == pytest.approx(want)
    x, y = torch.rand(2, 5, 33, dtype=torch.float64)
    for window in WINDOWS:
        left = (ops.ct_filter(x, 1.3, window=window) * y).sum().item()
        assert left == pytest.approx((ops.ct_filter(y, 1.3, window=window) * x).sum().item(), rel=1e-12)


def test_a_long_filter_by_pieces_is_the_same_as_line_by_line() -> None:
    proj = torch.rand(600, 700)
    assert torch.equal(ops.ct_filter(proj, 1.0)[599], ops.ct_filter(proj[599], 1.0))


@pytest.mark.parametrize(
    "geometry",
    [
        CTGeometry.parallel2d(turn(360, math.pi), 201, 1.0, (128, 120)),
        CTGeometry.parallel2d(turn(180, -2 * math.pi), 201, 1.0, (64, 64), spacing_mm=(1.9, 2.1), offset_mm=0.25),
        CTGeometry.fan2d(turn(360), 301, 1.2, (128, 120), **FAR),
        CTGeometry.fan2d(turn(360), 301, 1.2, (128, 120), **FAR).short_scan(),
        CTGeometry.fan2d(turn(300, -1.7 * math.pi), 301, 1.2, (128, 120), **FAR),
        CTGeometry.parallel2d(turn(300, 1.5 * math.pi), 201, 1.0, (128, 120)),
        CTGeometry.fan2d(turn(720, 4 * math.pi), 301, 1.2, (64, 60), spacing_mm=2.0, offset_mm=0.4, **FAR),
    ],
    ids=["half turn", "full turn back", "fan", "fan short", "fan 306 back", "parallel 270", "two turns"],
)
def test_ellipse_has_its_value_again(geometry: CTGeometry) -> None:
    shape = ((3.0, -5.0), (50.0, 35.0))
    found = ops.fbp(MU * ellipsoid_lines(geometry, *shape), geometry)[inside(geometry, *shape)]
    assert found.mean().item() == pytest.approx(MU, rel=5e-4)
    assert found.std().item() < 5e-4 * MU * 2


@pytest.mark.parametrize("short", [False, True])
def test_ellipsoid_has_its_value_again(short: bool) -> None:
    shape = ((2.0, -3.0, 1.0), (40.0, 30.0, 25.0))
    geometry = CTGeometry.cone3d(turn(360), (80, 160), 1.4, (24, 48, 48), spacing_mm=(2.0, 2.0, 2.0), **FAR)
    geometry = geometry.short_scan() if short else geometry
    found = ops.fdk((MU * ellipsoid_lines(geometry, *shape)).float(), geometry)[inside(geometry, *shape)]
    assert found.mean().item() == pytest.approx(MU, rel=2e-3)


def test_parallel_slices_are_slices() -> None:
    solid = CTGeometry.parallel3d(turn(90, math.pi), (5, 65), (1.0, 1.0), (5, 32, 32))
    flat = CTGeometry.parallel2d(turn(90, math.pi), 65, 1.0, (32, 32))
    proj = torch.rand(90, 5, 65)
    found = ops.fbp(proj, solid)
    for z in range(5):
        torch.testing.assert_close(found[z], ops.fbp(proj[:, z], flat), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["parallel2d", "parallel3d", "fan2d", "cone3d"])
@pytest.mark.parametrize("window", ["ram-lak", "hamming"])
def test_agrees_with_textbook_twin(name: str, window: str, device: torch.device) -> None:
    geometry = scans()[name]
    _, y = make(geometry)
    method = ops.fdk if name == "cone3d" else ops.fbp
    want = reference.fdk(y, geometry, window=window, cutoff=0.8)
    found = method(y.to(device), geometry, window=window, cutoff=0.8).cpu()
    torch.testing.assert_close(found, want, rtol=0, atol=1e-12)
    assert rel(method(y.float().to(device), geometry, window=window, cutoff=0.8).cpu(), want) < 5e-6


@pytest.mark.parametrize("arc", [1.5 * math.pi, -1.3 * math.pi])
def test_short_scans_agree_with_textbook_twin(arc: float) -> None:
    geometry = CTGeometry.fan2d(turn(40, arc), 31, 2.0, (20, 22), **FAR)
    _, y = make(geometry)
    want = reference.fbp(y, geometry, short=True)
    torch.testing.assert_close(ops.fbp(y, geometry), want, rtol=0, atol=1e-12)


def test_weights_of_the_two_rays_of_a_line_add_up_to_one() -> None:
    views = 7200
    geometry = CTGeometry.fan2d(turn(views, 1.4 * math.pi), 41, 8.0, (20, 22), **FAR)
    weights = ops.short_scan_weights(geometry)
    orbit = geometry.orbit
    gamma = -torch.atan(orbit.columns_mm(41) / orbit.source_detector_mm)
    step = 1.4 * math.pi / views
    checked = 0
    for col in range(41):
        for view in range(0, views, 97):
            other = view + (math.pi + 2 * float(gamma[col])) / step  # the same line from the other side
            if other > views - 2:
                continue
            low = int(other)
            back = weights[low, 40 - col] + (other - low) * (weights[low + 1, 40 - col] - weights[low, 40 - col])
            assert weights[view, col].item() + back.item() == pytest.approx(1.0, abs=2e-3)
            checked += 1
    assert checked > 500


@pytest.mark.parametrize("window", ["ram-lak", "hann"])
def test_gradcheck_of_the_whole_reconstruction(window: str, device: torch.device) -> None:
    cone = CTGeometry.cone3d(turn(4), (4, 6), 2.0, (6, 6, 6), source_origin_mm=20.0, source_detector_mm=30.0)
    fan = CTGeometry.fan2d(turn(6, 1.9 * math.pi), 6, 2.0, (6, 6), source_origin_mm=20.0, source_detector_mm=30.0)
    line = CTGeometry.parallel2d(turn(4, math.pi), 6, 1.0, (6, 6))
    for method, geometry in ((ops.fdk, cone), (ops.fbp, fan), (ops.fbp, line)):
        y = make(geometry, batch=())[1].to(device).requires_grad_()
        assert gradcheck(lambda t, m=method, g=geometry: m(t, g, window=window), (y,), rtol=1e-5)
    assert gradgradcheck(
        lambda t: ops.fdk(t, cone).sin(), make(cone, batch=())[1].to(device).requires_grad_(), rtol=1e-5
    )


def test_padded_rows_repeat_the_outermost() -> None:
    geometry = CTGeometry.cone3d(turn(40), (8, 64), 2.0, (32, 16, 16), source_origin_mm=100.0, source_detector_mm=150.0)
    proj = torch.ones(40, 8, 64)
    plain, padded = ops.fdk(proj, geometry), ops.fdk(proj, geometry, pad_rows=24)
    assert plain[0].abs().max() == 0
    assert padded[0].abs().min() > 0
    torch.testing.assert_close(padded[16], plain[16])


def test_angles_out_of_order_and_uneven() -> None:
    shape = ((3.0, -5.0), (50.0, 35.0))
    mixed = torch.randperm(360, generator=torch.Generator().manual_seed(0))
    geometry = CTGeometry.parallel2d(turn(360, math.pi), 201, 1.0, (64, 60), spacing_mm=2.0)
    proj = MU * ellipsoid_lines(geometry, *shape)
    torch.testing.assert_close(
        ops.fbp(proj[mixed], geometry.subset(mixed)), ops.fbp(proj, geometry), rtol=0, atol=1e-12
    )
    angles = turn(360, math.pi) + 0.012 * torch.sin(turn(360) * 5)
    uneven = CTGeometry.parallel2d(angles, 201, 1.0, (64, 60), spacing_mm=2.0)
    with pytest.warns(UserWarning, match="not equidistant"):
        found = ops.fbp(MU * ellipsoid_lines(uneven, *shape), uneven)[inside(uneven, *shape)]
    assert found.mean().item() == pytest.approx(MU, rel=2e-3)


def test_limited_arcs_need_consent() -> None:
    fan = CTGeometry.fan2d(turn(100, 1.05 * math.pi), 31, 10.0, (20, 22), **FAR)
    _, y = make(fan)
    with pytest.raises(ValueError, match=r"covers 189\.0 degrees, but 197"):
        ops.fbp(y, fan)
    assert ops.fbp(y, fan, allow_limited=True).isfinite().all()
    line = CTGeometry.parallel2d(turn(100, 2.0), 31, 1.0, (20, 22))
    with pytest.raises(ValueError, match="allow_limited=True"):
        ops.fbp(make(line)[1], line)
    with pytest.raises(ValueError, match="no whole number of turns"):
        ops.fbp(y, CTGeometry.fan2d(turn(100, 2.5 * math.pi), 31, 10.0, (20, 22), **FAR))


def test_meta_empty_out_and_batches(device: torch.device) -> None:
    geometry = scans()["cone3d"]
    _, y = make(geometry, torch.float32, (2, 1))
    y = y.to(device)
    assert ops.fdk(y.to("meta"), geometry).shape == (2, 1, *geometry.vol_shape)
    assert ops.fdk(y[:0], geometry).shape == (0, 1, *geometry.vol_shape)
    out = torch.empty(2, 1, *geometry.vol_shape, device=device)
    assert ops.fdk(y, geometry, out=out) is out
    torch.testing.assert_close(ops.fdk(y[1], geometry), out[1])
    want = ops.ct_filter(y, 1.0)
    assert ops.ct_filter(y, 1.0, out=y) is y
    assert torch.equal(y, want)


@pytest.mark.parametrize("geometry", [scans()["cone3d"], SHORT_FAN, scans()["parallel3d"]], ids=lambda g: g.kind)
def test_some_views_at_a_time_are_the_whole(geometry: CTGeometry, monkeypatch: pytest.MonkeyPatch) -> None:
    _, y = make(geometry, torch.float64, (2, 1))
    method = functools.partial(ops.fdk, pad_rows=1) if geometry.kind == "cone3d" else ops.fbp
    whole = method(y, geometry)
    monkeypatch.setattr(ct_reconstruction, "_SAMPLES", 2 * math.prod(geometry.det_shape))
    torch.testing.assert_close(method(y, geometry), whole, rtol=0, atol=1e-12)
    out = torch.empty_like(whole)
    assert method(y, geometry, out=out) is out
    torch.testing.assert_close(out, whole, rtol=0, atol=1e-12)


def scratch_mib(kind: str, views: int) -> float:
    """Memory of one reconstruction beyond its scan and its result, with few samples filtered at a time."""
    from benchmarks.memory import extra_peak_mib

    ct_reconstruction._SAMPLES = 1 << 18
    if kind == "cone3d":
        angles, method = turn(views), ops.fdk
        geometry = CTGeometry.cone3d(angles, (48, 48), 3.0, (24, 24, 24), spacing_mm=2.0, **FAR)
    else:
        angles, method = turn(views, math.pi), ops.fbp
        geometry = CTGeometry.parallel2d(angles, 1024, 0.1, (64, 64))
    y, out = torch.ones(geometry.proj_shape), torch.empty(geometry.vol_shape)
    method(y, geometry, out=out)
    cpu = torch.device("cpu")
    found = [extra_peak_mib(lambda: method(y, geometry, out=out), cpu) or math.inf for _ in range(3)]
    return min(found)  # whatever else the process does only adds to it


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize("kind", ["parallel2d", "cone3d"])
def test_scratch_of_a_reconstruction_does_not_grow_with_the_number_of_views(kind: str) -> None:
    # In a process of its own: in one that has run thousands of tests a peak depends on the holes in its heap.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, __file__, kind], env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    few, many = json.loads(run.stdout)
    assert many <= few + 1.0


@pytest.mark.parametrize("name", ["parallel2d", "fan2d", "cone3d"])
def test_compiles_without_graph_break(name: str) -> None:
    geometry = scans()[name]
    _, y = make(geometry, torch.float32)
    if name == "cone3d":
        call = functools.partial(ops.fdk, geometry=geometry, allow_limited=True, pad_rows=2)
    else:
        call = functools.partial(ops.fbp, geometry=geometry, allow_limited=True)
    compiled = torch.compile(lambda t: call(t) * 2, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(y), 2 * call(y))


def test_errors_name_the_argument() -> None:
    cone, free = scans()["cone3d"], scans()["any vectors"]
    fan, line = scans()["fan2d"], torch.zeros(4, 8)
    with pytest.raises(TypeError, match="proj must be float16"):
        ops.ct_filter(line.long(), 1.0)
    with pytest.raises(ValueError, match="proj must be"):
        ops.ct_filter(torch.zeros(()), 1.0)
    with pytest.raises(ValueError, match="tau must be positive"):
        ops.ct_filter(line, 0.0)
    with pytest.raises(ValueError, match="window must be one of ram-lak"):
        ops.ct_filter(line, 1.0, window="parzen")
    with pytest.raises(ValueError, match="out must have shape"):
        ops.ct_filter(line, 1.0, out=torch.zeros(3))
    with pytest.raises(ValueError, match="cutoff must be in"):
        ops.ct_filter(line, 1.0, cutoff=1.5)
    with pytest.raises(ValueError, match="use fdk"):
        ops.fbp(make(cone)[1], cone)
    with pytest.raises(ValueError, match="use fbp"):
        ops.fdk(make(fan)[1], fan)
    with pytest.raises(ValueError, match="iteratively"):
        ops.fdk(make(free)[1], free)
    with pytest.raises(ValueError, match="pad_rows"):
        ops.fdk(make(cone)[1], cone, pad_rows=-1)
    twice = CTGeometry.parallel2d([0.0, 0.5, 0.5, 1.0], 4, 1.0, (4, 4))
    with pytest.raises(ValueError, match="same angle"):
        ops.fbp(torch.zeros(4, 4), twice)
    with pytest.raises(RuntimeError, match="out="):
        ops.fdk(make(cone)[1].requires_grad_(), cone, out=torch.empty(2, *cone.vol_shape, dtype=torch.float64))
    with pytest.raises(ValueError, match="the arc must be from"):
        ops.short_scan_weights(CTGeometry.fan2d(turn(10, 2.0), 8, 1.0, (4, 4), **FAR))
    with pytest.raises(ValueError, match="no orbit"):
        ops.short_scan_weights(free)


if __name__ == "__main__":
    print(json.dumps([scratch_mib(sys.argv[1], views) for views in (400, 2000)]))
