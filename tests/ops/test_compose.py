"""compose: two displacements in one."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch

from medsynth_ext import ops
from medsynth_ext._extension import use_instruction_set
from medsynth_ext.ops import reference
from medsynth_ext.ops.reference._sampling import index_grid, linear_sample

sys.path.insert(0, str(Path(__file__).parent))
from diffeo_fields import BORDERS, SIZES, inside, smooth_field


def test_hand_worked_table(device):
    u1 = torch.tensor([[[10.0, 20.0, 30.0]]], device=device)
    u2 = torch.tensor([[[0.5, -1.0, 1.0]]], device=device)  # reads u1 at 0.5, 0, 3
    assert ops.compose(u1, u2).tolist() == [[[15.5, 9.0, 31.0]]]
    assert ops.compose(u1, u2, border="zeros").tolist() == [[[15.5, 9.0, 1.0]]]
    assert ops.compose(u1, u2, border="reflect").tolist() == [[[15.5, 9.0, 21.0]]]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("border", BORDERS)
def test_equals_twin_with_gradients(device, size, border):
    u1, u2 = smooth_field(size, batch=2, seed=1).requires_grad_(), smooth_field(size, batch=2, seed=2).requires_grad_()
    want = reference.compose(u1, u2, border=border)
    weight = torch.randn(want.shape, dtype=torch.float64)
    want_grads = torch.autograd.grad(want, (u1, u2), weight)
    h1, h2 = (t.detach().to(device).requires_grad_() for t in (u1, u2))
    got = ops.compose(h1, h2, border=border)
    assert torch.allclose(got.cpu(), want, rtol=0, atol=1e-12)
    for a, b in zip(torch.autograd.grad(got, (h1, h2), weight.to(device)), want_grads, strict=True):
        assert torch.allclose(a.cpu(), b, rtol=0, atol=1e-10)
    single = ops.compose(h1.detach().float(), h2.detach().float(), border=border)
    assert torch.allclose(single.cpu().double(), want, rtol=0, atol=1e-4)


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("batches", [(2, 2), (1, 2), (2, 1)])
def test_gradcheck_and_shared_fields(border, batches):
    u1 = smooth_field((3, 4, 3), batch=batches[0], seed=1, amplitude=0.7).requires_grad_()
    u2 = smooth_field((3, 4, 3), batch=batches[1], seed=2, amplitude=0.7).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: ops.compose(a, b, border=border), (u1, u2))


@pytest.mark.parametrize("only", [0, 1])
def test_gradient_of_one_input_alone(only):
    fields = [smooth_field((4, 5), seed=s) for s in (1, 2)]
    fields[only].requires_grad_()
    both = [f.detach().clone().requires_grad_() for f in fields]
    ops.compose(*fields).square().sum().backward()
    ops.compose(*both).square().sum().backward()
    assert torch.equal(fields[only].grad, both[only].grad)
    assert fields[1 - only].grad is None


def test_sampling_and_its_adjoint_agree():
    u1, u2 = smooth_field((6, 7, 8), seed=1), smooth_field((6, 7, 8), seed=2)
    y = torch.randn(u1.shape, dtype=torch.float64)
    sampled = ops.compose(u1, u2) - u2
    spread = torch.ops.medsynth_ext.compose_backward(y, u1, u2, 0)[0]
    assert torch.isclose((sampled * y).sum(), (u1 * spread).sum(), rtol=1e-12)


def test_one_warp_equals_two():
    """Warping by u1 and then by u2 equals one warp by the composition (an image linear in space is sampled exactly)."""
    u1, u2 = smooth_field((14, 15), seed=1, amplitude=0.8), smooth_field((14, 15), seed=2, amplitude=0.8)
    grid = index_grid((14, 15), u1)[None]
    image = 3 * grid[:, :1] - 2 * grid[:, 1:]
    twice = linear_sample(linear_sample(image, grid + u1), grid + u2)
    once = linear_sample(image, grid + ops.compose(u1, u2))
    assert torch.allclose(inside(once, 4), inside(twice, 4), rtol=0, atol=1e-10)


def test_threads_and_instruction_sets():
    u1, u2 = (smooth_field((34, 35, 36), seed=s, dtype=torch.float32) for s in (1, 2))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = (ops.compose(u1, u2), *torch.ops.medsynth_ext.compose_backward(u2, u1, u2, 0))
        torch.set_num_threads(3)
        three = (ops.compose(u1, u2), *torch.ops.medsynth_ext.compose_backward(u2, u1, u2, 0))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(one, three, strict=True))
    for name in ("base", "avx2"):
        with use_instruction_set(name):
            assert torch.allclose(ops.compose(u1, u2), one[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30, -1e30])
def test_wild_values_do_not_crash(device, border, value):
    u1, u2 = (smooth_field((5, 6, 7), seed=s, dtype=torch.float32).to(device) for s in (1, 2))
    u2[0, 0, 1, 2, 3] = value
    u2.requires_grad_()
    result = ops.compose(u1, u2, border=border)
    result.sum().backward()
    if math.isnan(value):
        assert result[0, :, 1, 2, 3].isnan().all()


def test_operator_passes_opcheck(device):
    u1, u2 = (smooth_field((4, 5, 6), seed=s, dtype=torch.float32).to(device).requires_grad_() for s in (1, 2))
    torch.library.opcheck(torch.ops.medsynth_ext.compose.default, (u1, u2, 0))
    a, b = u1.detach(), u2.detach()
    torch.library.opcheck(torch.ops.medsynth_ext.compose_out.default, (a, b, 0, torch.empty_like(a)))
    torch.library.opcheck(torch.ops.medsynth_ext.compose_backward.default, (a, a, b, 0))


def test_out_empty_meta_and_non_contiguous(device):
    u1, u2 = (smooth_field((5, 6, 7), seed=s).to(device) for s in (1, 2))
    out = torch.empty_like(u1)
    assert ops.compose(u1, u2, out=out) is out
    assert torch.equal(out, ops.compose(u1, u2))
    assert torch.equal(ops.compose(u1.transpose(2, 4).contiguous().transpose(2, 4), u2), out)
    assert ops.compose(u1[:0], u2[:0]).shape == (0, 3, 5, 6, 7)
    assert ops.compose(u1.to("meta"), u2.to("meta")).shape == u1.shape


@pytest.mark.parametrize(
    ("u1", "u2", "error", "message"),
    [
        (torch.zeros(1, 1, 4), torch.zeros(1, 1, 5), ValueError, "on one grid"),
        (torch.zeros(3, 1, 4), torch.zeros(2, 1, 4), ValueError, "one batch size"),
        (torch.zeros(1, 1, 4), torch.zeros(1, 1, 4).double(), TypeError, "u2 must have the dtype of u1"),
        (torch.zeros(1, 2, 4), torch.zeros(1, 2, 4), ValueError, "u1 must be"),
        (torch.zeros(1, 1, 4), torch.zeros(1, 1, 4, device="meta"), RuntimeError, "u2 is on meta"),
    ],
)
def test_bad_arguments_are_named(u1, u2, error, message):
    with pytest.raises(error, match=message):
        ops.compose(u1, u2)
