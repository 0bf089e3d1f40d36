"""ct_forward and ct_adjoint: line integrals and their exact transpose, in every geometry."""

from __future__ import annotations

import math

import pytest
import torch
from ct_scans import ellipsoid, ellipsoid_lines, make, scans, turn
from torch.autograd import gradcheck, gradgradcheck

from medsynth_ext import ops
from medsynth_ext._extension import has_operators, use_instruction_set
from medsynth_ext.ops import CTGeometry, reference

needs_kernels = pytest.mark.skipif(not has_operators(), reason="operators are not built")
MODELS = ["joseph", "siddon"]
SCANS = scans()
# Siddon's rays along walls between voxels belong to either side; these scans have none.
SIDDON_SCANS = [name for name in SCANS if name != "parallel2d along the axes"]
CASES = [(name, "joseph") for name in SCANS] + [(name, "siddon") for name in SIDDON_SCANS]


def rel(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


def largest(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a.double() - b.double()).abs().max() / b.double().abs().max()).item()


def test_hand_worked_parallel_sums(device: torch.device) -> None:
    image = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], device=device)
    # At angle 0 rays run along y and columns along x; at 90 degrees rays run along x and columns along y.
    geometry = CTGeometry.parallel2d([0.0, math.pi / 2], 4, 1.0, (2, 3), spacing_mm=(1.0, 2.0))
    found = ops.ct_forward(image, geometry)
    # Columns at x = -1.5, -0.5, 0.5, 1.5 (half way between voxels, half outside); 2 mm a voxel.
    assert found[0].tolist() == pytest.approx([2 * 2.5, 2 * 6.0, 2 * 8.0, 2 * 4.5])
    # y = -1.5, -0.5, 0.5, 1.5; rows of voxels at -1 and 1.
    assert found[1].tolist() == pytest.approx([0.75 * 6, 0.75 * 6 + 0.25 * 15, 0.25 * 6 + 0.75 * 15, 0.75 * 15])


def test_hand_worked_diagonal_ray(device: torch.device) -> None:
    image = torch.ones(3, 3, device=device)
    geometry = CTGeometry.parallel2d([math.pi / 4], 1, 1.0, (3, 3))
    for model in MODELS:
        assert ops.ct_forward(image, geometry, model=model).item() == pytest.approx(3 * math.sqrt(2))


def test_siddon_of_ones_is_the_length_inside_the_volume() -> None:
    geometry = SCANS["cone3d"]
    ones = torch.ones(geometry.vol_shape, dtype=torch.float64)
    start, d, u, v = geometry.frames()
    rows, cols = geometry.det_shape
    row = torch.arange(rows).double()[:, None, None] - (rows - 1) / 2
    col = torch.arange(cols).double()[:, None] - (cols - 1) / 2
    w = d[:, None, None] + row * v[:, None, None] + col * u[:, None, None] - start[:, None, None]
    middle = torch.tensor(geometry.center_mm, dtype=torch.float64)
    edges = [n * s / 2 for n, s in zip(geometry.vol_shape[::-1], geometry.spacing_mm, strict=True)]
    half = torch.tensor(edges, dtype=torch.float64)
    near = (middle - half - start)[:, None, None] / w
    far = (middle + half - start)[:, None, None] / w
    enter, leave = torch.minimum(near, far).amax(-1), torch.maximum(near, far).amin(-1)
    want = (leave - enter).clamp_min(0) * w.norm(dim=-1)
    torch.testing.assert_close(ops.ct_forward(ones, geometry, model="siddon"), want, rtol=0, atol=1e-9)


@pytest.mark.parametrize("isa", ["base", "avx2", "avx512"])
@pytest.mark.parametrize(("name", "model"), CASES)
def test_agrees_with_float64_twin(name: str, model: str, isa: str) -> None:
    geometry = SCANS[name]
    x, y = make(geometry)
    want, want_back = (reference.ct_forward(x, geometry, model=model), reference.ct_adjoint(y, geometry, model=model))
    with use_instruction_set(isa):
        assert rel(ops.ct_forward(x, geometry, model=model), want) < 1e-13
        assert rel(ops.ct_adjoint(y, geometry, model=model), want_back) < 1e-13
        single = ops.ct_forward(x.float(), geometry, model=model)
        back = ops.ct_adjoint(y.float(), geometry, model=model)
    assert rel(single, want) < 2e-6
    assert rel(back, want_back) < 2e-6
    assert max(largest(single, want), largest(back, want_back)) < (2e-5 if model == "siddon" else 1e-5)


