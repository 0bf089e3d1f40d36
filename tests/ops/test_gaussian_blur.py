"""gaussian_blur: values at all borders, adjoint, gradient, reproducibility and refusals."""

from __future__ import annotations

import math

import pytest
import torch

from medsynth_ext import ops
from medsynth_ext._extension import has_operators, use_instruction_set
from medsynth_ext.ops import reference

needs_kernels = pytest.mark.skipif(not has_operators(), reason="operators are not built")
BORDERS = ("replicate", "zeros", "reflect")
SHAPES = [(1, 1, 150), (2, 2, 9, 33), (2, 1, 5, 7, 70), (1, 2, 40, 1, 129), (2, 1, 1, 1, 1), (1, 1, 21, 90, 3)]


def widths(shape, seed):
    """Sigma (B, axes) with inactive axes among them."""
    g = torch.Generator().manual_seed(seed)
    sigma = torch.rand(shape[0], len(shape) - 2, generator=g, dtype=torch.float64) * (5 if seed else 20)
    sigma[0, seed % (len(shape) - 2)] = 0
    return sigma


def test_impulse_gives_the_worked_kernel(device):
    x = torch.zeros(1, 1, 9, device=device)
    x[0, 0, 4] = 1
    weights = [math.exp(-0.5 * i * i) for i in range(4)]
    total = weights[0] + 2 * sum(weights[1:])
    want = [weights[abs(i - 4)] / total if abs(i - 4) < 4 else 0.0 for i in range(9)]
    assert ops.gaussian_blur(x, 1.0).flatten().tolist() == pytest.approx(want, abs=1e-7)


def test_borders_of_a_worked_ramp(device):
    x = torch.tensor([[[1.0, 2.0, 4.0]]], dtype=torch.float64, device=device)
    w0 = 1 / (1 + 2 * math.exp(-0.5 / 0.25))  # sigma 0.5, truncate 2: three taps
    w1 = (1 - w0) / 2
    first = {"replicate": w0 + w1 + 2 * w1, "zeros": w0 + 2 * w1, "reflect": w0 + 4 * w1}
    for border, want in first.items():
        y = ops.gaussian_blur(x, 0.5, truncate=2.0, border=border)
        assert y[0, 0, 0].item() == pytest.approx(want, abs=1e-14)


@pytest.mark.parametrize("isa", ["base", "avx2", "avx512"])
@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_kernel_and_gradient_equal_the_twin(device, isa, border, shape):
    for dtype, seed in ((torch.float32, 1), (torch.float64, 0), (torch.float64, 2)):
        sigma = widths(shape, seed)
        x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype).to(device).requires_grad_()
        g = torch.randn(shape, generator=torch.Generator().manual_seed(9), dtype=dtype).to(device)
        with use_instruction_set(isa):
            y = ops.gaussian_blur(x, sigma, border=border)
            (found,) = torch.autograd.grad(y, x, g)
        want = reference.gaussian_blur(x, sigma, border=border)
        (wanted,) = torch.autograd.grad(want, x, g)
        tolerance = 3e-6 if dtype == torch.float32 else 1e-13
        torch.testing.assert_close(y, want, rtol=0, atol=tolerance)
        torch.testing.assert_close(found, wanted, rtol=0, atol=tolerance * 4)


@pytest.mark.parametrize("border", BORDERS)
def test_adjoint_identity(device, border):
    shape = (2, 2, 11, 13, 40)
    x, g = (
        torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(i)).to(device) for i in (0, 1)
    )
    x.requires_grad_()
    y = ops.gaussian_blur(x, widths(shape, 3), border=border)
    (back,) = torch.autograd.grad(y, x, g)
    assert (y * g).sum().item() == pytest.approx((x * back).sum().item(), rel=1e-12)


@pytest.mark.parametrize("border", BORDERS)
def test_gradients_of_both_orders_pass_gradcheck(border):
    x = torch.randn(2, 1, 4, 3, 9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: ops.gaussian_blur(t, (1.0, 0.0, 0.7), border=border), (x,))
    assert torch.autograd.gradgradcheck(lambda t: ops.gaussian_blur(t, (1.0, 0.0, 0.7), border=border), (x,))


def test_zero_sigma_changes_nothing(device):
    x = torch.randn(2, 1, 5, 6, 7, device=device)
    assert torch.equal(ops.gaussian_blur(x, 0.0), x)


