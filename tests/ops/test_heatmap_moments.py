"""soft_argmax and heatmap_moments: worked values, twins, gradients, invalid maps, reproducibility and refusals."""

from __future__ import annotations

import math

import pytest
import torch

from medsynth_ext import ops
from medsynth_ext._extension import has_operators, use_instruction_set
from medsynth_ext.ops import reference

needs_kernels = pytest.mark.skipif(not has_operators(), reason="operators are not built")
SIZES = [(41,), (23, 37), (9, 11, 35), (1, 9), (2, 2300)]
FORMS = (
    {},
    {"beta": 20.0},
    {"beta": None, "normalised": True},
    {"beta": 5.0, "window": 3},
    {"beta": None, "window": 1},
    {"beta": -3.0},
)


def maps(size, dtype=torch.float64, device="cpu"):
    g = torch.Generator().manual_seed(sum(size))
    return (torch.rand(2, 3, *size, generator=g, dtype=dtype) - 0.2).to(device)


def test_worked_means_and_covariances(device):
    h = torch.tensor([[[[0.0, 1.0], [2.0, -5.0]]]], dtype=torch.float64, device=device)
    mean, cov = ops.soft_argmax(h, beta=None, return_cov=True)
    assert mean.flatten().tolist() == pytest.approx([2 / 3, 1 / 3])
    assert cov.flatten().tolist() == pytest.approx([2 / 9, -2 / 9, -2 / 9, 2 / 9])
    weights = [math.exp(2 * v) for v in (0, 1, 2, -5)]
    mean = ops.soft_argmax(h, beta=2.0)
    want = [(weights[2] + weights[3]) / sum(weights), (weights[1] + weights[3]) / sum(weights)]
    assert mean.flatten().tolist() == pytest.approx(want)
    normalised = ops.soft_argmax(h, beta=2.0, normalised=True)
    assert normalised.flatten().tolist() == pytest.approx([2 * (w + 0.5) / 2 - 1 for w in want])


