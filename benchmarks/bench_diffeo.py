"""Velocity fields and warping: integration, its gradient, linear and nearest warps, affine plus displacement."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks import compositions as plain
from benchmarks.bench_diffeo_peers import svf_peers, warp_peers
from benchmarks.compositions import interior
from benchmarks.data import label_map, velocity
from benchmarks.harness import Agreement, Case, Peer, close_to
from medsynth_ext import ops
from medsynth_ext.ops import reference

__all__ = ["cases"]

STEPS = 7


def cases(size: int, device: torch.device) -> Iterator[Callable[[], Case]]:
    """The cases of this family."""
    half = size // 2
    yield partial(svf_case, "svf_half", half, device)
    yield partial(svf_case, "svf", size, device)
    yield partial(svf_grad_case, "svf_half_grad", half, device)
    yield partial(svf_grad_case, "svf_grad", size, device)
    yield partial(warp_case, "warp_linear", size, device)
    yield partial(nearest_case, "warp_nearest", size, device)
    yield partial(warp_grad_case, "warp_grad", size, device)
    yield partial(affine_case, "affine_svf_warp", size, device)


def with_gradient(call: Callable[..., Tensor], *inputs: Tensor) -> Callable[[], tuple[Tensor, ...]]:
    """Forward and backward of the mean square; returns the gradients of the inputs."""

    def run() -> tuple[Tensor, ...]:
        leaves = [x.detach().requires_grad_(True) for x in inputs]
        call(*leaves).square().mean().backward()
        return tuple(leaf.grad for leaf in leaves if leaf.grad is not None)

    return run


def same_labels(expected: Tensor, *, share: float = 2e-3) -> Callable[[Tensor], Agreement]:
    """A check that almost every voxel has the expected label; the rest lie on a boundary between two."""

    def check(result: Tensor) -> Agreement:
        if result.shape != expected.shape:
            return Agreement(False, f"shape {tuple(result.shape)}, wanted {tuple(expected.shape)}")
        unequal = (result.to(torch.int64) != expected.to(torch.int64)).double().mean().item()
        return Agreement(
            unequal <= share, f"{unequal:.1e} of the labels differ" + ("" if unequal <= share else ": wrong")
        )

    return check


def svf_case(key: str, n: int, device: torch.device) -> Case:
    """Forward integration."""
    v = velocity(n, amplitude=min(4.0, n / 20)).to(device)
    out = torch.empty_like(v)
    expected = interior(plain.integrate(v, STEPS))
    peers = [
        Peer("medsynth_ext, out=", lambda: lambda: ops.integrate_svf(v, steps=STEPS, out=out), "out", interior),
        Peer("medsynth_ext, fresh output", lambda: lambda: ops.integrate_svf(v, steps=STEPS), "fresh", interior),
        Peer(
            "our PyTorch twin", lambda: lambda: reference.integrate_svf(v, steps=STEPS), "twin", interior, max_rounds=3
        ),
        Peer("PyTorch eager (grid_sample)", lambda: lambda: plain.integrate(v, STEPS), "eager", interior),
        Peer("PyTorch eager, normalised carried", lambda: lambda: plain.integrate_normalised(v), "tuned", interior),
        Peer("torch.compile", lambda: partial(torch.compile(plain.integrate), v, STEPS), "compile", interior),
        *svf_peers(v, STEPS),
    ]
    least = STEPS * 2 * v.numel() * v.element_size()
    title = f"SVF integration, {STEPS} steps, {n}^3, forward"
    return Case(key, title, peers, close_to(expected, 1e-3, what="largest difference in voxels"), least)


def svf_grad_case(key: str, n: int, device: torch.device) -> Case:
    """Forward and backward integration."""
    v = velocity(n, amplitude=min(4.0, n / 20)).to(device)
    expected = with_gradient(plain.integrate, v)()[0]
    scale = expected.abs().max().item()

    def view(gradients: tuple[Tensor, ...]) -> Tensor:
        return interior(gradients[0], 0.2)

    def ours(x: Tensor, **options: Any) -> Tensor:
        return ops.integrate_svf(x, steps=STEPS, **options)

    def peer(name: str, call: Callable[[Tensor], Tensor], role: str) -> Peer:
        return Peer(name, lambda: with_gradient(call, v), role, view)

    peers = [
        peer("medsynth_ext, recomputing", ours, "fresh"),
        peer("medsynth_ext, steps kept", partial(ours, checkpoint=False), "variant"),
        peer("our PyTorch twin", partial(reference.integrate_svf, steps=STEPS), "twin"),
        peer("PyTorch eager (grid_sample)", plain.integrate, "eager"),
        peer("PyTorch eager, normalised carried", plain.integrate_normalised, "tuned"),
        Peer("torch.compile", lambda: with_gradient(torch.compile(plain.integrate), v), "compile", view),
        *svf_peers(v, STEPS, gradient=with_gradient, view=view),
    ]
    title = f"SVF integration, {STEPS} steps, {n}^3, forward and backward"
    check = close_to(view((expected,)), 2e-3 * scale, what=f"largest difference (largest gradient {scale:.1e})")
    return Case(key, title, peers, check, grad=True)


def _image_and_field(n: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    labels = label_map(n, 40)
    image = (labels.float() * 3 + torch.randn(n, n, n))[None, None]
    return image.to(device), labels[None, None].to(device), velocity(n, amplitude=6.0 * n / 160).to(device)


def warp_case(key: str, n: int, device: torch.device) -> Case:
    """Linear warp of one channel."""
    image, _, field = _image_and_field(n, device)
    out = torch.empty_like(image)
    ready = (plain.unit_identity(n, device) + field.permute(0, 2, 3, 4, 1).flip(-1) * (2.0 / (n - 1))).contiguous()
    sample = partial(torch.nn.functional.grid_sample, padding_mode="border", align_corners=True)
    peers = [
        Peer("medsynth_ext, out=", lambda: lambda: ops.warp(image, field, out=out), "out", interior),
        Peer("medsynth_ext, fresh output", lambda: lambda: ops.warp(image, field), "fresh", interior),
        Peer("our PyTorch twin", lambda: lambda: reference.warp(image, field), "twin", interior),
        Peer(
            "PyTorch eager (identity + field, grid_sample)", lambda: lambda: plain.warp(image, field), "eager", interior
        ),
        Peer(
            "PyTorch grid_sample, grid ready",
            lambda: lambda: sample(image, ready),
            "tuned",
            interior,
            note="without building the grid",
        ),
        Peer("torch.compile", lambda: partial(torch.compile(plain.warp), image, field), "compile", interior),
        *warp_peers(image, field, "linear"),
    ]
    least = 4 * (image.numel() + out.numel() + field.numel())
    check = close_to(interior(plain.warp(image, field)), 5e-2, what="largest difference on a scale of 0 to 120")
    return Case(key, f"Linear warp, {n}^3, one channel", peers, check, least)


def nearest_case(key: str, n: int, device: torch.device) -> Case:
    """Nearest warp of labels."""
    _, labels, field = _image_and_field(n, device)
    small, floats = labels.to(torch.uint8), labels.float()
    out, out_small = torch.empty_like(labels), torch.empty_like(small)
    ready = (plain.unit_identity(n, device) + field.permute(0, 2, 3, 4, 1).flip(-1) * (2.0 / (n - 1))).contiguous()
    sample = partial(torch.nn.functional.grid_sample, mode="nearest", padding_mode="border", align_corners=True)
    nearest = partial(plain.warp, mode="nearest")
    peers = [
        Peer("medsynth_ext, out=", lambda: lambda: ops.warp_labels(labels, field, out=out), "out", interior),
        Peer("medsynth_ext, fresh output", lambda: lambda: ops.warp_labels(labels, field), "fresh", interior),
        Peer(
            "medsynth_ext, uint8 labels, out=",
            lambda: lambda: ops.warp_labels(small, field, out=out_small),
            "variant",
            interior,
        ),
        Peer("our PyTorch twin", lambda: lambda: reference.warp_labels(labels, field), "twin", interior),
        Peer("PyTorch eager on float labels", lambda: lambda: nearest(floats, field), "eager", interior),
        Peer(
            "PyTorch grid_sample, grid ready",
            lambda: lambda: sample(floats, ready),
            "tuned",
            interior,
            note="without building the grid",
        ),
        Peer("torch.compile", lambda: partial(torch.compile(nearest), floats, field), "compile", interior),
        *warp_peers(floats, field, "nearest"),
    ]
    least = field.numel() * 4 + 2 * labels.numel() * labels.element_size()
    check = same_labels(interior(nearest(floats, field)))
    return Case(key, f"Nearest warp of labels (int32), {n}^3", peers, check, least)


def warp_grad_case(key: str, n: int, device: torch.device) -> Case:
    """Linear warp, gradients of image and field."""
    image, _, field = _image_and_field(n, device)
    expected = with_gradient(plain.warp, image, field)()
    scale = [g.abs().max().item() for g in expected]

    def view(gradients: tuple[Tensor, ...]) -> Tensor:
        return interior(torch.cat([g / s for g, s in zip(gradients, scale, strict=True)], dim=1))

    def peer(name: str, call: Callable[..., Tensor], role: str) -> Peer:
        return Peer(name, lambda: with_gradient(call, image, field), role, view)

    peers = [
        Peer("medsynth_ext, fresh output", lambda: with_gradient(ops.warp, image, field), "fresh", view),
        peer("our PyTorch twin", reference.warp, "twin"),
        peer("PyTorch eager (identity + field, grid_sample)", plain.warp, "eager"),
        Peer("torch.compile", lambda: with_gradient(torch.compile(plain.warp), image, field), "compile", view),
        *warp_peers(image, field, "linear", gradient=with_gradient, view=view),
    ]
    # A location that rounding puts on the other side of a voxel centre takes the slope of another cell.
    check = _almost_everywhere(view(expected), 1e-3, 1e-3)
    return Case(key, f"Linear warp, {n}^3, forward and backward (image and field)", peers, check, grad=True)


def _almost_everywhere(expected: Tensor, tolerance: float, share: float) -> Callable[[Tensor], Agreement]:
    """A check that all but a small share of the values are within a tolerance."""

    def check(result: Tensor) -> Agreement:
        if result.shape != expected.shape:
            return Agreement(False, f"shape {tuple(result.shape)}, wanted {tuple(expected.shape)}")
        near = ((result - expected).abs() <= tolerance).double().mean().item()
        ok = 1 - near <= share
        return Agreement(ok, f"{1 - near:.1e} of the values off by more than {tolerance:g}" + ("" if ok else ": wrong"))

    return check


def affine_case(key: str, n: int, device: torch.device) -> Case:
    """Affine plus a displacement of half resolution, nearest, in one pass."""
    _, labels, _ = _image_and_field(n, device)
    half = n // 2
    field = velocity(half, amplitude=3.0 * n / 160).to(device)
    angle = torch.tensor(0.15)
    turn = torch.eye(3)
    turn[1, 1] = turn[2, 2] = angle.cos()
    turn[1, 2], turn[2, 1] = -angle.sin(), angle.sin()
    matrix = reference.lab2im_matrix(turn * 1.05, (n, n, n))[None].to(device)
    floats, out = labels.float(), torch.empty_like(labels)

    def ours(**options: Any) -> Tensor:
        shape = (n, n, n)
        return ops.affine_svf_warp(
            labels, matrix, field, out_shape=shape, mode="nearest", disp_rule="corner", **options
        )

    def twin() -> Tensor:
        shape = (n, n, n)
        return reference.affine_svf_warp(labels, matrix, field, out_shape=shape, mode="nearest", disp_rule="corner")

    call = partial(plain.affine_svf_warp, floats, matrix, field)
    compiled = partial(torch.compile, plain.affine_svf_warp)
    peers = [
        Peer("medsynth_ext, out=", lambda: lambda: ours(out=out), "out", interior),
        Peer("medsynth_ext, fresh output", lambda: ours, "fresh", interior),
        Peer("our PyTorch twin", lambda: twin, "twin", interior),
        Peer("PyTorch eager (resize, matrix, grid_sample)", lambda: call, "eager", interior),
        Peer("torch.compile", lambda: partial(compiled(), floats, matrix, field), "compile", interior),
    ]
    least = field.numel() * 4 + 2 * labels.numel() * labels.element_size()
    title = f"Affine and displacement from {half}^3, nearest warp of labels (int32), {n}^3"
    return Case(key, title, peers, same_labels(interior(call())), least)
