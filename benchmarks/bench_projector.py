"""X-ray projection, its transpose, back-projection and reconstruction: parallel, fan and cone beams."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from benchmarks.bench_projector_peers import astra_peer, rtk_peer, scikit_image_peer
from benchmarks.goals import SIZE
from benchmarks.harness import Case, Needs, Peer, close_to
from medsynth_ext import ops
from medsynth_ext.ops import CTGeometry, reference

__all__ = ["cases"]


def _disc(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """An ellipsoid with holes, soft at its edges; packages differ in what they do at the volume's outermost voxels."""
    axes = [torch.linspace(-1, 1, n) for n in shape]
    place = torch.meshgrid(*axes, indexing="ij")
    wide = sum((p / a) ** 2 for p, a in zip(place[::-1], (0.6, 0.75, 0.7), strict=False))
    holes = torch.stack([torch.sin(9 * p) for p in place]).prod(0)
    return (torch.sigmoid(25 * (1 - wide)) * (1 + 0.5 * holes)).float().to(device)


def scans(size: int) -> tuple[CTGeometry, CTGeometry, CTGeometry]:
    """Parallel and fan beams of a 512^2 image, a cone beam of 128^3, scaled by ``size`` over the size of the goals."""
    n, cols, views = (max(8, k * size // SIZE) for k in (512, 736, 360))
    m, side, turns = (max(8, k * size // SIZE) for k in (128, 192, 128))
    far = {"source_origin_mm": 1000.0 * size / SIZE, "source_detector_mm": 1500.0 * size / SIZE}
    half = torch.arange(views, dtype=torch.float64) * math.pi / views
    cone = torch.arange(turns, dtype=torch.float64) * 2 * math.pi / turns
    return (
        CTGeometry.parallel2d(half, cols, 1.0, (n, n)),
        CTGeometry.fan2d(2 * half, cols, 2.0, (n, n), **far),
        CTGeometry.cone3d(cone, (side, side), 1.5, (m, m, m), **far),
    )


def cases(size: int, device: torch.device) -> Iterator[Callable[[], Case]]:
    """The cases of this family."""
    for i, name in enumerate(("parallel", "fan", "cone")):
        yield partial(forward_case, f"ct_{name}", i, size, device)
        yield partial(adjoint_case, f"ct_{name}_adjoint", i, size, device)
    yield partial(backproject_case, "ct_cone_backproject", 2, size, device)
    for i, name in enumerate(("parallel_fbp", "fan_fbp", "cone_fdk")):
        yield partial(reconstruction_case, f"ct_{name}", i, size, device)


def _title(geometry: CTGeometry) -> str:
    def text(sizes: tuple[int, ...]) -> str:
        return "x".join(map(str, sizes))

    return f"{geometry.kind}, {text(geometry.vol_shape)}, {geometry.views} views of {text(geometry.det_shape)}"


def _same(x: Tensor) -> Tensor:
    return x


def _twin(call: Callable[[], Tensor], size: int, view: Callable[[Tensor], Tensor]) -> Peer:
    """Our PyTorch twin, where it does not take minutes."""

    def prepare() -> Callable[[], Tensor]:
        if size > 64:
            raise Needs("takes minutes at this size; run with --size 64")
        return call

    return Peer("our PyTorch twin", prepare, "twin", view, max_rounds=1)


def _middle(x: Tensor) -> Tensor:
    """The middle half along every axis but leading views."""
    index = [slice(n // 4, n - n // 4) for n in x.shape]
    return x[tuple(index)]


def _rotate_and_sum(image: Tensor, geometry: CTGeometry) -> Tensor:
    """Parallel projections by turning the image, 30 views at a time."""
    assert geometry.orbit is not None
    n, cols = image.shape[-1], geometry.det_shape[0]
    pad = (cols - n) // 2
    padded = torch.nn.functional.pad(image, [pad, cols - n - pad] * 2)
    parts = []
    for t in geometry.orbit.angles.to(image).split(30):
        zero = torch.zeros_like(t)
        rows = [torch.stack([t.cos(), -t.sin(), zero], -1), torch.stack([t.sin(), t.cos(), zero], -1)]
        shape = (len(t), 1, cols, cols)
        grid = torch.nn.functional.affine_grid(torch.stack(rows, 1), list(shape), align_corners=False)
        turned = torch.nn.functional.grid_sample(padded.expand(shape), grid, align_corners=False)
        parts.append(turned.sum(2)[:, 0])
    return torch.cat(parts)


def _coarse(x: Tensor) -> Tensor:
    """Means of 8x8 pixels in the middle half: ASTRA's reconstruction has a grain of single pixels."""
    return torch.nn.functional.avg_pool2d(_middle(x)[None], 8)[0]


def forward_case(key: str, which: int, size: int, device: torch.device) -> Case:
    """Line integrals."""
    geometry = scans(size)[which]
    vol = _disc(geometry.vol_shape, device)
    out = torch.empty(geometry.proj_shape, device=device)
    peers = [
        Peer("medsynth_ext, out=", lambda: lambda: ops.ct_forward(vol, geometry, out=out), "out", _same),
        Peer("medsynth_ext, fresh output", lambda: lambda: ops.ct_forward(vol, geometry), "fresh", _same),
        Peer(
            "medsynth_ext, Siddon",
            lambda: lambda: ops.ct_forward(vol, geometry, model="siddon"),
            "variant",
            note="not compared: exact lengths instead of linear interpolation",
        ),
        _twin(lambda: reference.ct_forward(vol, geometry), size, _same),
    ]
    if which == 0:
        note = "not compared: bilinear in the turned image"
        peers.append(
            Peer(
                "PyTorch eager (grid_sample)",
                lambda: lambda: _rotate_and_sum(vol[None, None], geometry),
                "eager",
                note=note,
            )
        )
        peers += [astra_peer(geometry, "linear", vol, view=_same), astra_peer(geometry, "line", vol)]
        peers.append(scikit_image_peer(geometry, vol))
    elif which == 1:
        peers.append(astra_peer(geometry, "line_fanflat", vol))
    else:
        peers.append(rtk_peer(geometry, "JosephForwardProjection", vol, view=_same))
    expected = ops.ct_forward(vol.double(), geometry).float()
    check = close_to(expected, 1e-3 * float(expected.abs().max()))
    return Case(key, f"Projection, {_title(geometry)}", peers, check, 4 * (vol.numel() + out.numel()))


def adjoint_case(key: str, which: int, size: int, device: torch.device) -> Case:
    """The exact transpose."""
    geometry = scans(size)[which]
    proj = ops.ct_forward(_disc(geometry.vol_shape, device), geometry)
    out = torch.empty(geometry.vol_shape, device=device)
    view = _middle if which == 2 else _same  # RTK cuts rays off at the volume's edge
    peers = [
        Peer("medsynth_ext, out=", lambda: lambda: ops.ct_adjoint(proj, geometry, out=out), "out", view),
        Peer("medsynth_ext, fresh output", lambda: lambda: ops.ct_adjoint(proj, geometry), "fresh", view),
        _twin(lambda: reference.ct_adjoint(proj, geometry), size, view),
    ]
    if which == 0:
        peers += [
            astra_peer(geometry, "linear", proj, what="BP", view=view),
            astra_peer(geometry, "line", proj, what="BP"),
        ]
    elif which == 1:
        peers.append(astra_peer(geometry, "line_fanflat", proj, what="BP"))
    else:
        peers.append(rtk_peer(geometry, "JosephBackProjection", proj, view=view))
    expected = view(ops.ct_adjoint(proj.double(), geometry).float())
    check = close_to(expected, 1e-3 * float(expected.abs().max()))
    return Case(key, f"Adjoint, {_title(geometry)}", peers, check, 4 * (proj.numel() + out.numel()))


def backproject_case(key: str, which: int, size: int, device: torch.device) -> Case:
    """Voxel-driven back-projection with the weights of FDK."""
    geometry = scans(size)[which]
    proj = ops.ct_forward(_disc(geometry.vol_shape, device), geometry)
    out = torch.empty(geometry.vol_shape, device=device)

    def ours(**options: Tensor) -> Tensor:
        return ops.ct_backproject(proj, geometry, weight="fdk", **options)

    def eager() -> Tensor:
        """View by view through grid_sample."""
        orbit = geometry.orbit
        assert orbit is not None
        rows, cols = geometry.det_shape
        z, y, x = torch.meshgrid(
            *[torch.arange(n, device=device) - (n - 1) / 2 for n in geometry.vol_shape], indexing="ij"
        )
        n = z.shape[0]
        far, near = orbit.source_detector_mm, orbit.source_origin_mm
        assert far is not None
        assert near is not None
        total = torch.zeros_like(z)
        for i, t in enumerate(orbit.angles.tolist()):
            distance = near - x * math.sin(t) + y * math.cos(t)
            u = far * (x * math.cos(t) + y * math.sin(t)) / distance / (orbit.pixel_mm[0] * cols / 2)
            v = far * z / distance / (orbit.pixel_mm[1] * rows / 2)
            grid = torch.stack([u, v], -1).view(1, n * n, n, 2)
            read = torch.nn.functional.grid_sample(proj[i][None, None], grid, align_corners=False)
            total += (near / distance) ** 2 * read.view(n, n, n)
        return total

    peers = [
        Peer("medsynth_ext, out=", lambda: lambda: ours(out=out), "out", _same),
        Peer("medsynth_ext, fresh output", lambda: ours, "fresh", _same),
        _twin(lambda: reference.ct_backproject(proj, geometry, weight="fdk"), size, _same),
        Peer("PyTorch eager (grid_sample, view by view)", lambda: eager, "eager", _same, max_rounds=3),
        rtk_peer(geometry, "BackProjection", proj),
        rtk_peer(geometry, "FDKBackProjection", proj),
    ]
    expected = ops.ct_backproject(proj.double(), geometry, weight="fdk").float()
    check = close_to(expected, 2e-3 * float(expected.abs().max()))
    return Case(key, f"Back-projection, {_title(geometry)}", peers, check, 4 * (proj.numel() + out.numel()))


def reconstruction_case(key: str, which: int, size: int, device: torch.device) -> Case:
    """Filtered back-projection."""
    geometry = scans(size)[which]
    proj = ops.ct_forward(_disc(geometry.vol_shape, device), geometry)
    out = torch.empty(geometry.vol_shape, device=device)
    method = ops.fdk if which == 2 else ops.fbp
    view = _coarse if which == 0 else _middle
    peers = [
        Peer("medsynth_ext, out=", lambda: lambda: method(proj, geometry, out=out), "out", view),
        Peer("medsynth_ext, fresh output", lambda: lambda: method(proj, geometry), "fresh", view),
        _twin(lambda: reference.fdk(proj, geometry), size, view),
    ]
    if which == 0:
        peers += [
            astra_peer(geometry, "linear", proj, what="FBP", view=view),
            astra_peer(geometry, "line", proj, what="FBP"),
            scikit_image_peer(geometry, proj, inverse=True),
        ]
    elif which == 2:
        peers.append(rtk_peer(geometry, "FDK", proj, view=view))
    expected = view(method(proj.double(), geometry).float())
    check = close_to(expected, 0.01 * float(expected.abs().max()))
    return Case(key, f"Reconstruction, {_title(geometry)}", peers, check, 4 * (proj.numel() + out.numel()))
