"""Landmark heatmaps: rendering, peaks, sub-pixel places, soft-argmax and local maxima, in 2D and 3D."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import bench_heatmap_peers as peers_of
from benchmarks.goals import SIZE
from benchmarks.harness import Case, Needs, Peer, close_to
from medsynth_ext import ops
from medsynth_ext.ops import reference

__all__ = ["cases"]

BETA = 20.0
THRESHOLD = 0.3
MOST = 8  # peaks asked for; every map has one above the threshold


def cases(size: int, device: torch.device) -> Iterator[Callable[[], Case]]:
    """The cases of this family."""
    yield partial(render_case, "heatmap_render", flat(size), 2.0, device)
    yield partial(peak_case, "heatmap_peak", flat(size), device)
    yield partial(dark_case, "heatmap_dark", flat(size), device)
    yield partial(soft_case, "heatmap_soft_argmax", flat(size), device)
    yield partial(soft_case, "heatmap_soft_argmax_grad", (flat(size)[0] // 4, *flat(size)[1:]), device, grad=True)
    yield partial(nms_case, "heatmap_nms", flat(size), device)
    yield partial(render_case, "heatmap_render_3d", deep(size), 3.0, device)
    yield partial(soft_case, "heatmap_soft_argmax_3d", deep(size), device)
    yield partial(nms_case, "heatmap_nms_3d", deep(size), device)
    yield partial(slices_case, "ortho_slice_product", max(24, 100 * size // SIZE), device)
    yield partial(slices_case, "ortho_slice_product_grad", max(24, 100 * size // SIZE), device, grad=True)


def flat(size: int) -> tuple[int, ...]:
    """16 x 64 maps of 256^2 at the size of the goals."""
    edge = max(24, 256 * size // SIZE)
    return (16, 64, edge, edge) if size == SIZE else (4, 8, edge, edge)


def deep(size: int) -> tuple[int, ...]:
    """26 maps of 128^3 at the size of the goals."""
    edge = max(24, 128 * size // SIZE)
    return (1, 26 if size == SIZE else 3, edge, edge, edge)


def landmarks(shape: tuple[int, ...], device: torch.device) -> Tensor:  # (B, N, D)
    """Points at least 10 voxels from the border."""
    room = torch.tensor(shape[2:]) - 20.0
    return (torch.rand(*shape[:2], len(room), generator=torch.Generator().manual_seed(0)) * room + 10).to(device)


def noisy_maps(shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Gaussians under a little noise, and their points."""
    points = landmarks(shape, device)
    maps = ops.render_gaussian_heatmaps(points, 2.0 if len(shape) == 4 else 3.0, shape[2:])
    noise = torch.rand(shape, generator=torch.Generator().manual_seed(1)).to(device)
    return maps.add_(noise, alpha=0.02), points


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _twin(call: Callable[[], object], shape: tuple[int, ...], view: Callable[[object], Tensor]) -> Peer:
    def prepare() -> Callable[[], object]:
        if shape[0] * shape[1] > 32:
            raise Needs("takes minutes at this size; run with --size 64")
        return call

    return Peer("our PyTorch twin", prepare, "twin", view, max_rounds=1)


def _same(x: Tensor) -> Tensor:
    return x


def render_case(key: str, shape: tuple[int, ...], sigma: float, device: torch.device) -> Case:
    """One Gaussian a map."""
    points, size = landmarks(shape, device), shape[2:]
    out = torch.empty(shape, device=device)
    axes = [torch.arange(n, dtype=torch.float32, device=device) for n in size]

    def separable() -> Tensor:
        lines = [torch.exp((a - points[..., d : d + 1]).square() * (-0.5 / sigma**2)) for d, a in enumerate(axes)]
        result = lines[0]
        for line in lines[1:]:
            result = result[..., None] * line.reshape(*line.shape[:2], *[1] * (result.ndim - 2), -1)
        return result

    def dense() -> Tensor:
        squares = [
            (a - points[..., d : d + 1]).square().reshape(*shape[:2], *[-1 if e == d else 1 for e in range(len(size))])
            for d, a in enumerate(axes)
        ]
        return torch.exp(sum(squares[1:], squares[0]) * (-0.5 / sigma**2))

    peers = [
        Peer(
            "medsynth_ext, out=",
            lambda: lambda: ops.render_gaussian_heatmaps(points, sigma, size, out=out),
            "out",
            _same,
        ),
        Peer(
            "medsynth_ext, fresh output",
            lambda: lambda: ops.render_gaussian_heatmaps(points, sigma, size),
            "fresh",
            _same,
        ),
        _twin(lambda: reference.render_gaussian_heatmaps(points, sigma, size), shape, _same),
        Peer("PyTorch outer products", lambda: separable, "eager", _same),
        Peer("torch.compile, dense", lambda: torch.compile(dense), "compile", _same),
        *peers_of.render_peers(points, sigma, size),
    ]
    title = f"Gaussian heatmaps, {_text(shape)}, sigma {sigma:g}"
    return Case(key, title, peers, close_to(separable(), 1e-5), 4 * out.numel())  # five widths: 3.7e-6 beyond