@pytest.mark.parametrize("isa", ["base", "avx512"])
@pytest.mark.parametrize(("name", "model"), CASES)
def test_adjoint_is_the_exact_transpose(name: str, model: str, isa: str, device: torch.device) -> None:
    geometry = SCANS[name]
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-6)):
        x, y = (t.to(device) for t in make(geometry, dtype))
        with use_instruction_set(isa):
            ax, aty = ops.ct_forward(x, geometry, model=model), ops.ct_adjoint(y, geometry, model=model)
        gap = (ax.double() * y).sum() - (aty.double() * x).sum()
        assert abs(gap.item()) <= tolerance * (ax.double().norm() * y.double().norm()).item()


@pytest.mark.parametrize("name", ["parallel2d", "fan2d", "cone3d", "cone3d steep"])
def test_every_row_of_the_matrix_is_transposed(name: str) -> None:
    geometry = SCANS[name]
    pixels = torch.zeros(5, *geometry.proj_shape)
    where = torch.linspace(0, pixels[0].numel() - 1, 5).long()
    pixels.view(5, -1)[torch.arange(5), where] = 1.0
    rows = ops.ct_adjoint(pixels, geometry)
    x = make(geometry, torch.float32, ())[0]
    values = ops.ct_forward(x, geometry).flatten()[where]
    torch.testing.assert_close((rows * x).flatten(1).sum(1), values, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["parallel2d", "fan2d", "cone3d", "any vectors"])
def test_gpu_agrees_with_cpu(name: str, device: torch.device) -> None:
    geometry = SCANS[name]
    x, y = make(geometry, torch.float32)
    for model in MODELS:
        assert (
            largest(ops.ct_forward(x.to(device), geometry, model=model).cpu(), ops.ct_forward(x, geometry, model=model))
            < 2e-5
        )
        assert (
            largest(ops.ct_adjoint(y.to(device), geometry, model=model).cpu(), ops.ct_adjoint(y, geometry, model=model))
            < 2e-5
        )


@pytest.mark.parametrize("model", MODELS)
def test_ellipse_gives_its_chords(model: str) -> None:
    for geometry in (
        CTGeometry.parallel2d(turn(12, math.pi), 180, 0.9, (128, 128)),
        CTGeometry.fan2d(turn(12), 180, 1.4, (128, 128), source_origin_mm=300.0, source_detector_mm=450.0),
    ):
        shape = ((6.0, -4.0), (45.0, 30.0))
        found = ops.ct_forward(ellipsoid(geometry, *shape), geometry, model=model)
        assert rel(found, ellipsoid_lines(geometry, *shape)) < 0.01


def test_ellipsoid_gives_its_chords() -> None:
    shape = ((3.0, -4.0, 2.0), (40.0, 30.0, 35.0))
    distances = {"source_origin_mm": 300.0, "source_detector_mm": 450.0}
    cone = CTGeometry.cone3d(turn(3), (64, 64), 2.4, (128, 128, 128), spacing_mm=0.75, **distances)
    parallel = CTGeometry.parallel3d(turn(3, math.pi), (64, 64), 1.7, (128, 128, 128), spacing_mm=0.75)
    volume = ellipsoid(cone, *shape, fine=2).float()
    for geometry in (cone, parallel):
        assert rel(ops.ct_forward(volume, geometry), ellipsoid_lines(geometry, *shape)) < 0.01


@pytest.mark.parametrize("name", ["parallel2d", "fan2d", "cone3d"])
@pytest.mark.parametrize("model", MODELS)
def test_gradients_of_both_orders(name: str, model: str, device: torch.device) -> None:
    small = {
        "parallel2d": CTGeometry.parallel2d(turn(3, math.pi), 6, 1.0, (4, 5)),
        "fan2d": CTGeometry.fan2d(turn(3), 6, 2.0, (4, 5), source_origin_mm=20.0, source_detector_mm=30.0),
        "cone3d": CTGeometry.cone3d(turn(2), (3, 4), 2.0, (3, 4, 3), source_origin_mm=20.0, source_detector_mm=30.0),
    }[name]
    x, y = (t.to(device).requires_grad_() for t in make(small))
    assert gradcheck(lambda t: ops.ct_forward(t, small, model=model), (x,), rtol=1e-5)
    assert gradcheck(lambda t: ops.ct_adjoint(t, small, model=model), (y,), rtol=1e-5)
    assert gradgradcheck(lambda t: ops.ct_forward(t, small, model=model).sin(), (x,), rtol=1e-5)


