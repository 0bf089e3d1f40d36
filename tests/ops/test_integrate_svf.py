"""integrate_svf: scaling and squaring, its properties and its adjoint."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from monai.networks.blocks import DVF2DDF

from medsynth_ext import build_info, ops
from medsynth_ext._extension import use_instruction_set
from medsynth_ext.ops import reference

sys.path.insert(0, str(Path(__file__).parent))
from diffeo_fields import BORDERS, SIZES, inside, linear_field, smooth_field


def test_hand_worked_table(device):
    velocity = torch.tensor([[[0.0, 1.0, 2.0, 0.0]]], device=device)
    # One step: u0 = v / 2 = 0, .5, 1, 0, read at 0, 1.5, 3, 3 by linear interpolation: 0, .75, 0, 0.
    assert ops.integrate_svf(velocity, 1).tolist() == [[[0.0, 1.25, 1.0, 0.0]]]
    assert ops.integrate_svf(velocity, 1, inverse=True).tolist() == [[[0.0, -0.75, -1.5, 0.0]]]
    # Zeros: u0 = 0, .5, 1, 2 read at 0, 1.5, 3, 5; the last lies outside.
    last = torch.tensor([[[0.0, 1.0, 2.0, 4.0]]], device=device)
    assert ops.integrate_svf(last, 1, border="zeros").tolist() == [[[0.0, 1.25, 3.0, 2.0]]]
    assert ops.integrate_svf(last, 1, border="clamp").tolist() == [[[0.0, 1.25, 3.0, 4.0]]]
    assert ops.integrate_svf(last, 1, border="reflect").tolist() == [[[0.0, 1.25, 3.0, 2.5]]]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("inverse", [False, True])
def test_equals_twin(device, size, border, inverse):
    velocity = smooth_field(size, batch=2)
    want = reference.integrate_svf(velocity, 7, border=border, inverse=inverse)
    got = ops.integrate_svf(velocity.to(device), 7, border=border, inverse=inverse)
    assert torch.allclose(got.cpu(), want, rtol=0, atol=1e-12)
    single = ops.integrate_svf(velocity.float().to(device), 7, border=border, inverse=inverse)
    assert single.dtype == torch.float32
    assert torch.allclose(single.cpu().double(), want, rtol=0, atol=1e-4)


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 4, 5, 8, 16])
def test_gradient_equals_twins_for_any_steps(device, steps):
    velocity = smooth_field((6, 7, 8)).requires_grad_()
    weight = torch.randn(velocity.shape, dtype=torch.float64)
    (want,) = torch.autograd.grad(reference.integrate_svf(velocity, steps), velocity, weight)
    here = velocity.detach().to(device).requires_grad_()
    for checkpoint in (True, False):
        result = ops.integrate_svf(here, steps, checkpoint=checkpoint)
        (got,) = torch.autograd.grad(result, here, weight.to(device))
        assert torch.allclose(got.cpu(), want, rtol=0, atol=1e-10 * want.abs().max().item())


@pytest.mark.parametrize("steps", [0, 1, 7])
@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("size", [(6,), (4, 5), (3, 4, 3)])
def test_gradcheck(steps, border, size):
    velocity = smooth_field(size, batch=2, amplitude=0.4).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: ops.integrate_svf(v, steps, border=border), velocity)


def test_gradcheck_with_kept_fields_and_inverse():
    velocity = smooth_field((3, 4, 3), amplitude=0.4).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: ops.integrate_svf(v, 4, inverse=True, checkpoint=False), velocity)


def test_zero_steps_return_the_velocity(device):
    velocity = smooth_field((4, 5, 6)).to(device)
    assert torch.equal(ops.integrate_svf(velocity, 0), velocity)
    assert torch.equal(ops.integrate_svf(velocity, 0, inverse=True), -velocity)


def test_constant_field_is_kept_exactly(device):
    velocity = torch.tensor([1.75, -3.3, 0.4]).view(1, 3, 1, 1, 1).expand(1, 3, 9, 8, 11).to(device)
    assert torch.equal(ops.integrate_svf(velocity, 7), velocity)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_linear_field_gives_the_matrix_exponential(dims):
    generator = torch.Generator().manual_seed(3)
    matrix = torch.randn(dims, dims, generator=generator, dtype=torch.float64) * 0.15
    size = (25,) * dims
    got = ops.integrate_svf(linear_field(matrix, size), 16)
    want = linear_field(torch.linalg.matrix_exp(matrix) - torch.eye(dims, dtype=torch.float64), size)
    assert inside(got - want, 8).abs().max() < 2e-4


def test_rotation_about_the_centre():
    angle = 0.3
    matrix = torch.tensor([[0.0, -angle], [angle, 0.0]])
    turn = torch.tensor([[math.cos(angle) - 1, -math.sin(angle)], [math.sin(angle), math.cos(angle) - 1]])
    size = (101, 101)
    got, want = ops.integrate_svf(linear_field(matrix, size), 7), linear_field(turn, size)
    assert inside(got - want, 29).abs().max() <= 0.02  # radius 30


def synthseg_field(seed: int, size: int, *, std: float = 4.0, scale: float = 1.0) -> torch.Tensor:
    """A velocity as SynthSeg draws it: deviation ``std``, at most 4, at 7^3 nodes, resized by lab2im's rule."""
    generator = torch.Generator().manual_seed(seed)
    nodes = torch.randn(1, 3, 7, 7, 7, generator=generator) * std * scale
    return ops.resize_field(nodes, (size,) * 3, rule="corner", rescale=False)