@pytest.mark.parametrize("isa", ["base", "avx2", "avx512"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernel_and_gradients_equal_the_twin(device, isa, size, dtype):
    low = dtype == torch.float32
    scale = max(size)
    for form in FORMS:
        h = maps(size, dtype, device).requires_grad_()
        results = []
        for module in (ops, reference):
            with use_instruction_set(isa):
                mean, cov = module.soft_argmax(h, return_cov=True, **form)
                g = [torch.linspace(-1, 1, t.numel(), dtype=dtype, device=device).reshape(t.shape) for t in (mean, cov)]
                results.append((mean, cov, *torch.autograd.grad((mean, cov), h, g)))
        (mean, cov, grad), (mean_want, cov_want, grad_want) = results
        torch.testing.assert_close(mean, mean_want, rtol=0, atol=2e-7 * scale + 1e-5 if low else 1e-10)
        torch.testing.assert_close(cov, cov_want, rtol=1e-5 if low else 1e-9, atol=1e-4 if low else 1e-8)
        largest = grad_want.abs().max().item()
        torch.testing.assert_close(grad, grad_want, rtol=0, atol=largest * (2e-6 if low else 1e-12))


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_gradients_pass_gradcheck(form):
    h = maps((4, 5)).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: ops.soft_argmax(t, return_cov=True, **form), (h,))
    h = maps((3, 4, 2))[:1, :1].requires_grad_()
    assert torch.autograd.gradcheck(lambda t: ops.soft_argmax(t, return_cov=True, **form), (h,))


def test_gradient_to_the_temperature_passes_gradcheck():
    beta = torch.tensor(2.5, dtype=torch.float64, requires_grad=True)
    h = maps((4, 5)).requires_grad_()
    assert torch.autograd.gradcheck(lambda t, b: ops.soft_argmax(t, beta=b, return_cov=True), (h, beta))


def test_rendered_gaussian_is_found_with_its_covariance(device):
    points = torch.tensor([[[20.3, 31.7, 18.1]]], dtype=torch.float64, device=device)
    h = ops.render_gaussian_heatmaps(points, (1.5, 2.0, 2.5), (40, 60, 38), radius=7)
    mean, cov = ops.soft_argmax(h, beta=None, return_cov=True)
    torch.testing.assert_close(mean, points, rtol=0, atol=1e-6)
    want = torch.diag(torch.tensor([1.5, 2.0, 2.5], dtype=torch.float64, device=device) ** 2)
    torch.testing.assert_close(cov[0, 0], want, rtol=1e-6, atol=1e-9)


def test_large_values_and_offsets_do_not_overflow(device):
    h = torch.zeros(1, 1, 10, device=device)
    h[0, 0, 4], h[0, 0, 7] = 1e30, 1e4
    assert ops.soft_argmax(h).item() == 4.0
    assert ops.soft_argmax(h - 1e30).item() == 4.0
    shifted = maps((12, 13), torch.float32, device)
    near = ops.soft_argmax(shifted * 8 + 1000, beta=1.0)
    torch.testing.assert_close(near, ops.soft_argmax(shifted * 8), rtol=0, atol=1e-2)


@pytest.mark.parametrize("size", [(50,), (7, 40), (3, 300, 300)])
def test_maps_without_moments_are_nan_and_leave_others_alone(device, size):
    h = maps(size, torch.float32, device).requires_grad_()
    with torch.no_grad():
        h[0, 0].view(-1)[-1] = math.nan
        h[0, 1] = math.inf
        h[1, 0] = -math.inf
    mean = ops.soft_argmax(h, beta=3.0)
    assert mean.isnan().all(-1).tolist() == [[True, True, False], [True, False, False]]
    (grad,) = torch.autograd.grad(mean[1, 1:].sum(), h)
    assert grad[1, 1:].isfinite().all()
    linear = ops.soft_argmax(-h.detach().nan_to_num().abs(), beta=None)
    assert linear.isnan().all()
    some = torch.full((1, 1, *size), -math.inf, device=device)
    some.view(-1)[3] = 1.0
    assert ops.soft_argmax(some).isfinite().all()


def test_map_of_no_mass_has_no_gradient(device):
    h = torch.zeros(1, 1, 5, device=device, requires_grad=True)
    (grad,) = torch.autograd.grad(ops.soft_argmax(h, beta=None).sum(), h)
    assert not grad.any()


def test_window_leaves_out_what_lies_outside(device):
    h = torch.zeros(1, 1, 9, 30, device=device)
    h[0, 0, 4, 5], h[0, 0, 4, 25] = 10.0, 9.0
    mean = ops.soft_argmax(h, beta=3.0, window=2)
    assert mean.flatten().tolist() == pytest.approx([4.0, 5.0])
    h.requires_grad_()
    (grad,) = torch.autograd.grad(ops.soft_argmax(h, beta=3.0, window=2)[..., 1].sum(), h)
    assert not grad[..., :3].any()
    assert not grad[..., 8:].any()
    assert grad[0, 0, 4, 3:8].abs().min() > 0 or grad[0, 0, 4, 5] == 0


def test_a_million_voxels_keep_their_digits(device):
    h = torch.full((1, 1, 1100, 1000), 0.5, device=device)
    mean, cov = ops.soft_argmax(h, return_cov=True)
    assert mean.flatten().tolist() == pytest.approx([549.5, 499.5], abs=1e-3)
    assert cov[0, 0, 0, 0].item() == pytest.approx((1100**2 - 1) / 12, rel=1e-6)


@needs_kernels
def test_bits_do_not_depend_on_threads_or_batch():
    h = torch.rand(1, 1, 9, 300, 310, generator=torch.Generator().manual_seed(0))
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            for image in (h, h.expand(3, 2, -1, -1, -1).contiguous()):
                x = image.clone().requires_grad_()
                mean, cov = ops.soft_argmax(x, beta=4.0, return_cov=True)
                (grad,) = torch.autograd.grad(mean.sum() + cov.sum(), x)
                results.append([t[:1, :1].detach() for t in (mean, cov, grad)])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_worked_moments_in_millimetres(device):
    p = torch.tensor([[0.0, 1.0, 1.0], [0.0, 3.0, 1.0], [0.0, 0.0, 0.0]], dtype=torch.float64, device=device)
    mass, centroid, cov, skew, valid = ops.heatmap_moments(p, 2.0, 10.0)
    assert mass.tolist() == [4.0, 8.0, 0.0]
    assert centroid[:2, 0].tolist() == [13.0, 12.5]
    assert cov[:2, 0, 0].tolist() == pytest.approx([1.0, 0.75])
    assert skew[:2, 0].tolist() == pytest.approx([0.0, 0.75 * (-0.5) ** 3 + 0.25 * 1.5**3])
    assert valid.tolist() == [True, True, False]
    assert all(t[2].isnan().all() for t in (centroid, cov, skew))


@pytest.mark.parametrize("size", SIZES[:3])
def test_moments_equal_the_twin(device, size):
    p = maps(size, torch.float32, device)[0]
    spacing, origin = [0.5, 2.0, 1.5][: len(size)], [100.0, -50.0, 7.0][: len(size)]
    found = ops.heatmap_moments(p, spacing, origin, threshold=0.1)
    want = reference.heatmap_moments(p, spacing, origin, threshold=0.1)
    for a, b in zip(found[:3], want[:3], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(found[3], want[3], rtol=1e-3, atol=1e-3)


def test_moments_about_a_far_origin_lose_no_digits(device):
    near, far = (ops.heatmap_moments(maps((12, 13, 14), torch.float32, device)[0], 1.0, o)[2] for o in (0.0, 1e6))
    assert torch.equal(near, far)


def test_gradients_of_moments_pass_gradcheck():
    p = maps((4, 5))[0].requires_grad_()
    assert torch.autograd.gradcheck(lambda t: ops.heatmap_moments(t, (2.0, 3.0), 1.0, threshold=0.11)[:3], (p,))


def test_skewness_turns_with_the_blob(device):
    p = torch.zeros(1, 9, 30, dtype=torch.float64, device=device)
    p[0, 4, 3:20] = torch.linspace(1, 0.1, 17, dtype=torch.float64)
    p[0, 3, 5] = p[0, 5, 5] = 0.2
    right, left = (ops.heatmap_moments(t)[3][0, 1].item() for t in (p, p.flip(2)))
    assert right > 0
    assert left == pytest.approx(-right)


def test_non_contiguous_and_empty_batches(device):
    h = maps((9, 8), torch.float32, device)
    assert torch.equal(ops.soft_argmax(h.mT.contiguous().mT), ops.soft_argmax(h))
    mean, cov = ops.soft_argmax(h[:0], return_cov=True)
    assert (mean.shape, cov.shape) == ((0, 3, 2), (0, 3, 2, 2))
    assert ops.heatmap_moments(h[:0, 0])[0].shape == (0,)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"h": torch.zeros(1, 1, 4).int()}, TypeError, "h must"),
        ({"h": torch.zeros(1, 4)}, ValueError, "h must"),
        ({"h": torch.zeros(1, 1, 0)}, ValueError, "h must"),
        ({"beta": math.inf}, ValueError, "beta"),
        ({"beta": torch.ones(2)}, ValueError, "beta"),
        ({"window": 0}, ValueError, "window"),
    ],
)
def test_bad_arguments_are_refused(change, error, message):
    with pytest.raises(error, match=message):
        ops.soft_argmax(**({"h": torch.zeros(1, 1, 4)} | change))


