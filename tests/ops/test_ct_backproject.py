"""ct_backproject: voxel-driven back-projection and its transpose."""

from __future__ import annotations

import math

import pytest
import torch
from ct_scans import make, scans, turn
from torch.autograd import gradcheck, gradgradcheck

from medsynth_ext import ops
from medsynth_ext._extension import has_operators, use_instruction_set
from medsynth_ext.ops import CTGeometry, reference

needs_kernels = pytest.mark.skipif(not has_operators(), reason="operators are not built")
SCANS = scans()
SCANS["fan2d far"] = CTGeometry.fan2d(
    turn(37), 61, 1.5, (33, 50), source_origin_mm=300.0, source_detector_mm=450.0, offset_mm=0.4
)
SCANS["cone3d far"] = CTGeometry.cone3d(
    turn(19), (20, 23), 1.5, (33, 12, 13), source_origin_mm=300.0, source_detector_mm=450.0, offset_mm=(0.4, 0.3)
)
CASES = [(n, w) for n, g in SCANS.items() for w in ("none", "fdk") if w == "none" or g.orbit is not None]


def rel(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


def test_hand_worked_views(device: torch.device) -> None:
    geometry = CTGeometry.parallel2d([0.0, math.pi / 2], 4, 1.0, (2, 3), spacing_mm=(1.0, 2.0))
    proj = torch.tensor([[1.0, 2.0, 3.0, 4.0], [10.0, 20.0, 30.0, 40.0]], device=device)
    # x = -1, 0, 1 lies at columns 0.5, 1.5, 2.5 of view 0, y = -1, 1 at 0.5, 2.5 of view 1.
    found = ops.ct_backproject(proj, geometry)
    assert found.tolist() == [
        pytest.approx([1.5 + 15, 2.5 + 15, 3.5 + 15]),
        pytest.approx([1.5 + 35, 2.5 + 35, 3.5 + 35]),
    ]
    scaled = ops.ct_backproject(proj, geometry, scale=torch.tensor([2.0, 0.0]))
    assert scaled.tolist() == [pytest.approx([3.0, 5.0, 7.0])] * 2


def test_fdk_weight_is_the_squared_ratio_of_distances(device: torch.device) -> None:
    geometry = CTGeometry.fan2d([0.0], 9, 4.0, (3, 1), source_origin_mm=10.0, source_detector_mm=20.0)
    found = ops.ct_backproject(torch.ones(1, 9, dtype=torch.float64, device=device), geometry, weight="fdk")
    # The source is at y = -10, voxels at y = -1, 0, 1.
    assert found.flatten().tolist() == pytest.approx([(10 / 9) ** 2, 1.0, (10 / 11) ** 2])


@pytest.mark.parametrize("isa", ["base", "avx2", "avx512"])
@pytest.mark.parametrize(("name", "weight"), CASES)
def test_agrees_with_float64_twin(name: str, weight: str, isa: str) -> None:
    geometry = SCANS[name]
    _, y = make(geometry)
    scale = torch.rand(geometry.views, dtype=torch.float64)
    want = reference.ct_backproject(y, geometry, weight=weight, scale=scale)
    with use_instruction_set(isa):
        assert rel(ops.ct_backproject(y, geometry, weight=weight, scale=scale), want) < 1e-12
        assert rel(ops.ct_backproject(y.float(), geometry, weight=weight, scale=scale), want) < 2e-6


@pytest.mark.parametrize("isa", ["base", "avx512"])
@pytest.mark.parametrize(("name", "weight"), CASES)
def test_gradient_is_the_exact_transpose(name: str, weight: str, isa: str, device: torch.device) -> None:
    geometry = SCANS[name]
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-6)):
        x, y = (t.to(device) for t in make(geometry, dtype))
        y.requires_grad_()
        with use_instruction_set(isa):
            by = ops.ct_backproject(y, geometry, weight=weight)
            (back,) = torch.autograd.grad(by, y, x)
        gap = (by.double() * x).sum() - (back.double() * y).sum()
        assert abs(gap.item()) <= tolerance * (by.double().norm() * x.double().norm()).item()


def test_gradients_of_both_orders(device: torch.device) -> None:
    small = CTGeometry.cone3d(turn(2), (3, 4), 2.0, (3, 4, 3), source_origin_mm=20.0, source_detector_mm=30.0)
    y = make(small)[1].to(device).requires_grad_()
    assert gradcheck(lambda t: ops.ct_backproject(t, small, weight="fdk"), (y,), rtol=1e-5)
    assert gradgradcheck(lambda t: ops.ct_backproject(t, small).sin(), (y,), rtol=1e-5)