def mean_inverse_residual(velocity: torch.Tensor) -> float:
    """Mean length, in voxels, of the way there and back; a tenth of the grid next to the faces is left out."""
    there, back = ops.integrate_svf(velocity), ops.integrate_svf(velocity, inverse=True)
    return inside(ops.compose(there, back), velocity.shape[2] // 10).norm(dim=1).mean().item()


@pytest.mark.parametrize("seed", range(2))
def test_inverse_field_composes_to_identity(seed):
    # The specification's 0.02 voxel, in the voxels in which the deviation of 4 is meant: those of the 160^3 image.
    assert mean_inverse_residual(synthseg_field(seed, 160)) <= 0.02


def test_inverse_field_composes_to_identity_on_the_generators_grid():
    # On the half-size grid a deviation of 4 is the end of the range 0 to 4; 0.02 holds for the mean over the range.
    residuals = [mean_inverse_residual(synthseg_field(3, 80, std=std)) for std in (0.5, 1.5, 2.5, 3.5)]
    assert sum(residuals) / len(residuals) <= 0.02
    assert mean_inverse_residual(synthseg_field(3, 80)) <= 0.045


def test_inverse_residual_halves_with_the_voxel_size():
    # What is left at a deviation of 4 on 80^3 (0.039 to 0.043 voxel, in float64 as well) is the error of linear
    # interpolation at the kinks of the velocity, so the same deformation on half the voxel size has half of it.
    coarse, fine = mean_inverse_residual(synthseg_field(3, 80)), mean_inverse_residual(synthseg_field(3, 160, scale=2))
    assert fine / 2 <= 0.52 * coarse  # the residuals are in voxels


@pytest.mark.parametrize("seed", range(4))
def test_synthseg_fields_do_not_fold(seed):
    # As published: integrated at half size, brought to 160^3 without doubling the vectors. The ranges are the
    # specification's: length 3.7 to 4.3 voxels, smallest determinant 0.29 to 0.46, and 0.03 to 0.16 when doubled.
    half = ops.integrate_svf(synthseg_field(seed, 80))
    full = ops.resize_field(half, (160,) * 3, rule="corner", rescale=False)
    assert 3.7 <= full.square().sum(1).mean().sqrt() <= 4.3
    assert ops.jacobian_determinant(full).min() >= 0.29
    assert ops.jacobian_determinant(2 * full).min() >= 0.03


def test_equals_neuron_rule_on_stored_numbers():
    # neuron's VecInt: ij order, linear, clamped, v / 2^7 added to itself seven times. Numbers from the rule worked
    # through in float64 by scalar loops (below) on this velocity.
    velocity = smooth_field((5, 6), amplitude=3.0, seed=11)
    field = (velocity[0] / 128).tolist()
    for _ in range(7):
        field = _neuron_step(field, 5, 6)
    want = torch.tensor(field, dtype=torch.float64)
    assert torch.allclose(reference.integrate_svf(velocity)[0], want, rtol=0, atol=1e-13)
    assert torch.allclose(ops.integrate_svf(velocity)[0], want, rtol=0, atol=1e-13)


def _neuron_step(field: list, rows: int, columns: int) -> list:
    out = [[[0.0] * columns for _ in range(rows)] for _ in range(2)]
    for i in range(rows):
        for j in range(columns):
            y = min(max(i + field[0][i][j], 0.0), rows - 1.0)
            x = min(max(j + field[1][i][j], 0.0), columns - 1.0)
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, rows - 1), min(x0 + 1, columns - 1)
            for c in range(2):
                f = field[c]
                top = f[y0][x0] * (x0 + 1 - x) + f[y0][x1] * (x - x0)
                low = f[y1][x0] * (x0 + 1 - x) + f[y1][x1] * (x - x0)
                out[c][i][j] = f[i][j] + top * (y0 + 1 - y) + low * (y - y0)
    return out