@needs_kernels
@pytest.mark.parametrize("name", ["parallel2d", "fan2d fine", "cone3d", "cone3d steep", "any vectors"])
def test_bits_depend_on_neither_threads_nor_batch(name: str) -> None:
    geometry = SCANS[name]
    x, y = make(geometry, torch.float32, (3, 2))
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append((ops.ct_forward(x, geometry), ops.ct_adjoint(y, geometry)))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
    assert torch.equal(results[0][0][1, 1], ops.ct_forward(x[1, 1], geometry))
    assert torch.equal(results[0][1][2, 0], ops.ct_adjoint(y[2, 0], geometry))


def test_views_are_independent_of_each_other() -> None:
    geometry = SCANS["fan2d"]
    x, _ = make(geometry, torch.float32)
    some = geometry.subset([5, 2])
    assert torch.equal(ops.ct_forward(x, some), ops.ct_forward(x, geometry)[:, [5, 2]])


@pytest.mark.parametrize("operator", ["ct_forward", "ct_adjoint", "ct_backproject"])
@pytest.mark.parametrize("kind", ["parallel2d", "cone3d"])
def test_scratch_does_not_grow_with_the_number_of_views(kind: str, operator: str) -> None:
    memory = pytest.importorskip("benchmarks.memory")

    def peak(views: int) -> float:
        if kind == "cone3d":
            far = {"source_origin_mm": 100.0, "source_detector_mm": 150.0}
            geometry = CTGeometry.cone3d(turn(views), (16, 24), 2.0, (16, 16, 16), **far)
        else:
            geometry = CTGeometry.parallel2d(turn(views, math.pi), 64, 1.0, (128, 128))
        to_volume = operator != "ct_forward"
        shapes = (geometry.proj_shape, geometry.vol_shape)
        source, out = torch.ones(shapes[not to_volume]), torch.empty(shapes[to_volume])
        run = getattr(ops, operator)
        run(source, geometry, out=out)
        found = memory.extra_peak_mib(lambda: run(source, geometry, out=out), torch.device("cpu"))
        assert found is not None
        return found

    assert peak(2000) <= peak(100) + 1.0


def test_source_inside_the_volume_counts_what_lies_ahead(device: torch.device) -> None:
    with pytest.warns(UserWarning, match="source of view 0 lies inside"):
        geometry = CTGeometry.fan2d([0.0], 1, 1.0, (9, 9), source_origin_mm=2.5, source_detector_mm=20.0)
    # The source is at y = -2.5 and looks up: rows of voxels at -2, -1, ..., 4 lie ahead.
    for dtype in (torch.float32, torch.float64):
        assert ops.ct_forward(torch.ones(9, 9, dtype=dtype, device=device), geometry).item() == pytest.approx(7.0)
    x, y = make(geometry)
    assert (ops.ct_forward(x, geometry) * y).sum().item() == pytest.approx(
        (ops.ct_adjoint(y, geometry) * x).sum().item()
    )


def test_meta_empty_out_and_strided_inputs(device: torch.device) -> None:
    geometry = SCANS["fan2d"]
    x, y = (t.to(device) for t in make(geometry, torch.float32, (2, 1)))
    assert ops.ct_forward(x.to("meta"), geometry).shape == (2, 1, *geometry.proj_shape)
    assert ops.ct_adjoint(y.to("meta"), geometry).shape == (2, 1, *geometry.vol_shape)
    assert ops.ct_forward(x[:0], geometry).shape == (0, 1, *geometry.proj_shape)
    assert ops.ct_adjoint(y[:0], geometry).shape == (0, 1, *geometry.vol_shape)
    out, back = torch.empty_like(y), torch.empty_like(x)
    assert ops.ct_forward(x, geometry, out=out) is out
    assert ops.ct_adjoint(y, geometry, out=back) is back
    assert torch.equal(out, ops.ct_forward(x, geometry))
    assert torch.equal(back, ops.ct_adjoint(y, geometry))
    assert torch.equal(ops.ct_forward(x.mT.contiguous().mT, geometry), out)
    assert torch.equal(ops.ct_adjoint(y.mT.contiguous().mT, geometry), back)


