"""Filtered back-projection of circular scans: the ramp filter, weights, and the whole for parallel, fan and cone."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import torch
from torch import Tensor

from medsynth_ext.ops._cache import cached_outside_graphs
from medsynth_ext.ops._checks import check_float, check_out, one_of
from medsynth_ext.ops._precision import float32_inside
from medsynth_ext.ops.ct_geometry import CTGeometry
from medsynth_ext.ops.ct_orbit import Arc, CircularOrbit
from medsynth_ext.ops.projector import check_projections, ct_backproject

__all__ = ["ct_filter", "fbp", "fdk", "short_scan_weights"]

_PIECE = 1 << 19  # samples that are transformed at once on the CPU
_SAMPLES = 1 << 23  # of a scan, that are filtered before they are back-projected
WINDOWS = ("ram-lak", "shepp-logan", "cosine", "hamming", "hann")


@cached_outside_graphs(maxsize=32)
def _response(cols: int, tau: float, window: str, cutoff: float) -> Tensor:
    """The filter's transform times tau, for transforms of the next power of two of 2 cols; float64."""
    length = 1 << (2 * cols - 1).bit_length()
    n = torch.arange(length, dtype=torch.float64)
    n = torch.minimum(n, length - n)
    ramp = torch.where(n % 2 == 1, -1 / (math.pi * n.clamp_min(1)) ** 2, 0.0)  # times tau^2
    ramp[0] = 0.25
    share = torch.arange(length // 2 + 1, dtype=torch.float64) / (length // 2)  # of the highest frequency
    shapes = {
        "ram-lak": torch.ones_like(share),
        "shepp-logan": torch.sinc(share / 2),
        "cosine": torch.cos(math.pi * share / 2),
        "hamming": 0.54 + 0.46 * torch.cos(math.pi * share),
        "hann": 0.5 + 0.5 * torch.cos(math.pi * share),
    }
    return torch.fft.rfft(ramp).real / tau * shapes[window] * (share <= cutoff)


@float32_inside("proj")
def ct_filter(
    proj: Tensor,  # (..., cols)
    tau: float,
    *,
    window: str = "ram-lak",
    cutoff: float = 1.0,
    out: Tensor | None = None,
) -> Tensor:  # (..., cols)
    """Ramp filter along the last axis; differentiable, and its own adjoint.

    ``q[n] = tau * sum_m h[n - m] p[m]`` with the band-limited ramp ``h[0] = 1 / (4 tau^2)``,
    ``h[n odd] = -1 / (pi n tau)^2`` and 0 for even n: a linear convolution with zeros outside, so that no level is lost
    as with a sampled ``|f|``.

    Args:
        proj: projections, float32 or float64.
        tau: distance of the samples in mm (for fan and cone beams as seen on the rotation axis).
        window: ``ram-lak`` (none), ``shepp-logan``, ``cosine``, ``hamming`` or ``hann``, over the frequencies up to
            ``1 / (2 tau)``.
        cutoff: share of the highest frequency above which nothing passes, in (0, 1].
        out: a tensor that receives the result, may be ``proj`` itself; no gradient then.

    Raises:
        TypeError: when ``proj`` is not float32 or float64.
        ValueError: for a scalar, another window, or ``tau`` or ``cutoff`` out of range.
        RuntimeError: for ``out`` where a gradient is wanted.

    >>> [round(v, 4) for v in ct_filter(torch.tensor([1.0, 0.0, 0.0]), 1.0).tolist()]
    [0.25, -0.1013, 0.0]
    """
    check_float("proj", proj)
    if proj.ndim < 1 or proj.shape[-1] < 1:
        raise ValueError(f"proj must be (..., cols) with at least one column, got {tuple(proj.shape)}")
    if not 0 < tau < math.inf:
        raise ValueError(f"tau must be positive and finite, got {tau}")
    one_of("window", window, WINDOWS)
    if not 0 < cutoff <= 1:
        raise ValueError(f"cutoff must be in (0, 1], got {cutoff}")
    if out is not None:
        check_out(out, proj.shape, proj.dtype, proj.device, (proj,))
    cols = int(proj.shape[-1])  # under torch.jit.trace a size is a tensor
    response = _response(cols, float(tau), window, float(cutoff)).to(proj)
    length = 2 * (response.numel() - 1)

    def filtered(lines: Tensor) -> Tensor:
        return torch.fft.irfft(torch.fft.rfft(lines, length) * response, length)[..., :cols]

    # By pieces that stay in the cache: fresh memory for all transforms would cost more than they do.
    lines = proj.reshape(-1, cols)
    if not lines.numel():
        return proj.clone() if out is None else out
    pieces = lines.split(max(1, _PIECE // length)) if proj.device.type == "cpu" else (lines,)
    if out is None and torch.is_grad_enabled() and proj.requires_grad:
        return torch.cat([filtered(piece).contiguous() for piece in pieces]).reshape(proj.shape)
    if out is None:
        out = torch.empty_like(proj, memory_format=torch.contiguous_format)
    for piece, target in zip(pieces, out.view(-1, cols).split(len(pieces[0])), strict=True):
        target.copy_(filtered(piece))
    return out


def _checked_arc(orbit: CircularOrbit) -> Arc:
    """The arc, after complaints about angles that are given twice or are not equidistant."""
    arc = orbit.arc
    if arc.least_step <= 0:
        raise ValueError("two views have the same angle; take each angle once")
    if arc.greatest_step > 1.1 * arc.least_step:
        low, high = (math.degrees(step) for step in (arc.least_step, arc.greatest_step))
        warnings.warn(
            f"the angles are not equidistant: steps from {low:.3g} to {high:.3g} degrees; every view counts by the "
            "distance to its neighbours",
            stacklevel=4,
        )
    return arc


def short_scan_weights(geometry: CTGeometry) -> Tensor:  # (views, cols) float64
    """Parker's weights for the arc that a circular scan covers: those of the two rays of a line add up to 1.

    With b the angle since the first view, g that of the ray in the fan and ``pi + 2 G`` the arc covered,

    - ``sin^2(pi/4 b / (G - g))`` for ``b < 2 (G - g)``,
    - 1 up to ``pi - 2 g``,
    - ``sin^2(pi/4 (pi + 2 G - b) / (G + g))`` from there on.

    G may be larger than half the fan. Parallel beams have ``g = 0``. (Parker, Medical Physics 1982.)

    Raises:
        ValueError: without an orbit, or for an arc below pi + the fan angle or above 2 pi.
    """
    orbit = geometry.orbit
    if orbit is None:
        raise ValueError("short_scan_weights needs a circular scan, but this geometry has no orbit")
    cols = geometry.det_shape[-1]
    arc = _checked_arc(orbit)
    covered, sense = arc.covered, arc.sense
    fan = orbit.half_fan(cols)
    slack = arc.greatest_step * 1.001
    if covered < math.pi + 2 * fan - slack or covered > 2 * math.pi + slack:
        least, found = math.degrees(math.pi + 2 * fan), math.degrees(covered)
        raise ValueError(f"the arc must be from {least:.1f} to 360 degrees, got {found:.1f}")
    half = min(max((covered - math.pi) / 2, fan), math.pi / 2)
    first = orbit.angles.min() if sense > 0 else orbit.angles.max()
    b = (sense * (orbit.angles - first))[:, None]
    u = orbit.columns_mm(cols)
    g = torch.zeros_like(u) if orbit.source_detector_mm is None else -sense * torch.atan(u / orbit.source_detector_mm)
    rising = torch.sin(math.pi / 4 * b / (half - g).clamp_min(1e-12)) ** 2
    falling = torch.sin(math.pi / 4 * (math.pi + 2 * half - b) / (half + g).clamp_min(1e-12)) ** 2
    ends = torch.where(b > math.pi - 2 * g, falling, 1.0)
    return torch.where(b < 2 * (half - g), rising, ends) * (b <= math.pi + 2 * half)


def _view_factors(geometry: CTGeometry, orbit: CircularOrbit, allow_limited: bool) -> tuple[Tensor, Tensor | None]:
    """What every view counts for, and weights of its columns where lines are measured more than once in part."""
    arc = _checked_arc(orbit)
    steps, covered = arc.steps, arc.covered
    slack = arc.greatest_step * 0.5
    turn = math.pi if orbit.source_detector_mm is None else 2 * math.pi
    turns = round(covered / turn)
    if turns >= 1 and abs(covered - turns * turn) <= slack:
        return steps * (math.pi / (turns * turn)), None
    need = math.pi + 2 * orbit.half_fan(geometry.det_shape[-1])
    if covered < need - 2 * slack:
        if not allow_limited:
            raise ValueError(
                f"the scan covers {math.degrees(covered):.1f} degrees, but {math.degrees(need):.1f} are needed; "
                "allow_limited=True reconstructs what there is, with streaks"
            )
        return steps, None
    if covered > 2 * math.pi + slack:
        raise ValueError(
            f"the scan covers {math.degrees(covered):.1f} degrees, which is no whole number of turns; take a subset "
            "(angles are in radians)"
        )
    return steps, short_scan_weights(geometry)


def _reconstruct(
    proj: Tensor, geometry: CTGeometry, window: str, cutoff: float, pad_rows: int, limited: bool, out: Tensor | None
) -> Tensor:
    orbit = geometry.orbit
    if orbit is None:
        raise ValueError(
            "filtered back-projection needs a circular scan, but this geometry has no orbit; reconstruct iteratively "
            "with sirt or cgls"
        )
    if out is not None:
        lead = proj.shape[: proj.ndim - geometry.dims]
        check_out(out, (*lead, *geometry.vol_shape), proj.dtype, proj.device, (proj,))
    cols = geometry.det_shape[-1]
    factors, weights = _view_factors(geometry, orbit, limited)
    if weights is not None and geometry.dims == 3:
        weights = weights[:, None]
    cosines = _cosines(geometry, orbit)
    tau = orbit.pixel_mm[0]
    if orbit.source_detector_mm is not None and orbit.source_origin_mm is not None:
        tau *= orbit.source_origin_mm / orbit.source_detector_mm
    linked = torch.is_grad_enabled() and proj.requires_grad

    def back(part: Tensor, some: CTGeometry, views: slice, target: Tensor | None) -> Tensor:
        weighted = part
        for factor in (cosines, None if weights is None else weights[views]):
            if factor is not None:
                weighted = weighted * factor.to(part)
        reuse = weighted is not part and not linked
        filtered = ct_filter(weighted, tau, window=window, cutoff=cutoff, out=weighted if reuse else None)
        if pad_rows:
            edges = [filtered[..., i, None, :].expand(*filtered.shape[:-2], pad_rows, cols) for i in (0, -1)]
            filtered = torch.cat([edges[0], filtered, edges[1]], -2)
            some = replace(some, det_shape=(geometry.det_shape[0] + 2 * pad_rows, cols))
        return ct_backproject(filtered, some, weight="fdk", scale=factors[views], out=target)

    # Some views at a time, so that scratch does not grow with their number; the graph of a gradient needs them all.
    step = max(1, _SAMPLES // math.prod(geometry.det_shape))
    if linked or torch.compiler.is_compiling() or step >= geometry.views:
        return back(proj, geometry, slice(None), out)
    total: Tensor | None = None
    scratch: Tensor | None = None
    for first in range(0, geometry.views, step):
        views = slice(first, first + step)
        part = proj.narrow(proj.ndim - geometry.dims, first, len(range(geometry.views)[views]))
        if total is None:
            total = back(part, geometry.subset(views), views, out)
        else:
            scratch = back(part, geometry.subset(views), views, scratch)
            total += scratch
    assert total is not None
    return total


def _cosines(geometry: CTGeometry, orbit: CircularOrbit) -> Tensor | None:  # ([rows,] cols) float64
    """Of the angles between the rays and the central one; ``None`` for parallel beams."""
    if orbit.source_detector_mm is None:
        return None
    u = orbit.columns_mm(geometry.det_shape[-1])
    squares = orbit.source_detector_mm**2 + u * u
    if geometry.dims == 3:
        rows = geometry.det_shape[0]
        v = (torch.arange(rows, dtype=torch.float64) - (rows - 1) / 2) * orbit.pixel_mm[1] + orbit.offset_mm[1]
        squares = squares + (v * v)[:, None]
    return orbit.source_detector_mm / squares.sqrt()


@float32_inside("proj")
def fbp(
    proj: Tensor,  # (..., views, *det_shape)
    geometry: CTGeometry,
    *,
    window: str = "ram-lak",
    cutoff: float = 1.0,
    allow_limited: bool = False,
    out: Tensor | None = None,
) -> Tensor:  # (..., *vol_shape), 1/mm
    """Filtered back-projection of a circular parallel or fan beam scan; differentiable.

    Parallel beams over whole multiples of 180 degrees and fan beams over whole turns count every view alike. Scans
    between the least arc (180 degrees and the fan angle) and a turn are weighted after Parker. Angles need not be
    equidistant. The detector must hold the shadow of the object.

    Args:
        proj: line integrals, float32 or float64; leading axes are batch and channels.
        geometry: a parallel2d, fan2d or parallel3d scan with an orbit.
        window: see :func:`ct_filter`.
        cutoff: see :func:`ct_filter`.
        allow_limited: reconstruct from less than the least arc.
        out: a tensor that receives the result; no gradient then.

    Raises:
        TypeError: for another dtype, or something that is not a geometry.
        ValueError: for a shape that is not the geometry's, a cone beam, a geometry without orbit, too small an arc.

    >>> geometry = CTGeometry.parallel2d(torch.arange(90) * math.pi / 90, 33, 1.0, (17, 17))
    >>> proj = 2 * (100 - (torch.arange(33.0) - 16) ** 2).clamp_min(0).sqrt()  # a disc of radius 10 and value 1
    >>> abs(fbp(proj.expand(90, 33), geometry)[8, 8].item() - 1) < 0.02
    True
    """
    check_projections(proj, geometry)
    if geometry.kind == "cone3d":
        raise ValueError("fbp is for parallel and fan beams; use fdk for a cone beam")
    return _reconstruct(proj, geometry, window, cutoff, 0, allow_limited, out)


@float32_inside("proj")
def fdk(
    proj: Tensor,  # (..., views, rows, cols)
    geometry: CTGeometry,
    *,
    window: str = "ram-lak",
    cutoff: float = 1.0,
    pad_rows: int = 0,
    allow_limited: bool = False,
    out: Tensor | None = None,
) -> Tensor:  # (..., Z, Y, X), 1/mm
    """Reconstruction of a circular cone beam scan (Feldkamp, Davis, Kress, JOSA A 1984); differentiable.

    Full turns and short scans as in :func:`fbp`. Exact in the plane of the source's orbit, approximate away from it.

    Args:
        proj: line integrals, float32 or float64; leading axes are batch and channels.
        geometry: a cone3d scan with an orbit.
        window: see :func:`ct_filter`.
        cutoff: see :func:`ct_filter`.
        pad_rows: rows by which the outermost filtered rows are repeated above and below, for voxels that are seen
            beyond the detector's edge.
        allow_limited: reconstruct from less than the least arc.
        out: a tensor that receives the result; no gradient then.

    Raises:
        TypeError: for another dtype, or something that is not a geometry.
        ValueError: for a shape that is not the geometry's, another beam, a geometry without orbit, too small an arc, or
            negative ``pad_rows``.
    """
    check_projections(proj, geometry)
    if geometry.kind != "cone3d":
        raise ValueError(f"fdk is for cone beams, got {geometry.kind}; use fbp")
    if pad_rows < 0:
        raise ValueError(f"pad_rows must not be negative, got {pad_rows}")
    return _reconstruct(proj, geometry, window, cutoff, pad_rows, allow_limited, out)