def _grid_sample_svf(velocity: torch.Tensor, padding_mode: str) -> torch.Tensor:
    """voxelmorph's algebra: grid_sample with align_corners, on coordinates normalised to [-1, 1]."""
    size = velocity.shape[2:]
    axes = [torch.arange(n, dtype=velocity.dtype) for n in size]
    identity = torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]
    span = torch.tensor([n - 1 for n in size], dtype=velocity.dtype).view(1, -1, *[1] * len(size))
    u = velocity / 2**7
    for _ in range(7):
        grid = (2 * (identity + u) / span - 1).movedim(1, -1).flip(-1)
        u = u + F.grid_sample(u, grid, padding_mode=padding_mode, align_corners=True)
    return u


@pytest.mark.parametrize(("border", "padding"), [("zeros", "zeros"), ("clamp", "border"), ("reflect", "reflection")])
@pytest.mark.parametrize("size", [(12, 15), (10, 11, 12)])
def test_equals_voxelmorph_algebra(border, padding, size):
    velocity = smooth_field(size, amplitude=3.0)
    got = ops.integrate_svf(velocity, border=border)
    assert torch.allclose(got, _grid_sample_svf(velocity, padding), rtol=0, atol=1e-11)


def test_equals_monai_dvf2ddf():
    velocity = smooth_field((12, 13, 14), amplitude=3.0, dtype=torch.float32)
    want = DVF2DDF(num_steps=7, mode="bilinear", padding_mode="border")(velocity)
    assert torch.allclose(ops.integrate_svf(velocity), want, rtol=0, atol=2e-4)


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30, -1e30])
def test_wild_values_do_not_crash(device, border, value):
    velocity = smooth_field((5, 6, 7), dtype=torch.float32).to(device)
    velocity[0, 1, 2, 3, 4] = value
    velocity.requires_grad_()
    result = ops.integrate_svf(velocity, border=border)
    result.sum().backward()
    assert result.shape == velocity.shape
    if math.isnan(value):
        assert result[0, :, 2, 3, 4].isnan().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [(3, 700), (37, 38, 39)])