@pytest.mark.parametrize("name", ["fan2d", "cone3d"])
def test_not_finite_values_stay_where_rays_go(name: str, device: torch.device) -> None:
    geometry = SCANS[name]
    x, _ = make(geometry, torch.float32, ())
    x = x.to(device)
    clean = ops.ct_forward(x, geometry)
    x.view(-1)[x.numel() // 2] = float("nan")
    found = ops.ct_forward(x, geometry)
    touched = ops.ct_forward((x.isnan()).float(), geometry) > 0
    assert bool(found[touched].isnan().all())
    assert float(found.isnan().float().mean()) < 0.5
    torch.testing.assert_close(found[~found.isnan()], clean[~found.isnan()])


@needs_kernels
def test_operators_pass_opcheck() -> None:
    geometry = SCANS["cone3d one row"]
    x, y = make(geometry, torch.float32, (2,))
    table = geometry.frame_table(x.device)
    vol, det, spacing, center = geometry.padded()
    op = torch.ops.medsynth_ext
    tail = (spacing, center, True, False, False)
    torch.library.opcheck(op.ct_forward.default, (x, table, det, *tail))
    torch.library.opcheck(op.ct_forward.default, (x.clone().requires_grad_(), table, det, *tail))
    torch.library.opcheck(op.ct_forward_out.default, (x, table, det, *tail, torch.empty_like(y)))
    torch.library.opcheck(op.ct_adjoint.default, (y, table, vol, *tail))
    torch.library.opcheck(op.ct_adjoint.default, (y.clone().requires_grad_(), table, vol, *tail))
    torch.library.opcheck(op.ct_adjoint_out.default, (y, table, vol, *tail, torch.empty_like(x)))


@needs_kernels
def test_the_door_refuses_what_memory_could_not_bear() -> None:
    geometry = SCANS["cone3d one row"]
    x, _ = make(geometry, torch.float32)
    table = geometry.frame_table(x.device)
    _, det, spacing, center = geometry.padded()
    op = torch.ops.medsynth_ext.ct_forward
    for bad in (
        (x[0], table, det, spacing, center, True, False, False),
        (x, table[:, :6], det, spacing, center, True, False, False),
        (x, table[:0], det, spacing, center, True, False, False),
        (x, table.float(), det, spacing, center, True, False, False),
        (x, table, [0, 4], spacing, center, True, False, False),
        (x, table, det, [1.0, 0.0, 1.0], center, True, False, False),
        (x, table, det, spacing, center[:2], True, False, False),
        (x, table, det, spacing, center, True, True, False),
        (x.long(), table, det, spacing, center, True, False, False),
    ):
        with pytest.raises(RuntimeError):
            op(*bad)


@needs_kernels
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30, 1e-30, 0.0])
@pytest.mark.parametrize("name", ["fan2d", "cone3d", "parallel3d"])
def test_wild_vectors_do_no_harm(name: str, value: float) -> None:
    geometry = SCANS[name]
    x, y = make(geometry, torch.float32)
    vol, det, spacing, center = geometry.padded()
    op = torch.ops.medsynth_ext
    for column in range(12):
        table = geometry.frame_table(x.device).clone()
        table[::2, column] = value
        for dtype in (torch.float32, torch.float64):
            tail = (spacing, center, geometry.diverging, geometry.dims == 2, False)
            for isa in ("base", "avx512"):
                with use_instruction_set(isa):
                    op.ct_forward(x.to(dtype).reshape(-1, *vol), table, det, *tail)
                    op.ct_adjoint(y.to(dtype).reshape(-1, geometry.views, *det), table, vol, *tail)


def test_compiles_without_graph_break() -> None:
    geometry = SCANS["fan2d"]
    x, _ = make(geometry, torch.float32)
    compiled = torch.compile(lambda t: 2 * ops.ct_forward(t, geometry), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), 2 * ops.ct_forward(x, geometry))


def test_errors_name_the_argument() -> None:
    geometry = SCANS["fan2d"]
    x, y = make(geometry)
    with pytest.raises(TypeError, match="geometry must be a CTGeometry"):
        ops.ct_forward(x, geometry.vectors)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="vol must be float16"):
        ops.ct_forward(x.long(), geometry)
    with pytest.raises(TypeError, match="proj must be a tensor"):
        ops.ct_adjoint([1.0], geometry)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"vol must be \(..., 33, 29\)"):
        ops.ct_forward(x[..., 1:], geometry)
    with pytest.raises(ValueError, match=r"proj must be \(..., 8, 61\)"):
        ops.ct_adjoint(y[:, 1:], geometry)
    with pytest.raises(ValueError, match="model must be one of joseph, siddon"):
        ops.ct_forward(x, geometry, model="strip")
    with pytest.raises(ValueError, match="out must have shape"):
        ops.ct_forward(x, geometry, out=torch.empty(3, dtype=torch.float64))
    with pytest.raises(RuntimeError, match="out="):
        ops.ct_forward(x.requires_grad_(), geometry, out=torch.empty_like(y))