def peak_case(key: str, shape: tuple[int, ...], device: torch.device) -> Case:
    """The largest voxel of every map."""
    maps, _ = noisy_maps(shape, device)
    width = shape[3]

    def coordinates(index: Tensor) -> Tensor:
        index = index.reshape(shape[:2])
        return torch.stack([index // width, index % width], dim=-1).float()

    def of_ours(result: tuple[Tensor, ...]) -> Tensor:
        return result[0]

    peers = [
        Peer("medsynth_ext", lambda: lambda: ops.heatmap_peak(maps), "fresh", of_ours),
        _twin(lambda: reference.heatmap_peak(maps), shape, of_ours),
        Peer("PyTorch max", lambda: lambda: maps.flatten(2).max(-1), "eager", lambda r: coordinates(r.indices)),
        *peers_of.peak_peers(maps, coordinates),
    ]
    check = close_to(coordinates(maps.flatten(2).argmax(-1)), 0)
    return Case(key, f"Largest voxel of every map, {_text(shape)}", peers, check, 4 * maps.numel())


def dark_case(key: str, shape: tuple[int, ...], device: torch.device) -> Case:
    """The largest voxel, smoothing with sigma 2 around it, and a Newton step on the logarithm."""
    maps, points = noisy_maps(shape, device)

    def ours() -> tuple[Tensor, ...]:
        return ops.heatmap_peak(maps, refine="dark", sigma=2.0)

    peers = [
        Peer("medsynth_ext", lambda: ours, "fresh", lambda r: r[0]),
        _twin(lambda: reference.heatmap_peak(maps, refine="dark", sigma=2.0), shape, lambda r: r[0]),
        Peer("PyTorch, patches around the peaks", lambda: partial(peers_of.dark_patches, maps), "eager", _same),
        *peers_of.dark_peers(maps),
    ]
    check = close_to(points, 0.25, what="largest error in pixels")
    return Case(key, f"Peak and DARK refinement, {_text(shape)}", peers, check, 4 * maps.numel())


def soft_case(key: str, shape: tuple[int, ...], device: torch.device, *, grad: bool = False) -> Case:
    """The mean under a softmax; with ``grad`` also the gradient of a loss of it."""
    maps, _ = noisy_maps(shape, device)
    axes = [torch.arange(n, dtype=torch.float32, device=device) for n in shape[2:]]

    def composition(h: Tensor) -> Tensor:
        p = (h * BETA).flatten(2).softmax(-1).view_as(h)
        means = []
        for d, axis in enumerate(axes):
            others = [e + 2 for e in range(len(axes)) if e != d]
            means.append((p.sum(others) * axis).sum(-1))
        return torch.stack(means, -1)

    def run(function: Callable[[Tensor], Tensor], h: Tensor = maps) -> Callable[[], Tensor]:
        if not grad:
            return lambda: function(h)

        def both() -> Tensor:
            leaf = h.detach().requires_grad_()
            (found,) = torch.autograd.grad(function(leaf).square().sum(), leaf)
            return found

        return both

    def ours(h: Tensor) -> Tensor:
        result = ops.soft_argmax(h, beta=BETA)
        assert isinstance(result, Tensor)
        return result

    def twin(h: Tensor) -> Tensor:
        result = reference.soft_argmax(h, beta=BETA)
        assert isinstance(result, Tensor)
        return result

    # In float32 the compositions are off by some thousandths of a voxel, in 3D by more: float64 says what is right.
    expected = torch.cat([run(composition, maps[b : b + 1].double())().float() for b in range(shape[0])])
    peers = [
        Peer("medsynth_ext", lambda: run(ours), "fresh", _same),
        _twin(run(twin), shape, _same),
        Peer("PyTorch softmax and marginals", lambda: run(composition), "eager", _same),
        Peer("torch.compile", lambda: run(torch.compile(composition)), "compile", _same),
        *peers_of.soft_peers(run, BETA, len(axes)),
    ]
    title = f"Soft-argmax, temperature 1/{BETA:g}, {_text(shape)}" + (", forward and backward" if grad else "")
    bytes_moved = (3 if grad else 1) * 4 * maps.numel()
    return Case(
        key,
        title,
        peers,
        close_to(expected, 1e-2 * expected.abs().max().item() if grad else 0.02),
        bytes_moved,
        grad=grad,
    )


def nms_case(key: str, shape: tuple[int, ...], device: torch.device) -> Case:
    """All voxels above a threshold that exceed their neighbours, as a list."""
    maps, _ = noisy_maps(shape, device)
    axes = len(shape) - 2
    pool = F.max_pool2d if axes == 2 else F.max_pool3d

    def ours() -> tuple[Tensor, ...]:
        return ops.heatmap_peaks_nms(maps, threshold=THRESHOLD, max_peaks=MOST)

    def listed(result: tuple[Tensor, ...]) -> Tensor:
        coords, _, count = result
        there = torch.arange(MOST, device=count.device) < count[..., None]
        return _numbers(torch.cat([there.nonzero()[:, :2], coords[there].long()], dim=1), shape)

    def mask(h: Tensor) -> Tensor:
        return (pool(h, 3, 1, 1) == h) & (h > THRESHOLD)

    def compiled() -> Callable[[], Tensor]:
        fast = torch.compile(mask)
        return lambda: fast(maps).nonzero()

    view = partial(_numbers, shape=shape)
    peers = [
        Peer("medsynth_ext", lambda: ours, "fresh", listed),
        _twin(lambda: reference.heatmap_peaks_nms(maps, threshold=THRESHOLD, max_peaks=MOST), shape, listed),
        Peer("PyTorch max_pool and nonzero", lambda: lambda: mask(maps).nonzero(), "eager", view, max_rounds=3),
        Peer("torch.compile, mask and nonzero", compiled, "compile", view),
        *peers_of.nms_peers(maps, THRESHOLD, view),
    ]
    expected = _numbers(mask(maps).nonzero(), shape)
    title = f"Local maxima of 3^{axes} voxels above {THRESHOLD:g}, as a list, {_text(shape)}"
    return Case(key, title, peers, close_to(expected, 0), 4 * maps.numel())


def slices_case(key: str, edge: int, device: torch.device, *, grad: bool = False) -> Case:
    """The joint probability of three stacks of slices of four cubes; with ``grad`` also its gradients."""
    stacks = [torch.rand(4, edge, edge, edge, generator=torch.Generator().manual_seed(i)).to(device) for i in range(3)]
    z, y, x = stacks
    out, seed = torch.empty_like(x), torch.full_like(x, 0.5)

    def composition(z: Tensor, y: Tensor, x: Tensor) -> Tensor:
        return x * y.movedim(-1, -3) * z.movedim(-3, -1)

    def run(function: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[[], Tensor]:
        if not grad:
            return lambda: function(z, y, x)

        def both() -> Tensor:
            leaves = [stack.detach().requires_grad_() for stack in stacks]
            return torch.stack(torch.autograd.grad(function(*leaves), leaves, seed))

        return both

    peers = [
        Peer("medsynth_ext, fresh output", lambda: run(ops.ortho_slice_product), "fresh", _same),
        Peer("our PyTorch twin", lambda: run(reference.ortho_slice_product), "twin", _same),
        Peer("PyTorch, products of permuted views", lambda: run(composition), "eager", _same),
        Peer("torch.compile", lambda: run(torch.compile(composition)), "compile", _same),
    ]
    if not grad:
        into = Peer("medsynth_ext, out=", lambda: lambda: ops.ortho_slice_product(z, y, x, out=out), "out", _same)
        peers.insert(0, into)
    title = f"Joint probability of three stacks of slices, {_text(tuple(x.shape))}"
    bytes_moved = (8 if grad else 4) * 4 * x.numel()
    check = close_to(run(composition)(), 1e-6)
    return Case(key, title + (", and its gradients" if grad else ""), peers, check, bytes_moved, grad=grad)


def _numbers(index: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Linear indices of rows of indices, sorted."""
    strides = torch.tensor([1, *shape[:0:-1]], device=index.device).cumprod(0).flip(0)
    return (index * strides).sum(1).sort().values
