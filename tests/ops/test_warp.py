"""warp: images pulled back by a displacement."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from medsynth_ext import ops
from medsynth_ext._extension import use_instruction_set
from medsynth_ext.ops import reference

BORDERS = ["clamp", "zeros", "reflect"]
SHAPES = [
    ((5, 6, 7), (5, 6, 7)),
    ((9, 17, 30), (4, 5, 71)),
    ((11, 13), (9, 40)),
    ((1, 6, 1), (3, 2, 5)),
    ((19,), (50,)),
    ((3, 20, 130), (2, 21, 200)),  # several stretches of a row, and a tail
    ((40, 70), (33, 129)),
    ((4, 1, 2), (3, 4, 67)),
]


def make(size: tuple[int, ...], out_size: tuple[int, ...], dtype: torch.dtype = torch.float64, amplitude: float = 3.0):
    generator = torch.Generator().manual_seed(7)
    img = torch.randn(2, 2, *size, generator=generator, dtype=dtype)
    return img, amplitude * torch.randn(2, len(size), *out_size, generator=generator, dtype=dtype)


def test_hand_worked_values(device: torch.device) -> None:
    img = torch.tensor([[[0.0, 10.0, 20.0]]], device=device)
    disp = torch.tensor([[[0.5, -1.5, 1.0]]], device=device)  # locations 0.5, -0.5, 3
    assert ops.warp(img, disp).tolist() == [[[5.0, 0.0, 20.0]]]
    assert ops.warp(img, disp, border="zeros", fill=4.0).tolist() == [[[5.0, 2.0, 4.0]]]
    assert ops.warp(img, disp, border="reflect").tolist() == [[[5.0, 5.0, 10.0]]]
    assert ops.warp(img, disp, mode="nearest").tolist() == [[[0.0, 0.0, 20.0]]]  # halves go to the even voxel


def test_zero_displacement_is_identity(device: torch.device) -> None:
    img = torch.randn(1, 2, 5, 6, 37, device=device)
    zero = torch.zeros(1, 3, 5, 6, 37, device=device)
    torch.testing.assert_close(ops.warp(img, zero), img, rtol=0, atol=1e-6)
    assert torch.equal(ops.warp(img, zero, mode="nearest"), img)


@pytest.mark.parametrize("name", ["base", "avx2", "avx512"])
@pytest.mark.parametrize("mode", ["linear", "nearest"])
@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize(("size", "out_size"), SHAPES)
def test_agrees_with_float64_twin(size, out_size, border: str, mode: str, name: str) -> None:
    img, disp = make(size, out_size, torch.float32)
    want = reference.warp(img.double(), disp.double(), mode=mode, border=border, fill=0.5)
    with use_instruction_set(name):
        got = ops.warp(img, disp, mode=mode, border=border, fill=0.5)
        exact = ops.warp(img.double(), disp.double(), mode=mode, border=border, fill=0.5)
    torch.testing.assert_close(got.double(), want, rtol=0, atol=2e-5 * img.abs().max().item())
    torch.testing.assert_close(exact, want, rtol=0, atol=1e-12)


def test_gpu_agrees_with_cpu(device: torch.device) -> None:
    img, disp = make((9, 17, 30), (9, 17, 30), torch.float32)
    for mode in ("linear", "nearest"):
        got = ops.warp(img.to(device), disp.to(device), mode=mode, border="zeros", fill=0.5).cpu()
        torch.testing.assert_close(got, ops.warp(img, disp, mode=mode, border="zeros", fill=0.5), rtol=0, atol=1e-4)


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("value", [float("nan"), 1e30, -1e30, 3e9])
def test_wild_displacements_do_no_harm(border: str, value: float) -> None:
    img, disp = make((5, 6, 40), (5, 6, 40), torch.float32)
    disp[:, 0, ..., ::3] = value
    for mode in ("linear", "nearest"):
        got = ops.warp(img, disp, mode=mode, border=border)
        assert got.isnan().any() == (value != value)
        torch.testing.assert_close(
            got[..., 1::3], ops.warp(img, torch.nan_to_num(disp), mode=mode, border=border)[..., 1::3]
        )


@pytest.mark.parametrize("name", ["base", "avx2", "avx512"])
@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize(("size", "out_size"), SHAPES)
def test_float32_gradients_agree_with_float64_twin(size, out_size, border: str, name: str) -> None:
    img, disp = make(size, out_size, torch.float32)
    grad = torch.randn(2, 2, *out_size, generator=torch.Generator().manual_seed(1))
    inputs = [t.double().requires_grad_() for t in (img, disp)]
    want = torch.autograd.grad(reference.warp(*inputs, border=border, fill=0.5), inputs, grad.double())
    inputs = [t.requires_grad_() for t in (img, disp)]
    with use_instruction_set(name):
        got = torch.autograd.grad(ops.warp(*inputs, border=border, fill=0.5), inputs, grad)
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g.double(), w, rtol=0, atol=3e-5 * w.abs().max().item())


@pytest.mark.parametrize("name", ["base", "avx2", "avx512"])
@pytest.mark.parametrize("border", BORDERS)
def test_wild_displacements_reach_no_other_gradient(border: str, name: str) -> None:
    img, disp = make((5, 6, 40), (5, 6, 40), torch.float32)
    img, disp = img[:1], disp[:1]
    lost = torch.zeros(1, 1, 5, 6, 40, dtype=torch.bool)
    lost[..., ::7] = True
    wild = torch.where(lost, torch.tensor(float("nan")), disp)
    grads = []
    for field, weight in ((wild, torch.ones_like(img)), (disp, (~lost).float().expand_as(img))):
        inputs = [img.clone().requires_grad_(), field.clone().requires_grad_()]
        with use_instruction_set(name):
            grads.append(torch.autograd.grad(ops.warp(*inputs, border=border), inputs, weight))
    kept = ~lost.expand_as(disp)
    assert torch.equal(grads[0][1][kept], grads[1][1][kept])
    assert grads[0][1][~kept].isnan().all()
    clean = ~grads[0][0].isnan()
    assert clean.any()
    torch.testing.assert_close(grads[0][0][clean], grads[1][0][clean])


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize(("size", "out_size"), [((4, 3, 5), (3, 4, 2)), ((4, 5), (3, 6)), ((6,), (7,))])
def test_gradcheck(size, out_size, border: str, device: torch.device) -> None:
    img, disp = make(size, out_size, amplitude=1.3)
    img, disp = img.to(device).requires_grad_(), disp.to(device).requires_grad_()
    assert gradcheck(lambda i, d: ops.warp(i, d, border=border, fill=0.3), (img, disp), rtol=1e-5, fast_mode=False)


@pytest.mark.parametrize("border", BORDERS)
def test_gradients_agree_with_the_twin(border: str) -> None:
    for wanted in ((True, False), (False, True), (True, True)):
        grads = []
        for function in (ops.warp, reference.warp):
            img, disp = make((9, 7, 8), (6, 9, 10))
            img.requires_grad_(wanted[0])
            disp.requires_grad_(wanted[1])
            (function(img, disp, border=border) ** 2).sum().backward()
            grads.append([img.grad, disp.grad])
        for got, want in zip(*grads, strict=True):
            assert (got is None) == (want is None)
            if got is not None:
                torch.testing.assert_close(got, want)


def test_gradient_to_a_broadcast_input_is_summed() -> None:
    img, disp = make((4, 5), (4, 5))
    for i, d in ((img[:1], disp), (img, disp[:1])):
        i, d = i.clone().requires_grad_(), d.clone().requires_grad_()
        got = torch.autograd.grad(ops.warp(i, d).sin().sum(), (i, d))
        want = torch.autograd.grad(reference.warp(i, d).sin().sum(), (i, d))
        torch.testing.assert_close(got, want)


def test_transpose_is_the_adjoint() -> None:
    img, disp = make((9, 7, 8), (6, 9, 10))
    img.requires_grad_()
    out = ops.warp(img, disp, border="reflect")
    y = torch.randn_like(out)
    (adjoint,) = torch.autograd.grad(out, img, y)
    torch.testing.assert_close((out * y).sum(), (img * adjoint).sum(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("size", [(9, 17, 140), (31, 90), (200,)])
def test_result_does_not_depend_on_threads_or_batch_split(size: tuple[int, ...], border: str) -> None:
    img, disp = make(size, size, torch.float32)
    threads = torch.get_num_threads()
    results = []
    for count, split in ((1, 2), (2, 2), (5, 1)):  # with five threads the source's gradient is shared out in slabs
        torch.set_num_threads(count)
        parts = []
        for b in range(0, 2, split):
            i, d = img[b : b + split].clone().requires_grad_(), disp[b : b + split].clone().requires_grad_()
            out = ops.warp(i, d, border=border)
            parts.append((out.detach(), *torch.autograd.grad(out.square().sum(), (i, d))))
        results.append([torch.cat(values) for values in zip(*parts, strict=True)])
    torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_opcheck() -> None:
    img, disp = make((4, 5), (3, 4))
    op = torch.ops.medsynth_ext
    torch.library.opcheck(op.warp.default, (img, disp, 0, 0, 0.0))
    torch.library.opcheck(op.warp.default, (img.requires_grad_(), disp.requires_grad_(), 0, 1, 0.0))
    img, disp = img.detach(), disp.detach()
    torch.library.opcheck(op.warp_out.default, (img, disp, 1, 0, 0.0, torch.empty(2, 2, 3, 4, dtype=torch.float64)))
    torch.library.opcheck(op.warp_backward.default, (torch.ones(2, 2, 3, 4).double(), img, disp, 0, 0.0, True, True))


def test_compiles_without_graph_break() -> None:
    img, disp = make((4, 5), (3, 4))
    compiled = torch.compile(lambda i, d: ops.warp(i, d) * 2, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(img, disp), 2 * ops.warp(img, disp))


def test_meta_empty_out_and_strided_inputs() -> None:
    img, disp = make((4, 5), (3, 4))
    assert ops.warp(img.to("meta"), disp.to("meta")).shape == (2, 2, 3, 4)
    assert ops.warp(img[:0], disp[:0]).shape == (0, 2, 3, 4)
    out = torch.empty(2, 2, 3, 4, dtype=torch.float64)
    assert ops.warp(img, disp, out=out) is out
    assert torch.equal(out, ops.warp(img, disp))
    strided = img.transpose(2, 3).contiguous().transpose(2, 3)
    assert torch.equal(ops.warp(strided, disp), out)


def test_errors_name_the_argument() -> None:
    img, disp = make((4, 5), (3, 4))
    with pytest.raises(TypeError, match="img must be float16"):
        ops.warp(img.long(), disp)
    with pytest.raises(TypeError, match="disp must have the dtype"):
        ops.warp(img, disp.float())
    with pytest.raises(ValueError, match=r"disp must be \(B, 2"):
        ops.warp(img, disp[:, :1])
    with pytest.raises(ValueError, match="batch sizes"):
        ops.warp(img, disp.repeat(2, 1, 1, 1)[:3])
    with pytest.raises(ValueError, match="border must be one of"):
        ops.warp(img, disp, border="edge")
    with pytest.raises(ValueError, match="mode must be one of"):
        ops.warp(img, disp, mode="cubic")
    with pytest.raises(ValueError, match="voxels"):
        ops.warp(img[:, :, :0], disp)
    with pytest.raises(NotImplementedError, match="nearest"):
        ops.warp(img.requires_grad_(), disp, mode="nearest")
    with pytest.raises(RuntimeError, match="out="):
        ops.warp(img, disp, out=torch.empty(2, 2, 3, 4, dtype=torch.float64))
