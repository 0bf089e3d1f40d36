"""ortho_slice_product: worked numbers, twin, gradients, reproducibility and refusals."""

from __future__ import annotations

import math

import pytest
import torch

from medsynth_ext import ops
from medsynth_ext._extension import has_operators, use_instruction_set
from medsynth_ext.ops import reference

needs_kernels = pytest.mark.skipif(not has_operators(), reason="operators are not built")
SIZES = [(1, 1, 1), (16, 16, 16), (17, 5, 33), (1, 40, 3), (3, 1, 21), (50, 2, 1)]


def stacks(size, batch=2, dtype=torch.float64, device="cpu", *, log=False):
    g = torch.Generator().manual_seed(sum(size))
    i, j, k = size
    shapes = (k, i, j), (j, k, i), (i, j, k)
    maps = [torch.rand(batch, *shape, generator=g, dtype=dtype) + 0.01 for shape in shapes]
    return [(m.log() if log else m).to(device) for m in maps]


def test_every_voxel_is_the_product_of_its_three_slices(device):
    z, y, x = stacks((2, 3, 4), batch=1, device=device)
    p = ops.ortho_slice_product(z, y, x)
    assert p.shape == (1, 2, 3, 4)
    for i in range(2):
        for j in range(3):
            for k in range(4):
                want = z[0, k, i, j] * y[0, j, k, i] * x[0, i, j, k]
                assert p[0, i, j, k].item() == pytest.approx(want.item(), rel=1e-12)


def test_slices_of_one_volume_give_its_cube(device):
    v = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(device)
    p = ops.ortho_slice_product(v.permute(2, 0, 1), v.permute(1, 2, 0), v)
    torch.testing.assert_close(p, v**3)


@pytest.mark.parametrize("isa", ["base", "avx2", "avx512"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("log", [False, True])
def test_kernel_and_gradients_equal_the_twin(device, isa, size, dtype, log):
    maps = [m.requires_grad_() for m in stacks(size, dtype=dtype, device=device, log=log)]
    results = []
    for module in (ops, reference):
        with use_instruction_set(isa):
            p = module.ortho_slice_product(*maps, log=log)
            g = torch.linspace(-1, 1, p.numel(), dtype=dtype, device=device).reshape(p.shape)
            results.append((p, *torch.autograd.grad(p, maps, g)))
    for found, want in zip(*results, strict=True):
        torch.testing.assert_close(found, want, rtol=2e-6 if dtype == torch.float32 else 1e-13, atol=1e-30)


@pytest.mark.parametrize("log", [False, True])
def test_gradients_pass_gradcheck(log):
    maps = [m.requires_grad_() for m in stacks((3, 2, 4), log=log)]
    assert torch.autograd.gradcheck(lambda *m: ops.ortho_slice_product(*m, log=log), maps)
    (grad,) = torch.autograd.grad(ops.ortho_slice_product(*maps, log=log).sum(), maps[0], create_graph=True)
    with pytest.raises(NotImplementedError, match="second derivative"):
        grad.sum().backward()


def test_zeros_infinities_and_nan_are_those_of_the_formula(device):
    values = torch.tensor([-math.inf, -400.0, 0.0, 3.0, 400.0, math.nan], device=device)
    z = values.view(1, 1, 6, 1, 1)  # K = 6, I = J = 1
    zero = torch.zeros(1, 1, 1, 6, 1, device=device)
    p = ops.ortho_slice_product(z[0], zero[0], zero[0].mT.contiguous(), log=True).flatten()
    assert p[:2].tolist() == [0.0, 0.0]
    assert p[2:4].tolist() == pytest.approx([1.0, math.exp(3)], rel=1e-6)
    assert p[4].item() == math.inf
    assert p[5].isnan()
    one = torch.ones_like(zero[0])
    linear = ops.ortho_slice_product(z[0], one, one.mT.contiguous()).flatten()
    assert torch.equal(linear[:5], values[:5])
    assert linear[5].isnan()


def test_logarithms_hold_factors_that_the_type_does_not(device):
    def full(value):
        return torch.full((1, 2, 2, 2), value, device=device)

    tiny = -110.0  # exp(-110) is 0 in float32
    found = ops.ortho_slice_product(full(tiny), full(60.0), full(20.0), log=True)
    assert found.flatten().tolist() == pytest.approx([math.exp(-30)] * 8, rel=1e-5)
    assert not ops.ortho_slice_product(full(tiny).exp(), full(60.0).exp(), full(20.0).exp()).any()


@needs_kernels
def test_bits_do_not_depend_on_threads_or_batch():
    maps = stacks((33, 40, 21), batch=3, dtype=torch.float32)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            leaves = [m.clone().requires_grad_() for m in maps]
            p = ops.ortho_slice_product(*leaves)
            results.append((p.detach(), *torch.autograd.grad(p.square().sum(), leaves)))
            singles = [ops.ortho_slice_product(*(m[b : b + 1] for m in maps)) for b in range(3)]
            assert torch.equal(torch.cat(singles), results[-1][0])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_leading_axes_out_and_non_contiguous_stacks(device):
    z, y, x = stacks((6, 7, 8), batch=4, dtype=torch.float32, device=device)
    want = ops.ortho_slice_product(z, y, x)
    nested = ops.ortho_slice_product(*(m.unflatten(0, (2, 2)) for m in (z, y, x)))
    assert torch.equal(nested.flatten(0, 1), want)
    assert torch.equal(ops.ortho_slice_product(z[0], y[0], x[0]), want[0])
    strided = [m.mT.contiguous().mT for m in (z, y, x)]
    assert torch.equal(ops.ortho_slice_product(*strided), want)
    out = torch.empty_like(want)
    assert ops.ortho_slice_product(z, y, x, out=out) is out
    assert torch.equal(out, want)
    ops.ortho_slice_product(z, y, x, out=x)  # in the place of x
    assert torch.equal(x, want)


def test_empty_batches_and_volumes(device):
    z, y, x = stacks((2, 3, 4), dtype=torch.float32, device=device)
    assert ops.ortho_slice_product(z[:0], y[:0], x[:0]).shape == (0, 2, 3, 4)
    empty = torch.zeros(1, 0, 3, 2, device=device)
    assert ops.ortho_slice_product(empty.permute(0, 3, 1, 2), empty.permute(0, 2, 3, 1), empty).shape == (1, 0, 3, 2)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": torch.zeros(2, 3, 4).int()}, TypeError, "x must"),
        ({"y": torch.zeros(3, 4, 2).double()}, TypeError, "y must have the dtype of x"),
        ({"x": torch.zeros(3, 4)}, ValueError, r"x must be \(\*B, I, J, K\), got \(3, 4\)"),
        ({"y": torch.zeros(2, 3, 4)}, ValueError, r"y must be \(3, 4, 2\) for x of \(2, 3, 4\), got \(2, 3, 4\)"),
        ({"z": torch.zeros(1, 4, 2, 3)}, ValueError, "z must be"),
        ({"out": torch.zeros(2, 3, 5)}, ValueError, "out must have shape"),
    ],
)
def test_bad_arguments_are_refused(change, error, message):
    good = {"z": torch.zeros(4, 2, 3), "y": torch.zeros(3, 4, 2), "x": torch.zeros(2, 3, 4)}
    with pytest.raises(error, match=message):
        ops.ortho_slice_product(**(good | change))


