"""jacobian_determinant: volume change of a displacement."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch

from medsynth_ext import ops
from medsynth_ext._extension import use_instruction_set
from medsynth_ext.ops import reference

sys.path.insert(0, str(Path(__file__).parent))
from diffeo_fields import SIZES, linear_field, smooth_field


def test_hand_worked_table(device):
    u = torch.tensor([[[0.0, 1.0, 4.0, 4.0]]], device=device)  # one-sided 1, central 2, central 1.5, one-sided 0
    assert ops.jacobian_determinant(u).tolist() == [[[2.0, 3.0, 2.5, 1.0]]]


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_linear_field_has_its_matrix_determinant_everywhere(device, dims):
    matrix = torch.randn(dims, dims, generator=torch.Generator().manual_seed(dims), dtype=torch.float64)
    got = ops.jacobian_determinant(linear_field(matrix, (4, 5, 6)[:dims]).to(device))
    want = torch.linalg.det(torch.eye(dims, dtype=torch.float64) + matrix)
    assert torch.allclose(got.cpu(), want, rtol=1e-11)


@pytest.mark.parametrize("size", SIZES)
def test_equals_twin_with_gradient(device, size):
    u = smooth_field(size, batch=2).requires_grad_()
    want = reference.jacobian_determinant(u)
    weight = torch.randn(want.shape, dtype=torch.float64)
    # A grid of one voxel has determinant 1 whatever u is.
    want_grad = torch.autograd.grad(want, u, weight)[0] if want.requires_grad else torch.zeros_like(u)
    here = u.detach().to(device).requires_grad_()
    got = ops.jacobian_determinant(here)
    assert got.shape == (2, 1, *size)
    assert torch.allclose(got.cpu(), want, rtol=0, atol=1e-12)
    (grad,) = torch.autograd.grad(got, here, weight.to(device))
    assert torch.allclose(grad.cpu(), want_grad, rtol=0, atol=1e-11)
    assert torch.allclose(ops.jacobian_determinant(here.detach().float()).cpu().double(), want, rtol=0, atol=1e-3)


@pytest.mark.parametrize("size", [(5,), (4, 3), (3, 2, 4)])
def test_gradcheck(size):
    assert torch.autograd.gradcheck(ops.jacobian_determinant, smooth_field(size, batch=2).requires_grad_())


def test_threads_batch_and_instruction_sets():
    u = smooth_field((33, 34, 35), batch=2, dtype=torch.float32)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = ops.jacobian_determinant(u)
        torch.set_num_threads(3)
        three = ops.jacobian_determinant(u)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(one, three)
    assert torch.equal(one[1:], ops.jacobian_determinant(u[1:]))
    for name in ("base", "avx2"):
        with use_instruction_set(name):
            assert torch.allclose(ops.jacobian_determinant(u), one, rtol=1e-5, atol=1e-5)


def test_nan_stays_near_its_voxel(device):
    u = torch.zeros(1, 2, 7, 7, device=device)
    u[0, 0, 3, 3] = math.nan
    wrong = ops.jacobian_determinant(u)[0, 0].isnan().nonzero().tolist()
    assert wrong == [[2, 3], [3, 2], [3, 4], [4, 3]]


def test_operator_passes_opcheck(device):
    u = smooth_field((4, 5, 6), dtype=torch.float32).to(device)
    torch.library.opcheck(torch.ops.medsynth_ext.jacobian_determinant.default, (u.clone().requires_grad_(),))
    torch.library.opcheck(torch.ops.medsynth_ext.jacobian_determinant_out.default, (u, u[:, :1].clone()))
    torch.library.opcheck(torch.ops.medsynth_ext.jacobian_determinant_backward.default, (u[:, :1].clone(), u))


def test_out_empty_meta_and_non_contiguous(device):
    u = smooth_field((4, 5, 6)).to(device)
    out = u.new_empty(1, 1, 4, 5, 6)
    assert ops.jacobian_determinant(u, out=out) is out
    assert torch.equal(ops.jacobian_determinant(u.transpose(2, 4).contiguous().transpose(2, 4)), out)
    assert ops.jacobian_determinant(u[:0]).shape == (0, 1, 4, 5, 6)
    assert ops.jacobian_determinant(u.to("meta")).shape == (1, 1, 4, 5, 6)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"displacement must be .* got \(1, 3, 4, 4\)"):
        ops.jacobian_determinant(torch.zeros(1, 3, 4, 4))
    with pytest.raises(TypeError, match="float32 or float64"):
        ops.jacobian_determinant(torch.zeros(1, 1, 4, dtype=torch.int32))