def test_threads_and_batch_split_do_not_change_a_bit(dtype, size):
    velocity = smooth_field(size, batch=3, amplitude=4.0, dtype=dtype)
    weight = torch.randn(velocity.shape, dtype=dtype)

    def both(v: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        v = v.clone().requires_grad_()
        result = ops.integrate_svf(v)
        return result.detach(), torch.autograd.grad(result, v, w)[0]

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = both(velocity, weight)
        torch.set_num_threads(3)
        three = both(velocity, weight)
    finally:
        torch.set_num_threads(threads)
    single = both(velocity[1:2], weight[1:2])
    for a, b, c in zip(one, three, single, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a[1:2], c)


@pytest.mark.parametrize("border", BORDERS)
def test_instruction_sets_agree(border):
    velocity = smooth_field((9, 10, 530), amplitude=3.0, dtype=torch.float32)
    results = []
    for name in ("base", "avx2", "avx512"):
        with use_instruction_set(name):
            v = velocity.clone().requires_grad_()
            result = ops.integrate_svf(v, border=border)
            results.append((result.detach(), torch.autograd.grad(result.square().sum(), v)[0]))
    for result, grad in results[1:]:
        assert torch.allclose(result, results[0][0], rtol=0, atol=5e-4)
        assert (grad - results[0][1]).norm() <= 1e-3 * grad.norm()


def test_non_contiguous_and_empty_batch(device):
    velocity = smooth_field((7, 6, 5), dtype=torch.float32).to(device)
    strided = velocity.transpose(2, 4).contiguous().transpose(2, 4)
    assert torch.equal(ops.integrate_svf(strided), ops.integrate_svf(velocity))
    assert ops.integrate_svf(velocity[:0]).shape == (0, 3, 7, 6, 5)


def test_out_is_written(device):
    velocity = smooth_field((7, 6, 5)).to(device)
    out = torch.empty_like(velocity)
    assert ops.integrate_svf(velocity, out=out) is out
    assert torch.equal(out, ops.integrate_svf(velocity))


def test_operator_passes_opcheck(device):
    velocity = smooth_field((4, 5, 6), dtype=torch.float32).to(device).requires_grad_()
    torch.library.opcheck(torch.ops.medsynth_ext.integrate_svf.default, (velocity, 3, 0, False))
    torch.library.opcheck(torch.ops.medsynth_ext.integrate_svf_saving.default, (velocity, 3, 0, False))
    plain = velocity.detach()
    torch.library.opcheck(torch.ops.medsynth_ext.integrate_svf_out.default, (plain, 3, 0, False, plain.clone()))
    torch.library.opcheck(
        torch.ops.medsynth_ext.integrate_svf_backward.default, (plain, plain, plain.new_empty(0), 3, 0, False)
    )


def test_compiles_without_graph_break():
    velocity = smooth_field((6, 7, 8), dtype=torch.float32)
    compiled = torch.compile(lambda v: ops.integrate_svf(v) * 2, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(velocity), ops.integrate_svf(velocity) * 2)


def test_meta_device_gives_shapes():
    assert ops.integrate_svf(torch.empty(2, 2, 5, 6, device="meta")).shape == (2, 2, 5, 6)


def test_second_derivative_is_refused():
    velocity = smooth_field((4, 5)).requires_grad_()
    (grad,) = torch.autograd.grad(ops.integrate_svf(velocity).square().sum(), velocity, create_graph=True)
    with pytest.raises(NotImplementedError, match="second derivative"):
        grad.sum().backward()


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (([1.0],), {}, TypeError, "velocity must be a tensor"),
        ((torch.zeros(1, 1, 4, dtype=torch.int64),), {}, TypeError, "float32 or float64"),
        ((torch.zeros(1, 2, 4),), {}, ValueError, r"velocity must be .*got \(1, 2, 4\)"),
        ((torch.zeros(1, 4, 4, 4, 4, 4),), {}, ValueError, "velocity must be"),
        ((torch.zeros(1, 2, 4, 0),), {}, ValueError, "at least one voxel"),
        ((torch.zeros(1, 1, 4), 17), {}, ValueError, "steps must be in 0..16, got 17"),
        ((torch.zeros(1, 1, 4), -1), {}, ValueError, "steps must be in 0..16, got -1"),
        ((torch.zeros(1, 1, 4), 2.0), {}, TypeError, "steps must be an int"),
        ((torch.zeros(1, 1, 4),), {"border": "wrap"}, ValueError, "border must be one of"),
        ((torch.zeros(1, 1, 4),), {"out": torch.zeros(1, 1, 5)}, ValueError, "out must have shape"),
        ((torch.zeros(1, 1, 4),), {"out": torch.zeros(1, 1, 4).double()}, TypeError, "out must be"),
        ((torch.zeros(1, 1, 4, requires_grad=True),), {"out": torch.zeros(1, 1, 4)}, RuntimeError, "gradient"),
    ],
)
def test_bad_arguments_are_named(arguments, options, error, message):
    with pytest.raises(error, match=message):
        ops.integrate_svf(*arguments, **options)


def test_out_may_not_be_the_input():
    velocity = torch.zeros(1, 1, 4)
    with pytest.raises(ValueError, match="out must not be the memory of velocity"):
        ops.integrate_svf(velocity, out=velocity)


@pytest.mark.parametrize("bad", [torch.zeros(3), torch.zeros(1, 2, 4), torch.zeros(1, 3, 0, 4, 4)])
def test_cpp_door_refuses_what_would_not_be_safe(bad):
    assert build_info()["version"]
    with pytest.raises(RuntimeError):
        torch.ops.medsynth_ext.integrate_svf_out(bad, 99, 7, False, torch.zeros(1))