def test_out_is_refused_over_other_inputs_and_with_gradients():
    z, y, x = stacks((2, 2, 2), batch=1, dtype=torch.float32)
    with pytest.raises(ValueError, match="memory of y or z"):
        ops.ortho_slice_product(z, y, x, out=y)
    with pytest.raises(RuntimeError, match="gradient"):
        ops.ortho_slice_product(z, y, x.requires_grad_(), out=torch.empty(1, 2, 2, 2))


@needs_kernels
def test_the_door_of_c_plus_plus_refuses_what_would_read_outside():
    z, y, x = stacks((2, 3, 4), batch=1, dtype=torch.float32)
    op = torch.ops.medsynth_ext
    for bad in ((z[:, :3], y, x), (z, y[:, :2], x), (z, y.double(), x), (z[0], y[0], x[0])):
        with pytest.raises(RuntimeError, match="must"):
            op.ortho_slice_product(*bad, False)
    with pytest.raises(RuntimeError, match="grad must"):
        op.ortho_slice_product_backward(x[:, :1], z, y, x, False)


@needs_kernels
def test_operators_pass_opcheck():
    maps = stacks((2, 3, 4), dtype=torch.float32)
    op = torch.ops.medsynth_ext
    leaves = [m.clone().requires_grad_() for m in maps]
    for log in (False, True):
        torch.library.opcheck(op.ortho_slice_product.default, (*leaves, log))
        torch.library.opcheck(op.ortho_slice_product_backward.default, (torch.rand_like(maps[2]), *maps, log))
        torch.library.opcheck(op.ortho_slice_product_out.default, (*maps, log, torch.empty_like(maps[2])))


def test_compiles_without_graph_break():
    maps = stacks((4, 5, 6), dtype=torch.float32)
    found = torch.compile(ops.ortho_slice_product, fullgraph=True, backend="aot_eager")(*maps)
    assert torch.equal(found, ops.ortho_slice_product(*maps))


def test_meta_device_gives_shapes():
    maps = [m.to("meta") for m in stacks((4, 5, 6), dtype=torch.float32)]
    assert ops.ortho_slice_product(*maps).shape == (2, 4, 5, 6)
