"""affine_svf_warp: matrix and displacement in one sampling."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from medsynth_ext import ops
from medsynth_ext._extension import use_instruction_set
from medsynth_ext.ops import reference

RULES = ["corner", "half_pixel", "align_corners", "same"]


def make(size: tuple[int, ...], window: tuple[int, ...], rule: str, dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(11)
    dims = len(size)
    grid = tuple(n + 3 for n in window)
    coarse = grid if rule == "same" else tuple((n + 1) // 2 for n in grid)
    src = torch.randn(2, 2, *size, generator=generator, dtype=dtype)
    linear = torch.eye(dims, dtype=dtype) + 0.2 * torch.randn(2, dims, dims, generator=generator, dtype=dtype)
    disp = 1.5 * torch.randn(1, dims, *coarse, generator=generator, dtype=dtype)
    options = {"out_shape": window, "out_origin": (1,) * dims, "grid_shape": grid, "disp_rule": rule}
    return src, ops.lab2im_matrix(linear, size), disp, options


def test_matrix_about_the_centre_keeps_the_centre() -> None:
    linear = torch.randn(4, 3, 3, dtype=torch.float64)
    matrix = ops.lab2im_matrix(linear, (5, 7, 9))
    centre = torch.tensor([2.0, 3.0, 4.0], dtype=torch.float64)
    torch.testing.assert_close(matrix[:, :, :3] @ centre + matrix[:, :, 3], centre.expand(4, 3))


def test_scaling_matrix_takes_every_second_voxel(device: torch.device) -> None:
    src = torch.arange(64, device=device).reshape(1, 1, 8, 8)
    matrix = torch.tensor([[[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]]], device=device)
    assert torch.equal(ops.affine_svf_warp(src, matrix, out_shape=(4, 4)), src[:, :, ::2, ::2])


def test_window_equals_the_crop_of_the_whole(device: torch.device) -> None:
    src = torch.randint(0, 9, (1, 1, 20, 22, 24), dtype=torch.uint8).to(device)
    matrix = ops.lab2im_matrix(torch.eye(3, device=device)[None] * 1.1, (20, 22, 24))
    disp = torch.randn(1, 3, 10, 11, 12, device=device) * 2
    whole = ops.affine_svf_warp(src, matrix, disp, out_shape=(20, 22, 24), disp_rule="corner")
    window = ops.affine_svf_warp(
        src, matrix, disp, out_shape=(7, 8, 9), out_origin=(4, 5, 6), grid_shape=(20, 22, 24), disp_rule="corner"
    )
    assert torch.equal(window, whole[:, :, 4:11, 5:13, 6:15])


def test_identity_matrix_is_a_plain_warp() -> None:
    src, _, disp, _ = make((7, 8, 9), (4, 5, 6), "same")
    matrix = ops.lab2im_matrix(torch.eye(3, dtype=torch.float64)[None], (7, 8, 9))
    got = ops.affine_svf_warp(src, matrix, disp, out_shape=disp.shape[2:], mode="linear")
    torch.testing.assert_close(got, ops.warp(src, disp), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["base", "avx2", "avx512"])
@pytest.mark.parametrize("border", ["clamp", "zeros", "reflect"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("size", "window"), [((9, 17, 30), (4, 5, 71)), ((11, 13), (9, 40)), ((19,), (50,))])
def test_agrees_with_float64_twin(size, window, rule: str, border: str, name: str) -> None:
    src, matrix, disp, options = make(size, window, rule, torch.float32)
    for mode in ("linear", "nearest"):
        want = reference.affine_svf_warp(
            src.double(), matrix.double(), disp.double(), **options, mode=mode, border=border, fill=0.5
        )
        with use_instruction_set(name):
            got = ops.affine_svf_warp(src, matrix, disp, **options, mode=mode, border=border, fill=0.5)
        torch.testing.assert_close(got.double(), want, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["base", "avx2", "avx512"])
@pytest.mark.parametrize("border", ["clamp", "zeros", "reflect"])
def test_stretches_near_and_far_from_the_source_agree_with_the_twin(border: str, name: str) -> None:
    generator = torch.Generator().manual_seed(5)
    src = torch.randint(0, 9, (1, 1, 4, 6, 37), generator=generator, dtype=torch.int32)
    matrix = torch.eye(3, 4, dtype=torch.float64)[None]
    matrix[0, 2] = torch.tensor([3.0, 0.0, 262144.0, -(2.0**24)])  # columns from 2**24 before the source to far behind
    options = {"out_shape": (4, 6, 300), "border": border, "fill": 5.0}
    want = reference.affine_svf_warp(src, matrix, **options)
    with use_instruction_set(name):
        assert torch.equal(ops.affine_svf_warp(src, matrix.float(), **options), want)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_labels_keep_their_dtype(dtype: torch.dtype) -> None:
    src, matrix, disp, options = make((9, 17, 30), (4, 5, 71), "corner", torch.float32)
    labels = (src * 3).long().abs().to(dtype)
    got = ops.affine_svf_warp(labels, matrix, disp, **options)
    assert got.dtype == dtype
    assert torch.equal(got, reference.affine_svf_warp(labels, matrix.double(), disp.double(), **options))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("size", "window"), [((4, 3, 5), (3, 2, 3)), ((4, 5), (3, 4)), ((6,), (5,))])
def test_gradcheck(size, window, rule: str, device: torch.device) -> None:
    src, matrix, disp, options = make(size, window, rule)
    inputs = [t.to(device).requires_grad_() for t in (src, matrix, disp)]
    assert gradcheck(lambda s, m, d: ops.affine_svf_warp(s, m, d, **options, mode="linear"), inputs, rtol=1e-5)


def test_gradients_agree_with_the_twin_for_every_choice_of_inputs() -> None:
    for wanted in range(1, 8):
        grads = []
        for function in (ops.affine_svf_warp, reference.affine_svf_warp):
            src, matrix, disp, options = make((6, 7, 8), (5, 4, 6), "half_pixel")
            inputs = (src, matrix, disp)
            for i, t in enumerate(inputs):
                t.requires_grad_(bool(wanted >> i & 1))
            function(*inputs, **options, mode="linear", border="zeros").sin().sum().backward()
            grads.append([t.grad for t in inputs])
        for got, want in zip(*grads, strict=True):
            assert (got is None) == (want is None)
            if got is not None:
                torch.testing.assert_close(got, want)


def test_result_does_not_depend_on_threads() -> None:
    threads, results = torch.get_num_threads(), []
    for count in (1, 2):
        torch.set_num_threads(count)
        src, matrix, disp, options = make((9, 17, 40), (9, 17, 40), "corner", torch.float32)
        inputs = [t.requires_grad_() for t in (src, matrix, disp)]
        out = ops.affine_svf_warp(*inputs, **options, mode="linear")
        results.append((out, *torch.autograd.grad(out.square().sum(), inputs)))
    torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_opcheck_compile_meta_and_out() -> None:
    src, matrix, disp, options = make((4, 5), (3, 4), "corner")
    op, window = torch.ops.medsynth_ext, ([3, 4], [1, 1], [6, 7])
    torch.library.opcheck(op.affine_svf_warp.default, (src, matrix, disp, *window, 0, 0, 0, 0.0))
    inputs = tuple(t.clone().requires_grad_() for t in (src, matrix, disp))
    torch.library.opcheck(op.affine_svf_warp.default, (*inputs, *window, 0, 0, 0, 0.0))
    out = torch.empty(2, 2, 3, 4, dtype=torch.float64)
    torch.library.opcheck(op.affine_svf_warp_out.default, (src, matrix, disp, *window, 0, 0, 0, 0.0, out))
    grad = (torch.ones_like(out), src, matrix, disp, *window, 0, 0, 0.0, True, True, True)
    torch.library.opcheck(op.affine_svf_warp_backward.default, grad)
    want = ops.affine_svf_warp(src, matrix, disp, **options, mode="linear")
    assert ops.affine_svf_warp(src, matrix, disp, **options, mode="linear", out=out) is out
    assert torch.equal(out, want)
    compiled = torch.compile(
        lambda s, m, d: ops.affine_svf_warp(s, m, d, **options, mode="linear"), fullgraph=True, backend="aot_eager"
    )
    torch.testing.assert_close(compiled(src, matrix, disp), want)
    meta = ops.affine_svf_warp(src.to("meta"), matrix.to("meta"), disp.to("meta"), **options)
    assert meta.shape == want.shape


def test_errors_name_the_argument() -> None:
    src, matrix, disp, options = make((4, 5), (3, 4), "same")
    with pytest.raises(ValueError, match="matrix must be finite"):
        ops.affine_svf_warp(src, matrix * float("nan"), **options)
    with pytest.raises(ValueError, match=r"matrix must be \(B, 2, 3\)"):
        ops.affine_svf_warp(src, matrix[:, :, :2], **options)
    with pytest.raises(ValueError, match="disp must have the spatial shape"):
        ops.affine_svf_warp(src, matrix, disp[..., :2], **options)
    with pytest.raises(ValueError, match="leaves the grid"):
        ops.affine_svf_warp(src, matrix, disp, **{**options, "out_origin": (4, 4)})
    with pytest.raises(ValueError, match="out_shape must be at least 1"):
        ops.affine_svf_warp(src, matrix, out_shape=(0, 4))
    with pytest.raises(ValueError, match="disp_rule must be one of"):
        ops.affine_svf_warp(src, matrix, disp, **{**options, "disp_rule": "centre"})
    with pytest.raises(TypeError, match="src must be float16, bfloat16, float32 or float64"):
        ops.affine_svf_warp(src.long(), matrix, **options, mode="linear")
    with pytest.raises(NotImplementedError, match="nearest"):
        ops.affine_svf_warp(src, matrix.requires_grad_(), **options)
