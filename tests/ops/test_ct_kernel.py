"""The rotating projector, and slices reconstructed again with another kernel."""

from __future__ import annotations

import math

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from medsynth_ext import ops
from medsynth_ext._extension import has_operators, use_instruction_set
from medsynth_ext.ops import reference

needs_kernels = pytest.mark.skipif(not has_operators(), reason="operators are not built")
KERNELS = [(0.0, 1.0), (-1.0, 0.7), (-1.0, 0.1), (30.0, 3.0), (10.0, 1.0), (40.0, 1.0)]
# HU before clipping at (32, 32), (30, 38), (32, 52), (32, 54), (20, 24), (45, 40), and the mean within a radius of 15,
# of an independent NumPy implementation.
VALUES = [
    [-1.83, 497.24, -382.66, -951.39, 10.81, -3.96, 13.19],
    [-54.17, 297.08, -560.81, -910.28, -81.20, -91.82, -57.68],
    [-672.91, -596.81, -849.91, -941.04, -702.28, -708.23, -685.10],
    [-28.73, 481.36, 2954.19, -527.66, 169.10, 35.78, 19.75],
    [121.73, 1465.31, 1162.85, -1126.70, 376.89, 306.66, 235.10],
    [492.43, 4369.55, 5799.38, -1652.62, 1475.15, 1238.54, 900.83],
]


def vector_image(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    i, j = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    image = torch.full((64, 64), -1000.0, dtype=dtype)
    image[(i - 32) ** 2 + (j - 32) ** 2 <= 400] = 0.0
    image[28:33, 36:40] = 500.0
    return image


def body(size: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """A body with lungs, a spine, vessels and texture."""
    at = torch.linspace(-1, 1, size, dtype=dtype)
    y, x = at[:, None], at[None, :]
    image = torch.full((size, size), -1000.0, dtype=dtype)
    image[(x / 0.85) ** 2 + (y / 0.65) ** 2 < 1] = 40.0
    for side in (-1, 1):
        image[((x - 0.4 * side) / 0.28) ** 2 + (y / 0.42) ** 2 < 1] = -850.0
    image[x**2 + (y - 0.45) ** 2 < 0.012] = 400.0
    generator = torch.Generator().manual_seed(0)
    return image + 20 * torch.randn(size, size, generator=generator, dtype=dtype)


def test_hand_worked_projections(device: torch.device) -> None:
    image = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]], device=device)
    proj = ops.rotate_project(image, 2)
    assert proj[0].tolist() == pytest.approx([12, 15, 18])  # columns
    assert proj[1].tolist() == pytest.approx([24, 15, 6])  # rows, from below: t = -y
    even = ops.rotate_project(torch.tensor([[1.0, 2.0], [3.0, 4.0]], device=device), 2)
    assert even.tolist() == [pytest.approx([4, 6]), pytest.approx([0, 7])]  # t = -1 is y = 1, outside


def test_sinogram_of_the_test_vector(device: torch.device) -> None:
    for dtype, tolerance in ((torch.float64, 1e-7), (torch.float32, 1e-5)):
        units = vector_image(dtype) + 1012.1877527
        proj = ops.rotate_project(units.to(device), 64)
        for view, bin_, want in ((0, 32, 41780.016), (16, 32, 41297.334), (32, 40, 37780.016), (48, 24, 37010.464)):
            assert proj[view, bin_].item() == pytest.approx(want, rel=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 0.05), (torch.float32, 1.0)])
def test_output_of_the_test_vector(dtype: torch.dtype, tolerance: float, device: torch.device) -> None:
    a, b = torch.tensor(KERNELS, dtype=dtype).T
    image = vector_image(dtype).expand(len(KERNELS), 64, 64).to(device)
    found = ops.kernel_augment(image, a, b, views=64, offset_hu=1012.1877527, clip_hu=None).cpu()
    i, j = torch.meshgrid(torch.arange(64) - 32, torch.arange(64) - 32, indexing="ij")
    for result, want in zip(found, VALUES, strict=True):
        got = [result[p].item() for p in ((32, 32), (30, 38), (32, 52), (32, 54), (20, 24), (45, 40))]
        got.append(result[i**2 + j**2 < 225].mean().item())
        assert got == pytest.approx(want, abs=tolerance)


