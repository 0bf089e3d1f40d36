"""resample and simulate_resolution: separable maps between grids."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from medsynth_ext import ops
from medsynth_ext._extension import use_instruction_set
from medsynth_ext.ops import reference

RULES = ["corner", "half_pixel", "align_corners"]
BORDERS = ["clamp", "zeros", "reflect"]
SIZES = [
    ((5, 6, 7), (8, 3, 33)),
    ((4, 9, 40), (4, 9, 80)),
    ((4, 9, 40), (8, 18, 40)),
    ((11, 13), (5, 70)),
    ((9,), (20,)),
    ((1, 4), (3, 1)),
]


def test_hand_worked_values(device: torch.device) -> None:
    x = torch.tensor([[[0.0, 2.0]]], device=device)
    assert ops.resample(x, [4]).tolist() == [[[0.0, 1.0, 2.0, 2.0]]]
    assert ops.resample(x, [4], rule="half_pixel").tolist() == [[[0.0, 0.5, 1.5, 2.0]]]
    assert ops.resample(x, [3], rule="align_corners").tolist() == [[[0.0, 1.0, 2.0]]]
    assert ops.resample(x, [4], mode="nearest").tolist() == [[[0.0, 0.0, 2.0, 2.0]]]  # 0.5 goes to even
    four = torch.tensor([[[0.0, 1.0, 4.0, 9.0]]], device=device)
    assert ops.simulate_resolution(four, [[2]]).tolist() == [[[0.0, 2.0, 4.0, 4.0]]]


@pytest.mark.parametrize("name", ["base", "avx2", "avx512"])
@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("size", "out_size"), SIZES)
def test_agrees_with_float64_twin(size, out_size, rule: str, border: str, name: str, device: torch.device) -> None:
    x = torch.randn(2, 3, *size, device=device)
    for mode in ("linear", "nearest"):
        want = reference.resample(x.double(), out_size, rule=rule, mode=mode, border=border)
        with use_instruction_set(name):
            got = ops.resample(x, out_size, rule=rule, mode=mode, border=border)
            exact = ops.resample(x.double(), out_size, rule=rule, mode=mode, border=border)
        torch.testing.assert_close(got.double(), want, rtol=0, atol=1e-5)
        torch.testing.assert_close(exact, want, rtol=0, atol=1e-12)


def test_agrees_with_interpolate() -> None:
    x = torch.randn(2, 3, 5, 6, 7, dtype=torch.float64)
    for rule, aligned in (("half_pixel", False), ("align_corners", True)):
        want = F.interpolate(x, size=(8, 3, 33), mode="trilinear", align_corners=aligned)
        torch.testing.assert_close(ops.resample(x, (8, 3, 33), rule=rule), want)


@pytest.mark.parametrize("mode", ["linear", "nearest"])
@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("rule", RULES)
def test_gradient_is_the_adjoint(rule: str, border: str, mode: str, device: torch.device) -> None:
    for size, out_size in SIZES:
        x = torch.randn(2, 3, *size, dtype=torch.float64, device=device, requires_grad=True)
        out = ops.resample(x, out_size, rule=rule, mode=mode, border=border)
        y = torch.randn_like(out)
        (adjoint,) = torch.autograd.grad(out, x, y)
        torch.testing.assert_close((out * y).sum(), (x * adjoint).sum(), rtol=1e-10, atol=1e-10)
    x = torch.randn(1, 1, 3, 4, dtype=torch.float64, device=device, requires_grad=True)
    assert gradcheck(lambda t: ops.resample(t, (5, 2), rule=rule, mode=mode, border=border), (x,))


LOWS = [[[20, 18, 40], [7, 18, 40]], [[20, 5, 40], [20, 18, 13]], [[3, 6, 9], [20, 18, 40]], [[1, 1, 1], [19, 17, 39]]]


@pytest.mark.parametrize("name", ["base", "avx2", "avx512"])
@pytest.mark.parametrize("mode", ["linear", "nearest"])
@pytest.mark.parametrize("low", LOWS)
def test_simulated_resolution_is_down_and_up(low, mode: str, name: str, device: torch.device) -> None:
    x = torch.randn(2, 2, 20, 18, 40, device=device)
    with use_instruction_set(name):
        got = ops.simulate_resolution(x, low, mode=mode)
        exact = ops.simulate_resolution(x.double(), low, mode=mode)
    for b in range(2):
        down = reference.resample(x[b : b + 1].double(), low[b], mode=mode)
        want = reference.resample(down, (20, 18, 40))
        torch.testing.assert_close(exact[b : b + 1], want, rtol=0, atol=1e-12)
        torch.testing.assert_close(got[b : b + 1].double(), want, rtol=0, atol=1e-5)
        if low[b] == [20, 18, 40]:
            assert torch.equal(got[b], x[b])


@pytest.mark.parametrize("mode", ["linear", "nearest"])
@pytest.mark.parametrize("low", LOWS)
def test_gradient_of_simulated_resolution_is_its_adjoint(low, mode: str, device: torch.device) -> None:
    x = torch.randn(2, 2, 20, 18, 40, dtype=torch.float64, device=device, requires_grad=True)
    out = ops.simulate_resolution(x, low, mode=mode)
    y = torch.randn_like(out)
    (adjoint,) = torch.autograd.grad(out, x, y)
    torch.testing.assert_close((out * y).sum(), (x * adjoint).sum(), rtol=1e-10, atol=1e-10)
    small = torch.randn(1, 1, 4, 5, dtype=torch.float64, device=device, requires_grad=True)
    assert gradcheck(lambda t: ops.simulate_resolution(t, [[2, 3]], mode=mode), (small,))


def test_linear_images_pass_through_low_resolution_inside() -> None:
    x = torch.arange(32.0).expand(1, 1, 32)
    got = ops.simulate_resolution(x, [[8]])
    torch.testing.assert_close(got[..., :29], x[..., :29])


def test_result_does_not_depend_on_threads_or_batch_split() -> None:
    x, low = torch.randn(2, 2, 20, 18, 40), [[20, 5, 13], [7, 18, 40]]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    one = ops.simulate_resolution(x, low), ops.resample(x, (40, 9, 50))
    torch.set_num_threads(2)
    two = ops.simulate_resolution(x, low), ops.resample(x, (40, 9, 50))
    torch.set_num_threads(threads)
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])
    assert torch.equal(one[0][1:], ops.simulate_resolution(x[1:], low[1:]))


def test_opcheck_compile_meta_empty_and_out() -> None:
    x, low = torch.randn(2, 1, 4, 5), torch.tensor([[2, 5], [4, 3]])
    op = torch.ops.medsynth_ext
    torch.library.opcheck(op.resample.default, (x, [3, 8], 0, 0, 0, [2.0]))
    torch.library.opcheck(op.resample.default, (x.clone().requires_grad_(), [3, 8], 1, 0, 2, []))
    torch.library.opcheck(op.resample_out.default, (x, [3, 8], 0, 1, 1, [], torch.empty(2, 1, 3, 8)))
    torch.library.opcheck(op.resample_backward.default, (x, [3, 8], 0, 0, 0, [], [], []))
    torch.library.opcheck(op.simulate_resolution.default, (x, low, 0))
    torch.library.opcheck(op.simulate_resolution.default, (x.clone().requires_grad_(), low, 0))
    torch.library.opcheck(op.simulate_resolution_out.default, (x, low, 0, torch.empty(2, 1, 4, 5)))
    torch.library.opcheck(op.simulate_resolution_backward.default, (x, low, 0))
    compiled = torch.compile(
        lambda t: ops.simulate_resolution(ops.resample(t, (4, 5)), low), fullgraph=True, backend="aot_eager"
    )
    torch.testing.assert_close(compiled(x), ops.simulate_resolution(x, low))
    assert ops.resample(x.to("meta"), (3, 8)).shape == (2, 1, 3, 8)
    assert ops.resample(x[:0], (3, 8)).shape == (0, 1, 3, 8)
    assert ops.simulate_resolution(x[:0], low[:0]).shape == (0, 1, 4, 5)
    out = torch.empty(2, 1, 4, 5)
    assert ops.simulate_resolution(x, low, out=out) is out
    strided = x.transpose(2, 3).contiguous().transpose(2, 3)
    assert torch.equal(ops.simulate_resolution(strided, low), out)


def test_errors_name_the_argument() -> None:
    x = torch.randn(2, 1, 4, 5)
    with pytest.raises(ValueError, match="size must have 2 entries"):
        ops.resample(x, (3,))
    with pytest.raises(ValueError, match="size must be at least 1"):
        ops.resample(x, (3, 0))
    with pytest.raises(ValueError, match="rule must be one of"):
        ops.resample(x, (3, 3), rule="same")
    with pytest.raises(TypeError, match="x must be float16, bfloat16, float32 or float64"):
        ops.resample(x.int(), (3, 3))
    with pytest.raises(ValueError, match="x must have voxels"):
        ops.resample(x[:, :, :0], (3, 3))
    with pytest.raises(ValueError, match="low_size must lie between"):
        ops.simulate_resolution(x, [[5, 5], [1, 1]])
    with pytest.raises(ValueError, match=r"low_size must be \(2, 2\)"):
        ops.simulate_resolution(x, [[4, 5]])
    with pytest.raises(TypeError, match="low_size must hold integers"):
        ops.simulate_resolution(x, torch.ones(2, 2))