def test_every_sample_has_its_own_width(device):
    x = torch.randn(3, 2, 12, 20, device=device)
    sigma = torch.tensor([[0.0, 1.0], [2.5, 0.0], [1.0, 3.0]])
    y = ops.gaussian_blur(x, sigma)
    for b in range(3):
        assert torch.equal(ops.gaussian_blur(x[b : b + 1], sigma[b]), y[b : b + 1])


@needs_kernels
def test_bits_do_not_depend_on_threads():
    x = torch.randn(1, 2, 33, 40, 50)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(ops.gaussian_blur(x, (1.0, 2.0, 3.0)))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*results)


def test_non_contiguous_and_empty_inputs(device):
    x = torch.randn(1, 1, 8, 9, device=device)
    assert torch.equal(ops.gaussian_blur(x.mT.contiguous().mT, 1.0), ops.gaussian_blur(x, 1.0))
    assert ops.gaussian_blur(torch.empty(0, 1, 4, device=device), 1.0).shape == (0, 1, 4)
    assert ops.gaussian_blur(torch.empty(1, 1, 4, 0, device=device), 1.0).shape == (1, 1, 4, 0)


def test_a_not_finite_voxel_spreads_at_most_a_block_beyond_the_taps(device):
    x = torch.zeros(1, 1, 100, device=device)
    x[0, 0, 50] = float("nan")
    bad = ops.gaussian_blur(x, 1.0).isnan()[0, 0].nonzero()[:, 0].tolist()
    assert set(range(47, 54)) <= set(bad) <= set(range(47 - 16, 54 + 16))


def test_out_is_written_and_returned(device):
    x = torch.randn(1, 1, 8, 9, device=device)
    out = torch.empty_like(x)
    assert ops.gaussian_blur(x, (1.0, 2.0), out=out) is out
    assert torch.equal(out, ops.gaussian_blur(x, (1.0, 2.0)))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": torch.zeros(1, 1, 4).int()}, TypeError, "x must"),
        ({"x": torch.zeros(1, 4)}, ValueError, "x must"),
        ({"sigma": (1.0, 2.0)}, ValueError, "sigma"),
        ({"sigma": -1.0}, ValueError, "sigma"),
        ({"sigma": float("nan")}, ValueError, "sigma"),
        ({"sigma": 1e9}, ValueError, "sigma"),
        ({"sigma": torch.ones(1, requires_grad=True)}, NotImplementedError, "sigma"),
        ({"truncate": 0.0}, ValueError, "truncate"),
        ({"border": "wrap"}, ValueError, "border"),
        ({"out": torch.zeros(1, 1, 5)}, ValueError, "out"),
        ({"x": torch.zeros(1, 1, 4, requires_grad=True), "out": torch.zeros(1, 1, 4)}, RuntimeError, "gradient"),
    ],
)
def test_bad_arguments_are_refused(change, error, message):
    with pytest.raises(error, match=message):
        ops.gaussian_blur(**({"x": torch.zeros(1, 1, 4), "sigma": 1.0} | change))


def test_in_place_is_refused():
    x = torch.zeros(1, 1, 4)
    with pytest.raises(ValueError, match="itself"):
        ops.gaussian_blur(x, 1.0, out=x)


@needs_kernels
def test_operators_pass_opcheck():
    x, sigma = torch.randn(2, 1, 5, 6), torch.ones(2, 2, dtype=torch.float64)
    op = torch.ops.medsynth_ext
    torch.library.opcheck(op.gaussian_blur.default, (x, sigma, 3.0, 0, False))
    torch.library.opcheck(op.gaussian_blur.default, (x.clone().requires_grad_(), sigma, 3.0, 2, False))
    torch.library.opcheck(op.gaussian_blur_out.default, (x, sigma, 3.0, 1, True, torch.empty_like(x)))


def test_compiles_without_graph_break():
    x = torch.randn(1, 1, 8, 9)
    compiled = torch.compile(lambda t: ops.gaussian_blur(t, (1.0, 2.0)) + 1, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x), ops.gaussian_blur(x, (1.0, 2.0)) + 1)


def test_meta_device_gives_shapes():
    assert ops.gaussian_blur(torch.empty(2, 1, 4, 4, device="meta"), 1.0).shape == (2, 1, 4, 4)