@pytest.mark.parametrize("isa", ["base", "avx2", "avx512"])
@pytest.mark.parametrize(("size", "views"), [(1, 1), (2, 3), (7, 5), (8, 8), (33, 18), (40, 25), (150, 4)])
def test_projections_agree_with_the_float64_twin(size: int, views: int, isa: str) -> None:
    image = torch.rand(2, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(size))
    want = reference.rotate_project(image, views)
    with use_instruction_set(isa):
        assert torch.allclose(ops.rotate_project(image, views), want, rtol=1e-10, atol=1e-10)
        single = ops.rotate_project(image.float(), views).double()
    assert (single - want).norm() <= 3e-6 * want.norm()


@pytest.mark.parametrize("size", [20, 31])
def test_chain_agrees_with_the_twin(size: int, device: torch.device) -> None:
    image, (a, b) = body(size, torch.float64).expand(6, size, size), torch.tensor(KERNELS, dtype=torch.float64).T
    want = reference.kernel_augment(image, a, b, views=18, offset_hu=1000.0)
    found = ops.kernel_augment(image.to(device), a, b, views=18, offset_hu=1000.0, clip_hu=None)
    assert (found.cpu() - want).abs().max() < 1e-7


@pytest.mark.parametrize(("size", "views"), [(16, 12), (17, 9), (24, 7)])
def test_projector_and_back_projector_have_exact_adjoints(size: int, views: int, device: torch.device) -> None:
    generator = torch.Generator().manual_seed(1)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-6)):
        x = torch.rand(2, size, size, generator=generator, dtype=dtype).to(device).requires_grad_()
        y = torch.rand(2, views, size, generator=generator, dtype=dtype).to(device)
        forward = ops.rotate_project(x, views)
        (back,) = torch.autograd.grad(forward, x, y)
        gap = (forward.detach().double() * y).sum() - (x.detach().double() * back).sum()
        assert abs(gap.item()) <= tolerance * (forward.norm() * y.norm()).item()


def test_gradients_of_projection_and_chain(device: torch.device) -> None:
    x = torch.rand(1, 6, 6, dtype=torch.float64, device=device, requires_grad=True)
    assert gradcheck(lambda t: ops.rotate_project(t, 3), (x,))
    assert gradgradcheck(lambda t: ops.rotate_project(t, 3) ** 2, (x,))
    a, b = (torch.tensor([v], dtype=torch.float64, device=device, requires_grad=True) for v in (2.0, 0.7))
    assert gradcheck(lambda t, p, q: ops.kernel_augment(t, p, q, views=4), (x, a, b), atol=1e-6)


@needs_kernels
def test_opcheck() -> None:
    for dtype in (torch.float32, torch.float64):
        x = torch.rand(2, 5, 5, dtype=dtype, requires_grad=True)
        torch.library.opcheck(torch.ops.medsynth_ext.rotate_project.default, (x, 3))
        torch.library.opcheck(
            torch.ops.medsynth_ext.rotate_project_adjoint.default, (x[:, :4].detach().requires_grad_(),)
        )


@needs_kernels
def test_threads_do_not_change_the_result() -> None:
    image, threads = body(70)[None], torch.get_num_threads()
    results = []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            results.append(ops.rotate_project(image, 30))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*results)


def test_agrees_with_scikit_image_radon() -> None:
    transform = pytest.importorskip("skimage.transform")
    image = (vector_image() + 1000).numpy()
    angles = torch.arange(20).double().numpy() * 9.0
    want = torch.from_numpy(transform.radon(image, angles, circle=True)).T
    found = ops.rotate_project(torch.from_numpy(image), 20)
    assert (found - want).norm() < 1e-3 * want.norm()


