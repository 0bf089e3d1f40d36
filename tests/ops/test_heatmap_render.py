"""Rendered heatmaps: worked values, the cards' vectors, gradients, overlaps, reproducibility and refusals."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch

from medsynth_ext import ops
from medsynth_ext._extension import has_operators, use_instruction_set
from medsynth_ext.ops import reference

needs_kernels = pytest.mark.skipif(not has_operators(), reason="operators are not built")
SIZES = [(40,), (33, 47), (9, 21, 18), (1, 5), (70000,)]


def problem(size, *, dtype=torch.float64, device="cpu", count=5):
    """Points inside and outside of the grid, one NaN, and widths (2, count, D)."""
    g = torch.Generator().manual_seed(len(size))
    room = torch.tensor(size, dtype=dtype)
    points = torch.rand(2, count, len(size), generator=g, dtype=dtype) * (room + 4) - 2
    points[0, 0, 0] = math.nan
    sigma = torch.rand(2, count, len(size), generator=g, dtype=dtype) * 2 + 0.5
    return points.to(device), sigma.to(device)


def test_worked_values_at_an_exact_and_a_sub_pixel_point(device):
    points = torch.tensor([[[1.0, 1.0], [0.25, 2.0]]], dtype=torch.float64, device=device)
    maps = ops.render_gaussian_heatmaps(points, (1.0, 2.0), (3, 4))
    for (y, x), (n, (py, px)) in product(product(range(3), range(4)), enumerate([(1.0, 1.0), (0.25, 2.0)])):
        want = math.exp(-((y - py) ** 2) / 2 - (x - px) ** 2 / 8)
        assert maps[0, n, y, x].item() == pytest.approx(want, abs=1e-15)


def test_density_sums_to_the_gain(device):
    points = torch.tensor([[[20.3, 19.6, 21.1]]], dtype=torch.float64, device=device)
    maps = ops.render_gaussian_heatmaps(points, (1.5, 2.0, 2.5), (42, 42, 42), amplitude="density", gain=3.0, radius=6)
    assert maps.sum().item() == pytest.approx(3.0, rel=1e-7)


def test_values_end_at_the_box(device):
    points = torch.tensor([[[10.0]]], device=device)
    h = ops.render_gaussian_heatmaps(points, 2.0, (30,), radius=2.0)[0, 0]
    assert h.nonzero()[:, 0].tolist() == list(range(6, 15))
    assert (ops.render_gaussian_heatmaps(points, 2.0, (30,), radius=math.inf) > 0).all()


@pytest.mark.parametrize("isa", ["base", "avx2", "avx512"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernel_and_gradients_equal_the_twin(device, isa, size, dtype):
    shared = {"channel": torch.tensor([0, 2, 2, 0, 2], device=device), "n_channels": 4}
    forms = ({}, {"amplitude": "density"}, shared, {**shared, "combine": "sum", "radius": 2.0})
    points, sigma = problem(size, dtype=dtype, device=device)
    for form in forms:
        gain = torch.tensor(1.5, dtype=dtype, device=device, requires_grad=True)
        inputs = (points.clone().requires_grad_(), sigma.clone().requires_grad_(), gain)
        results = []
        for module in (ops, reference):
            with use_instruction_set(isa):
                maps = module.render_gaussian_heatmaps(*inputs[:2], size, gain=gain, **form)
                g = torch.linspace(-1, 1, maps.numel(), dtype=dtype, device=device).sin().reshape(maps.shape)
                results.append((maps, *torch.autograd.grad(maps, inputs, g)))
        low = dtype == torch.float32
        torch.testing.assert_close(results[0][0], results[1][0], rtol=0, atol=1e-6 if low else 1e-14)
        for found, want in zip(results[0][1:], results[1][1:], strict=True):
            torch.testing.assert_close(found, want, rtol=1e-5 if low else 1e-10, atol=1e-5 if low else 1e-12)


@pytest.mark.parametrize("combine", ["max", "sum"])
@pytest.mark.parametrize("amplitude", ["peak", "density"])
@pytest.mark.parametrize("size", [(12,), (7, 9), (5, 6, 4)])
def test_gradients_pass_gradcheck(size, amplitude, combine):
    # A box that ends between voxels for all points, so that no small step moves a voxel across its edge.
    points = torch.tensor([[0.3, 0.4, 0.45], [0.61, 0.63, 0.58]], dtype=torch.float64)[:, : len(size)]
    points = (points * torch.tensor(size, dtype=torch.float64))[None].requires_grad_()
    sigma = torch.full((1, 2, len(size)), 1.3, dtype=torch.float64, requires_grad=True)
    gain = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)

    def render(p, s, a):
        options = {"channel": torch.tensor([0, 0]), "combine": combine, "amplitude": amplitude, "radius": math.inf}
        return ops.render_gaussian_heatmaps(p, s, size, gain=a, **options)

    assert torch.autograd.gradcheck(render, (points, sigma, gain))


def test_equal_points_give_the_gradient_to_the_first(device):
    points = torch.tensor([[[4.2], [4.2]]], device=device, requires_grad=True)
    maps = ops.render_gaussian_heatmaps(points, 1.0, (9,), channel=torch.tensor([0, 0], device=device))
    (grad,) = torch.autograd.grad(maps[..., :4].sum(), points)
    assert grad[0, 0, 0] != 0
    assert grad[0, 1, 0] == 0


def test_points_that_do_not_count_leave_empty_maps_and_no_gradient(device):
    points = torch.tensor([[[5.0, 5.0], [5.0, math.nan], [math.inf, 3.0], [1e30, -1e30], [60.0, 5.0]]], device=device)
    points.requires_grad_()
    visible = torch.tensor([[False, True, True, True, True]], device=device)
    maps = ops.render_gaussian_heatmaps(points, 2.0, (10, 10), visible=visible)
    assert not maps.any()
    (grad,) = torch.autograd.grad(maps.sum(), points)
    assert not grad.any()


def test_ragged_form_gives_the_same_as_the_batched_one(device):
    points, _ = problem((20, 30), dtype=torch.float32, device=device)
    channel = torch.tensor([1, 0, 1, 1, 0], device=device)
    want = ops.render_gaussian_heatmaps(points, 1.5, (20, 30), channel=channel, n_channels=3, combine="sum")
    order = torch.randperm(10, generator=torch.Generator().manual_seed(0)).sort().values.to(device)
    batch = torch.arange(2, device=device).repeat_interleave(5)
    found = ops.render_gaussian_heatmaps_ragged(
        points.reshape(-1, 2)[order], 1.5, (20, 30), batch[order], channel.repeat(2)[order], 2, 3, combine="sum"
    )
    assert torch.equal(found, want)
    nothing = torch.zeros(0, dtype=torch.int64, device=device)
    empty = ops.render_gaussian_heatmaps_ragged(points.reshape(-1, 2)[:0], 1.5, (4, 4), nothing, nothing, 3, 2)
    assert empty.shape == (3, 2, 4, 4)
    assert not empty.any()


def test_samples_do_not_depend_on_their_batch_and_bits_not_on_threads():
    points, sigma = problem((200, 500), dtype=torch.float32)
    channel = torch.tensor([0, 0, 1, 1, 1])
    before = torch.get_num_threads()
    maps = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            maps.append(ops.render_gaussian_heatmaps(points, sigma, (200, 500), channel=channel))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*maps)
    for b in range(2):
        part = slice(b, b + 1)
        alone = ops.render_gaussian_heatmaps(points[part], sigma[part], (200, 500), channel=channel)
        assert torch.equal(alone, maps[0][part])


def test_out_is_written_and_returned(device):
    points, sigma = problem((8, 9), dtype=torch.float32, device=device)
    out = torch.full((2, 5, 8, 9), math.nan, device=device)
    assert ops.render_gaussian_heatmaps(points, sigma, (8, 9), out=out) is out
    assert torch.equal(out, ops.render_gaussian_heatmaps(points, sigma, (8, 9)))
    with pytest.raises(RuntimeError, match="gradient"):
        ops.render_gaussian_heatmaps(points.requires_grad_(), sigma, (8, 9), out=out)


def test_non_contiguous_and_empty_inputs(device):
    points, sigma = problem((8, 9), dtype=torch.float32, device=device)
    turned = points.transpose(0, 1).contiguous().transpose(0, 1)
    assert torch.equal(
        ops.render_gaussian_heatmaps(turned, sigma, (8, 9)), ops.render_gaussian_heatmaps(points, sigma, (8, 9))
    )
    assert ops.render_gaussian_heatmaps(points[:0], 1.0, (8, 9)).shape == (0, 5, 8, 9)
    assert ops.render_gaussian_heatmaps(points[:, :0], 1.0, (8, 9)).shape == (2, 0, 8, 9)


# The vectors of the method cards of the two AdaptOR detectors.

CARD_POINTS = torch.tensor([[[12.0, 14.0], [12.0, 23.0], [30.5, 40.25], [36.0, 12.0], [24.0, 54.0]]])


@pytest.mark.parametrize(("merge", "total", "middle"), [("max", 69993, 105), ("sum_clip", 72035, 168)])
def test_point_map_of_the_suture_card(device, merge, total, middle):
    points = CARD_POINTS.to(device)
    valid = torch.ones(1, 5, dtype=torch.bool, device=device)
    q = ops.quantize_probability(ops.render_point_map(points, valid, (48, 64), 3.0, merge=merge))[0, 0].long()
    assert q.sum().item() == total
    assert q[12, 18].item() == middle
    if merge == "max":
        assert q[12, 19].item() == middle
        assert q[30, 40].item() == 251


def test_point_map_of_the_relation_card(device):
    points = torch.tensor([[[20.9, 30.2], [20.0, 36.0], [-1.2, 5.0]]], device=device)
    valid = torch.ones(1, 3, dtype=torch.bool, device=device)
    h = ops.render_point_map(points, valid, (48, 64), 5.0, center="trunc", window=24)[0, 0]
    for (y, x), want in {
        (20, 30): 1.0,
        (20, 28): 0.923116,
        (20, 33): 0.835270,
        (21, 31): 0.960789,
        (44, 30): 9.9295e-6,
        (45, 30): 0.0,
        (0, 10): 1.1254e-7,
    }.items():
        assert h[y, x].item() == pytest.approx(want, rel=5e-5)
    assert h.count_nonzero().item() == 2475
    assert h.nonzero().amin(0).tolist() == [0, 6]
    assert h.nonzero().amax(0).tolist() == [44, 60]


def test_centres_are_rounded_half_away_from_zero(device):
    points = torch.tensor([[[2.5], [-0.5]]], device=device)
    valid = torch.tensor([[True, True]], device=device)
    h = ops.render_point_map(points, valid, (6,), 0.3, center="round", window=0)[0, 0]
    assert h.tolist() == [0, 0, 0, 1, 0, 0]  # the second one goes to -1, which is outside


def test_quantized_map_has_the_values_of_an_8_bit_image(device):
    valid = torch.ones(1, 5, dtype=torch.bool, device=device)
    exact = ops.render_point_map(CARD_POINTS.to(device), valid, (48, 64), 3.0)
    low = ops.render_point_map(CARD_POINTS.to(device), valid, (48, 64), 3.0, quantize="u8_floor")
    assert torch.equal((low * 255).round(), (exact * 255).floor())
    out = torch.empty_like(low)
    ops.render_point_map(CARD_POINTS.to(device), valid, (48, 64), 3.0, quantize="u8_floor", out=out)
    assert torch.equal(out, low)


def test_every_point_of_a_map_may_have_its_own_width(device):
    points = CARD_POINTS[:, :2].to(device)
    valid = torch.ones(1, 2, dtype=torch.bool, device=device)
    widths = torch.tensor([[2.0, 4.0]], device=device)
    single = [ops.render_point_map(points[:, i : i + 1], valid[:, :1], (48, 64), s) for i, s in enumerate((2.0, 4.0))]
    assert torch.equal(ops.render_point_map(points, valid, (48, 64), widths), torch.maximum(*single))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"points": torch.zeros(1, 2, 2).int()}, TypeError, "points must"),
        ({"points": torch.zeros(1, 2, 3)}, ValueError, "points must"),
        ({"size": (4, 0)}, ValueError, "size"),
        ({"size": (4, 4, 4, 4)}, ValueError, "size"),
        ({"sigma": 0.0}, ValueError, "sigma must be positive"),
        ({"sigma": (1.0, math.nan)}, ValueError, "sigma must be positive"),
        ({"sigma": (1.0, 1.0, 1.0)}, ValueError, "sigma must be a number"),
        ({"sigma": torch.ones(2, dtype=torch.float64)}, TypeError, "sigma"),
        ({"visible": torch.ones(1, 2)}, TypeError, "visible must be bool"),
        ({"visible": torch.ones(1, 3, dtype=torch.bool)}, ValueError, "visible must"),
        ({"amplitude": "area"}, ValueError, "amplitude"),
        ({"combine": "mean"}, ValueError, "combine"),
        ({"gain": math.inf}, ValueError, "gain"),
        ({"gain": torch.ones(2)}, ValueError, "gain"),
        ({"radius": 0.0}, ValueError, "radius"),
        ({"channel": torch.tensor([0, 5]), "n_channels": 2}, ValueError, r"channel must be in 0\.\.1, got 5"),
        ({"channel": torch.tensor([0, -1])}, ValueError, "channel must be"),
        ({"channel": torch.tensor([0.0, 1.0])}, TypeError, "channel must be int64"),
        ({"channel": torch.tensor([0])}, ValueError, "channel must be"),
        ({"n_channels": 3}, ValueError, "n_channels"),
        ({"out": torch.zeros(1, 2, 5, 5)}, ValueError, "out"),
    ],
)
def test_bad_arguments_are_refused(change, error, message):
    with pytest.raises(error, match=message):
        ops.render_gaussian_heatmaps(**({"points": torch.zeros(1, 2, 2), "sigma": 1.0, "size": (4, 4)} | change))


def test_bad_arguments_of_the_point_map_are_refused():
    points, valid = torch.zeros(1, 2, 2), torch.ones(1, 2, dtype=torch.bool)
    for change, message in (
        ({"merge": "sum"}, "merge"),
        ({"center": "floor"}, "center"),
        ({"quantize": "u8"}, "quantize"),
        ({"window": -1.0}, "window"),
        ({"sigma": torch.ones(2)}, "sigma"),
    ):
        with pytest.raises(ValueError, match=message):
            ops.render_point_map(**({"points": points, "valid": valid, "size": (4, 4), "sigma": 1.0} | change))


@needs_kernels
def test_operators_pass_opcheck():
    points, sigma = (t.reshape(-1, 2).float() for t in problem((5, 6)))
    op = torch.ops.medsynth_ext
    half, height = sigma * 5, torch.ones(10)
    order, offsets = torch.arange(10).flip(0), torch.tensor([0, 4, 4, 10])
    with_grad = [t.clone().requires_grad_() for t in (points[1:], sigma[1:])]
    torch.library.opcheck(op.render_heatmaps.default, (points, sigma, half, height, None, None, 10, [5, 6], False))
    torch.library.opcheck(op.render_heatmaps.default, (*with_grad, half[1:], height[1:], None, None, 9, [5, 6], True))
    torch.library.opcheck(op.render_heatmaps.default, (points, sigma, half, height, order, offsets, 3, [5, 6], True))
    grad = torch.randn(3, 5, 6)
    torch.library.opcheck(
        op.render_heatmaps_backward.default, (grad, points, sigma, half, height, order, offsets, False)
    )
    out = torch.empty(3, 5, 6)
    torch.library.opcheck(
        op.render_heatmaps_out.default, (points, sigma, half, height, order, offsets, 3, [5, 6], True, out)
    )


@needs_kernels
def test_lists_that_make_no_sense_do_not_crash():
    points, sigma = torch.rand(4, 2) * 5, torch.ones(4, 2)
    order, offsets = torch.tensor([9, -3, 2**60, 0]), torch.tensor([-5, 100, -7, 2**60])
    maps = torch.ops.medsynth_ext.render_heatmaps(points, sigma, sigma, sigma[:, 0], order, offsets, 3, [6, 6], False)
    assert maps.isfinite().all()
    grads = torch.ops.medsynth_ext.render_heatmaps_backward(
        maps, points, sigma, sigma, sigma[:, 0], order, offsets, False
    )
    assert all(g.isfinite().all() for g in grads)


def test_second_derivative_is_refused():
    points = torch.rand(1, 2, 2, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(
        ops.render_gaussian_heatmaps(points, 1.0, (4, 4)).square().sum(), points, create_graph=True
    )
    with pytest.raises(NotImplementedError, match="second derivative"):
        grad.sum().backward()


def test_compiles_without_graph_break():
    points, sigma = problem((8, 9), dtype=torch.float32)
    channel = torch.tensor([0, 1, 1, 0, 1])

    def call(p):
        return ops.render_gaussian_heatmaps(p, sigma, (8, 9), channel=channel, n_channels=2) + 1

    assert torch.equal(torch.compile(call, fullgraph=True, backend="aot_eager")(points), call(points))


def test_meta_device_gives_shapes():
    assert ops.render_gaussian_heatmaps(torch.empty(2, 3, 2, device="meta"), 1.0, (4, 5)).shape == (2, 3, 4, 5)
