"""CT slices as another reconstruction kernel would show them: project, filter again, back-project."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from medsynth_ext.ops import reference
from medsynth_ext.ops._cache import cached_outside_graphs
from medsynth_ext.ops._checks import check_float, one_of, use_kernel
from medsynth_ext.ops._precision import float32_inside
from medsynth_ext.ops.ct_geometry import CTGeometry
from medsynth_ext.ops.projector import ct_backproject, ct_forward

__all__ = ["AIR_ZERO_HU", "WATER_AIR_HU", "kernel_augment", "kernel_gain", "rotate_project"]

WATER_AIR_HU = 1000 * 1e-4 / (1e-4 - 1.2041e-6)  # added to HU: attenuation over that of water, with air above zero
AIR_ZERO_HU = 1000.0  # added to HU: air is exactly zero
MODES = ("rotate_bilinear", "joseph", "fft2")

_PIECE = 1 << 19  # samples that are transformed at once on the CPU
# What the two interpolations of the chain leave at 0, 0.1, ... 1.0 of the Nyquist frequency: with as many views as
# pixels, and with half of them.
_LOSS = (
    (1.0, 0.98, 0.94, 0.85, 0.77, 0.67, 0.57, 0.47, 0.41, 0.36, 0.33),
    (1.0, 0.98, 0.94, 0.85, 0.77, 0.69, 0.66, 0.66, 0.61, 0.56, 0.51),
)


@float32_inside("image")
def rotate_project(
    image: Tensor,  # (..., S, S)
    views: int,
) -> Tensor:  # (..., views, S)
    """Parallel projections over half a turn: the image is turned and its rows are summed; differentiable.

    With ``c = S // 2`` and the angles ``a = pi k / views``, ``proj[k, t] = sum_r I(t cos a + r sin a, r cos a - t sin
    a)`` for t and r in ``-c..S-1-c``: column and row from the centre, linear between pixels, 0 outside. Pixels and bins
    have the size 1. This is scikit-image's ``radon`` with ``circle=True``; :func:`ct_forward` has Joseph's model.

    Raises:
        TypeError: when ``image`` is not float32 or float64.
        ValueError: for an image that is not square, or no views.

    >>> rotate_project(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), 1).tolist()
    [[4.0, 6.0]]
    """
    check_float("image", image)
    if image.ndim < 2 or image.shape[-1] != image.shape[-2] or not image.shape[-1]:
        raise ValueError(f"image must be (..., S, S), got {tuple(image.shape)}")
    if views < 1:
        raise ValueError(f"views must be at least 1, got {views}")
    if not use_kernel(image):
        return reference.rotate_project(image, views)
    flat = image.reshape(-1, *image.shape[-2:])
    return torch.ops.medsynth_ext.rotate_project(flat, views).reshape(*image.shape[:-2], views, image.shape[-1])


@cached_outside_graphs(maxsize=16)
def _ramp(length: int) -> Tensor:
    """The band-limited ramp at the frequencies of a real transform, as a share of the Nyquist frequency; float64."""
    distance = torch.arange(length, dtype=torch.float64)
    distance = torch.minimum(distance, length - distance)
    kernel = torch.where(distance % 2 == 1, -1 / (math.pi * distance.clamp_min(1)) ** 2, 0.0)
    kernel[0] = 0.25
    return 2 * torch.fft.rfft(kernel).real


def kernel_gain(
    w: Tensor,  # (...) frequency over the Nyquist frequency of the pixels
    a: Tensor,  # (B,)
    b: Tensor,  # (B,)
    *,
    spacing_mm: float = 1.0,
    reference_spacing_mm: float = 1.0,
    preserve_hu: bool = False,
    floor: float = 0.05,
) -> Tensor:  # (B, ...)
    """``1 + a w^b``: what the kernel (a, b) does to a frequency, beside the ramp (Saparov et al., DALI 2021).

    a and b refer to the Nyquist frequency of pixels of ``reference_spacing_mm``; for other pixels w is rescaled and
    capped at 1.5. With ``preserve_hu``, w^b becomes ``max(0, (w - floor) / (1 - floor))^b``, so that large regions keep
    their HU.

    >>> kernel_gain(torch.tensor([0.5]), torch.tensor([30.0]), torch.tensor([1.0])).item()
    16.0
    """
    scaled = w
    if spacing_mm != reference_spacing_mm:
        scaled = (w * (reference_spacing_mm / spacing_mm)).clamp_max(1.5)
    if preserve_hu:
        scaled = ((scaled - floor) / (1 - floor)).clamp_min(0)
    ones = [1] * w.ndim
    return 1 + a.reshape(-1, *ones) * scaled ** b.reshape(-1, *ones)


@float32_inside("image", "a", "b")
def kernel_augment(
    image: Tensor,  # (B, H, W) HU
    a: Tensor,  # (B,)
    b: Tensor,  # (B,)
    *,
    views: int | None = None,
    mode: str = "rotate_bilinear",
    circle: bool = True,
    offset_hu: float = WATER_AIR_HU,
    spacing_mm: float = 1.0,
    reference_spacing_mm: float = 1.0,
    preserve_hu: bool = False,
    clip_hu: tuple[float, float] | None = (-1000.0, 3000.0),
) -> Tensor:  # (B, H, W) HU
    """Slices reconstructed again with the kernel ``R (1 + a R^b)``, R the ramp filter; differentiable, also in a and b.

    ``max(HU, -1000) + offset_hu`` is projected at ``views`` angles over half a turn, filtered and back-projected
    (linear, pixel-driven), and the offset is taken off. Outside the inscribed circle there is air. Slices that are not
    square are padded with air.

    Args:
        image: CT slices, float32 or float64.
        a: strength: [-1, 0] smooths, 10 to 40 sharpens.
        b: exponent, positive.
        views: number of angles; the longer side of the slice by default.
        mode: ``rotate_bilinear`` (the method's own projector), ``joseph`` (sharper), or ``fft2``: one radial filter in
            two dimensions with the mean loss of the chain, quick, without streaks.
        circle: what is outside the inscribed circle is lost; else slices are padded to their diagonal.
        offset_hu: ``WATER_AIR_HU``, or ``AIR_ZERO_HU`` for air that is exactly zero.
        spacing_mm: pixel size, see :func:`kernel_gain`.
        reference_spacing_mm: pixel size that a and b refer to.
        preserve_hu: keep the HU of large regions, see :func:`kernel_gain`.
        clip_hu: limits of the result; ``None`` does not clip.

    Raises:
        TypeError: when ``image`` is not float32 or float64.
        ValueError: for shapes that do not fit, a ``b`` that is not positive, another mode, no views, or a spacing that
            is not positive.
    """
    check_float("image", image)
    one_of("mode", mode, MODES)
    if image.ndim != 3 or not image.shape[1] or not image.shape[2]:
        raise ValueError(f"image must be (B, H, W), got {tuple(image.shape)}")
    if not (spacing_mm > 0 and reference_spacing_mm > 0):
        raise ValueError(f"spacings must be positive, got {spacing_mm} and {reference_spacing_mm}")
    a, b = (torch.as_tensor(value, dtype=image.dtype, device=image.device) for value in (a, b))
    if a.shape != (len(image),) or b.shape != (len(image),):
        raise ValueError(f"a and b must be ({len(image)},), one number a slice, got {tuple(a.shape)}, {tuple(b.shape)}")
    if not torch.compiler.is_compiling() and not bool((b > 0).all()):
        raise ValueError(f"b must be positive, got {float(b.min())}")
    height, width = (int(n) for n in image.shape[1:])
    inner = max(height, width)
    views = inner if views is None else views
    if views < 1:
        raise ValueError(f"views must be at least 1, got {views}")
    if not len(image):
        return image.clone()
    size = inner if circle else math.ceil(math.sqrt(2) * inner)
    top, left = size // 2 - height // 2, size // 2 - width // 2
    units = F.pad(image.clamp_min(-1000) + offset_hu, (left, size - width - left, top, size - height - top))
    if (top, left, size) != (0, 0, height):
        outside = torch.ones_like(units[0], dtype=torch.bool)
        outside[top : top + height, left : left + width] = False
        units = torch.where(outside, offset_hu - 1000.0, units)  # air
    options = {"spacing_mm": spacing_mm, "reference_spacing_mm": reference_spacing_mm, "preserve_hu": preserve_hu}
    values = _fft2(units, a, b, views, options) if mode == "fft2" else _chain(units, a, b, views, mode, options)
    at = torch.arange(size, device=image.device) - size // 2
    values = values.masked_fill(at[:, None] ** 2 + at**2 > (size // 2) ** 2, 0.0)
    hu = values[:, top : top + height, left : left + width] - offset_hu
    return hu.contiguous() if clip_hu is None else hu.clamp(*clip_hu)


@cached_outside_graphs(maxsize=16)
def _scan(size: int, views: int, bins: int) -> CTGeometry:
    """The scan whose bins and pixels have index n // 2 in the centre and whose rows point down."""
    angles = -torch.arange(views, dtype=torch.float64) * math.pi / views
    sin, cos = angles.sin(), angles.cos()
    center, offset = (size - 1) / 2 - size // 2, (bins - 1) / 2 - bins // 2
    vectors = torch.stack([sin, -cos, offset * cos, offset * sin, cos, sin], 1)
    return CTGeometry("parallel2d", vectors, (bins,), (size, size), (1.0, 1.0), (center, center))


def _chain(units: Tensor, a: Tensor, b: Tensor, views: int, mode: str, options: dict[str, Any]) -> Tensor:
    size = int(units.shape[-1])  # under torch.jit.trace a size is a tensor
    length = max(64, 1 << (2 * math.ceil(math.sqrt(2) * size) - 1).bit_length())
    sino = rotate_project(units, views) if mode == "rotate_bilinear" else ct_forward(units, _scan(size, views, size))
    ramp = _ramp(length)
    gain = (ramp.to(a.device) * kernel_gain(ramp.to(a.device), a, b, **options)).to(units.dtype)  # (B, P/2 + 1)
    # Every pixel that is kept lies within size // 2 of the centre, so only these bins are read.
    bins = 2 * (size // 2) + 1

    def filtered(lines: Tensor, response: Tensor) -> Tensor:
        return torch.fft.irfft(torch.fft.rfft(lines, length) * response, length)[..., :bins]

    if units.device.type == "cpu":  # by pieces that stay in the cache
        piece = max(1, _PIECE // length)
        lines = torch.stack(
            [torch.cat([filtered(p, g) for p in s.split(piece)]) for s, g in zip(sino, gain, strict=True)]
        )
    else:
        lines = filtered(sino, gain[:, None])
    return ct_backproject(lines, _scan(size, views, bins)) * (math.pi / (2 * views))


@cached_outside_graphs(maxsize=8)
def _plane(size: int, dense: bool) -> tuple[Tensor, Tensor]:
    """Frequency over Nyquist on a canvas of twice the size, and what the chain's interpolations leave of it."""
    fy, fx = torch.fft.fftfreq(2 * size, dtype=torch.float64), torch.fft.rfftfreq(2 * size, dtype=torch.float64)
    rho = 2 * torch.hypot(fy[:, None], fx)
    table = torch.tensor(_LOSS[0 if dense else 1], dtype=torch.float64)
    place = 10 * rho.clamp_max(1)
    low = place.floor().long().clamp_max(9)
    loss = torch.where(rho > 1, 0.0, torch.lerp(table[low], table[low + 1], place - low))
    return rho.float(), loss.float()


def _fft2(units: Tensor, a: Tensor, b: Tensor, views: int, options: dict[str, Any]) -> Tensor:
    size = int(units.shape[-1])
    rho, loss = (t.to(units) for t in _plane(size, 4 * views > 3 * size))
    canvas = torch.fft.rfft2(units, s=(2 * size, 2 * size)) * (loss * kernel_gain(rho, a, b, **options))
    return torch.fft.irfft2(canvas, s=(2 * size, 2 * size))[:, :size, :size]


if use_kernel(torch.empty(0)):

    @torch.library.register_fake("medsynth_ext::rotate_project")
    def _project_fake(image: Tensor, views: int) -> Tensor:
        return image.new_empty((image.shape[0], views, image.shape[1]))

    @torch.library.register_fake("medsynth_ext::rotate_project_adjoint")
    def _adjoint_fake(proj: Tensor) -> Tensor:
        return proj.new_empty((proj.shape[0], proj.shape[2], proj.shape[2]))

    def _project_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    def _project_grad(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        return torch.ops.medsynth_ext.rotate_project_adjoint(grad), None

    def _adjoint_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.views = inputs[0].shape[1]

    def _adjoint_grad(ctx: Any, grad: Tensor) -> Tensor:
        return torch.ops.medsynth_ext.rotate_project(grad, ctx.views)

    torch.library.register_autograd("medsynth_ext::rotate_project", _project_grad, setup_context=_project_setup)
    torch.library.register_autograd("medsynth_ext::rotate_project_adjoint", _adjoint_grad, setup_context=_adjoint_setup)