@pytest.mark.parametrize("seed", range(4))
def test_fft2_follows_the_chain(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    image = ops.gaussian_blur(body(128)[None, None], torch.tensor([0.7, 0.7]))[0]  # a scanner shows no sharp edges
    u, v = torch.rand(2, generator=generator).tolist()
    a, b = (u - 1, 0.1 + 0.9 * v) if seed % 2 else (10 + 30 * u, 1 + 3 * v)
    options = {"a": torch.tensor([a]), "b": torch.tensor([b]), "views": 128, "clip_hu": None}
    full, quick = (ops.kernel_augment(image, mode=mode, **options) for mode in ("rotate_bilinear", "fft2"))
    inside = full[0, 8:-8, 8:-8].flatten(), quick[0, 8:-8, 8:-8].flatten()
    assert torch.corrcoef(torch.stack(inside))[0, 1] > 0.98


def disc(size: int, radius: float, noise: float) -> torch.Tensor:
    """(1, size, size) HU: water in air."""
    at = torch.arange(size) - size // 2
    image = torch.where(at[:, None] ** 2 + at**2 < radius**2, 0.0, -1000.0)
    return image[None] + noise * torch.randn(1, size, size, generator=torch.Generator().manual_seed(0))


def test_joseph_is_sharper_than_the_rotating_projector() -> None:
    image, a, b = disc(96, 40, 20.0), torch.zeros(1), torch.ones(1)
    rotated, joseph = (ops.kernel_augment(image, a, b, mode=mode) for mode in ("rotate_bilinear", "joseph"))
    inside = (slice(None), slice(36, 60), slice(36, 60))
    assert joseph[inside].std() > 1.1 * rotated[inside].std()


def test_preserve_hu_keeps_large_regions() -> None:
    image, b = disc(128, 55, 0.0), torch.tensor([0.7])
    for strength, middle in ((-1.0, 25.0), (10.0, 250.0)):
        a = torch.tensor([strength])
        shifted, kept = (ops.kernel_augment(image, a, b, preserve_hu=f)[0, 54:74, 54:74].mean() for f in (False, True))
        assert abs(shifted) > middle
        assert abs(kept) < 0.5 * abs(shifted)


def test_identity_keeps_hu_and_circle_false_keeps_the_corners() -> None:
    image = torch.full((1, 48, 40), 0.0)
    a, b = torch.zeros(1), torch.ones(1)
    inside = ops.kernel_augment(image, a, b, views=90)
    whole = ops.kernel_augment(image, a, b, views=90, circle=False)
    assert inside.shape == whole.shape == image.shape
    assert inside[0, 0, 0] == -1000
    assert whole[0, 2:-2, 2:-2].abs().max() < 120
    assert whole[0, 15:30, 15:25].mean().abs() < 15


def test_spacing_rescales_the_frequency_up_to_the_cap(device: torch.device) -> None:
    w, a, b = (torch.tensor(values, device=device) for values in ([0.5, 1.0], [1.0], [1.0]))
    assert ops.kernel_gain(w, a, b, spacing_mm=2.0).tolist() == [[1.25, 1.5]]
    assert ops.kernel_gain(w, a, b, spacing_mm=0.5).tolist() == [[2.0, 2.5]]


def test_an_empty_batch_stays_empty() -> None:
    empty = torch.zeros(0)
    assert ops.kernel_augment(torch.zeros(0, 8, 8), empty, empty).shape == (0, 8, 8)
    assert ops.rotate_project(torch.zeros(0, 8, 8), 3).shape == (0, 3, 8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.rotate_project(torch.zeros(3, 4), 2), r"image must be \(\.\.\., S, S\), got \(3, 4\)"),
        (lambda: ops.rotate_project(torch.zeros(3, 3), 0), "views must be at least 1, got 0"),
        (lambda: ops.kernel_augment(torch.zeros(2, 8, 8), torch.zeros(1), torch.ones(2)), r"must be \(2,\)"),
        (lambda: ops.kernel_augment(torch.zeros(1, 8, 8), torch.zeros(1), torch.zeros(1)), "b must be positive"),
        (lambda: ops.kernel_augment(torch.zeros(8, 8), torch.zeros(8), torch.ones(8)), r"image must be \(B, H, W\)"),
        (
            lambda: ops.kernel_augment(torch.zeros(1, 8, 8), torch.zeros(1), torch.ones(1), mode="radon"),
            "mode must be one of",
        ),
    ],
)
def test_wrong_arguments_are_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_projections_at_a_right_angle_are_exact_sums() -> None:
    image = torch.rand(31, 31, dtype=torch.float64)
    proj = ops.rotate_project(image, 2)
    assert torch.allclose(proj[0], image.sum(0), atol=1e-12)
    assert torch.allclose(proj[1], image.sum(1).flip(0), atol=1e-12)
    assert math.isclose(proj[0].sum().item(), proj[1].sum().item(), rel_tol=1e-12)