@pytest.mark.parametrize("name", ["fan2d far", "cone3d far", "any vectors"])
def test_gpu_agrees_with_cpu(name: str, device: torch.device) -> None:
    geometry = SCANS[name]
    x, y = make(geometry, torch.float32)
    results = []
    for place in (torch.device("cpu"), device):
        given = y.to(place).requires_grad_()
        volume = ops.ct_backproject(given, geometry)
        results.append([volume.detach().cpu(), torch.autograd.grad(volume, given, x.to(place))[0].cpu()])
    for a, b in zip(*results, strict=True):
        assert rel(b, a) < 2e-6


@needs_kernels
@pytest.mark.parametrize("name", ["fan2d far", "cone3d far", "any vectors"])
def test_bits_depend_on_neither_threads_nor_batch(name: str) -> None:
    geometry = SCANS[name]
    x, y = make(geometry, torch.float32, (3,))
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            given = y.clone().requires_grad_()
            volume = ops.ct_backproject(given, geometry)
            results.append((volume.detach(), torch.autograd.grad(volume, given, x)[0]))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
    assert torch.equal(results[0][0][1], ops.ct_backproject(y[1], geometry))


def test_meta_empty_out_and_strided_inputs(device: torch.device) -> None:
    geometry = SCANS["cone3d far"]
    x, y = (t.to(device) for t in make(geometry, torch.float32, (2, 1)))
    assert ops.ct_backproject(y.to("meta"), geometry).shape == (2, 1, *geometry.vol_shape)
    assert ops.ct_backproject(y[:0], geometry).shape == (0, 1, *geometry.vol_shape)
    out = torch.empty_like(x)
    assert ops.ct_backproject(y, geometry, out=out) is out
    assert torch.equal(out, ops.ct_backproject(y, geometry))
    assert torch.equal(ops.ct_backproject(y.mT.contiguous().mT, geometry), out)


@needs_kernels
def test_operators_pass_opcheck() -> None:
    geometry = SCANS["cone3d one row"]
    x, y = make(geometry, torch.float32)
    matrices, scale = geometry.matrix_table(x.device), torch.ones(geometry.views, dtype=torch.float64)
    vol, det, _, _ = geometry.padded()
    op = torch.ops.medsynth_ext
    torch.library.opcheck(op.ct_backproject.default, (y, matrices, scale, vol, True))
    torch.library.opcheck(op.ct_backproject.default, (y.clone().requires_grad_(), matrices, scale, vol, False))
    torch.library.opcheck(op.ct_backproject_out.default, (y, matrices, scale, vol, True, torch.empty_like(x)))
    torch.library.opcheck(op.ct_backproject_transposed.default, (x, matrices, scale, det, True))
    torch.library.opcheck(
        op.ct_backproject_transposed.default, (x.clone().requires_grad_(), matrices, scale, det, True)
    )


@needs_kernels
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e30, 1e30, 0.0])
@pytest.mark.parametrize("name", ["fan2d far", "cone3d far", "parallel3d"])
def test_wild_matrices_do_no_harm(name: str, value: float) -> None:
    geometry = SCANS[name]
    x, y = make(geometry, torch.float32)
    scale = torch.ones(geometry.views, dtype=torch.float64)
    vol, det, _, _ = geometry.padded()
    op = torch.ops.medsynth_ext
    for column in range(12):
        matrices = geometry.matrix_table(x.device).clone()
        matrices.view(-1, 12)[::2, column] = value
        for isa in ("base", "avx512"):
            with use_instruction_set(isa):
                op.ct_backproject(y.reshape(-1, geometry.views, *det), matrices, scale, vol, True)
                op.ct_backproject_transposed(x.reshape(-1, *vol), matrices, scale, det, True)


def test_errors_name_the_argument() -> None:
    geometry = SCANS["fan2d"]
    _, y = make(geometry)
    with pytest.raises(ValueError, match="weight must be one of none, fdk"):
        ops.ct_backproject(y, geometry, weight="parker")
    with pytest.raises(ValueError, match="no orbit"):
        ops.ct_backproject(make(SCANS["any vectors"])[1], SCANS["any vectors"], weight="fdk")
    with pytest.raises(ValueError, match=r"scale must be \(8,\)"):
        ops.ct_backproject(y, geometry, scale=torch.ones(3))
    with pytest.raises(NotImplementedError, match="scale"):
        ops.ct_backproject(y, geometry, scale=torch.ones(8, requires_grad=True))
    with pytest.raises(ValueError, match="proj must be"):
        ops.ct_backproject(y[..., 1:], geometry)
    with pytest.raises(RuntimeError, match="out="):
        ops.ct_backproject(y.requires_grad_(), geometry, out=torch.empty(2, 33, 29, dtype=torch.float64))