def test_bad_arguments_of_moments_are_refused():
    for change, error, message in (
        ({"p": torch.zeros(4)}, ValueError, "p must"),
        ({"p": torch.zeros(1, 4).int()}, TypeError, "p must"),
        ({"spacing": 0.0}, ValueError, "spacing"),
        ({"spacing": (1.0, 1.0)}, ValueError, "spacing"),
        ({"origin": math.nan}, ValueError, "origin"),
        ({"eps": -1.0}, ValueError, "eps"),
    ):
        with pytest.raises(error, match=message):
            ops.heatmap_moments(**({"p": torch.zeros(1, 4)} | change))


@needs_kernels
def test_operators_pass_opcheck():
    h = torch.rand(3, 6, 7)
    op = torch.ops.medsynth_ext
    torch.library.opcheck(op.heatmap_moments.default, (h, 0, 2.0, -math.inf, 0, False))
    linear = h.clone().requires_grad_()
    torch.library.opcheck(op.heatmap_moments.default, (linear, 1, 1.0, 0.1, 2, True))
    _, mean, _, _, state = op.heatmap_moments(h, 0, 2.0, -math.inf, 0, False)
    sums = torch.rand(3, dtype=torch.float64), mean, torch.rand(3, 2, 2, dtype=torch.float64)
    torch.library.opcheck(op.heatmap_moments_backward.default, (h, state, mean, *sums, 0, 2.0, -math.inf, 0))


@needs_kernels
def test_a_state_that_makes_no_sense_does_not_crash():
    h = torch.rand(3, 6, 7)
    state = torch.tensor([[0.0, 1.0, 1e300], [0.0, 1.0, -1e300], [0.0, 1.0, 41.0]], dtype=torch.float64)
    zeros = [torch.zeros(3, *s, dtype=torch.float64) for s in ((2,), (), (2,), (2, 2))]
    grad = torch.ops.medsynth_ext.heatmap_moments_backward(h, state, *zeros, 0, 1.0, 0.0, 2)
    assert grad.shape == h.shape


def test_compiles_without_graph_break():
    h = torch.rand(1, 2, 8, 9)

    def call(x):
        return ops.soft_argmax(x, beta=3.0, return_cov=True)

    found = torch.compile(call, fullgraph=True, backend="aot_eager")(h)
    assert all(torch.equal(a, b) for a, b in zip(found, call(h), strict=True))


def test_meta_device_gives_shapes():
    mean, cov = ops.soft_argmax(torch.empty(2, 3, 4, 5, device="meta"), return_cov=True)
    assert (mean.shape, cov.shape) == ((2, 3, 2), (2, 3, 2, 2))
