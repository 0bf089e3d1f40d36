"""Separable Gaussian blur and the simulation of a low resolution."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks import compositions as plain
from benchmarks.compositions import interior
from benchmarks.data import label_map
from benchmarks.harness import Case, Peer, close_to
from medsynth_ext import ops
from medsynth_ext.ops import reference

__all__ = ["cases"]

SIGMA = (0.75, 1.5, 3.0)
LOW = (0.5, 0.75, 0.25)  # share of voxels that the low resolution keeps


def cases(size: int, device: torch.device) -> Iterator[Callable[[], Case]]:
    """The cases of this family."""
    yield partial(blur_case, "gaussian_blur", size, device)
    yield partial(resolution_case, "simulate_resolution", size, device)


def _image(n: int, device: torch.device) -> Tensor:
    torch.manual_seed(0)
    return (label_map(n, 40).float() / 40 + 0.1 * torch.randn(n, n, n))[None, None].to(device)


def blur_case(key: str, n: int, device: torch.device) -> Case:
    """One volume, another sigma on each axis."""
    x = _image(n, device)
    out = torch.empty_like(x)
    sigma = torch.tensor([SIGMA], device=device)
    middle = partial(interior, share=min(0.4, 10 / n))  # away from what other border rules reach

    def rows_conv() -> Callable[[], Tensor]:
        taps = [plain.kernel(s, 3.0, device) for s in SIGMA]

        def call() -> Tensor:
            y = x[0, 0]
            for t in taps[::-1]:  # the last axis as rows, then the axes move on by one; after three turns they are back
                rows = torch.nn.functional.pad(y.reshape(-1, 1, n), [len(t) // 2] * 2, mode="replicate")
                y = torch.nn.functional.conv1d(rows, t[None, None]).view(n, n, n).permute(2, 0, 1).contiguous()
            return y[None, None]

        return call

    def matrices() -> Callable[[], Tensor]:
        dense = [reference.gaussian_blur(torch.eye(n)[None, None], (s, 0.0))[0, 0].to(device) for s in SIGMA]
        return lambda: plain.along_axes(x, dense)

    peers = [
        Peer("medsynth_ext, out=", lambda: lambda: ops.gaussian_blur(x, sigma, out=out), "out", middle),
        Peer("medsynth_ext, fresh output", lambda: lambda: ops.gaussian_blur(x, sigma), "fresh", middle),
        Peer("our PyTorch twin", lambda: lambda: reference.gaussian_blur(x, sigma.cpu()), "twin", middle),
        Peer("PyTorch eager (conv3d an axis)", lambda: lambda: plain.blur(x, SIGMA), "eager", middle),
        Peer("PyTorch dense matrices an axis", matrices, "tuned", middle),
        Peer("PyTorch conv1d on rows, axes permuted", rows_conv, "tuned", middle),
        Peer("torch.compile", lambda: partial(torch.compile(plain.blur), x, SIGMA), "compile", middle),
        *_blur_packages(x, middle),
    ]
    check = close_to(middle(plain.blur(x, SIGMA)), 5e-4)  # some round the radius down
    title = f"Gaussian blur, {n}^3, sigma {SIGMA} voxels, truncated at 3 sigma"
    return Case(key, title, peers, check, 4 * (x.numel() + out.numel()))


def _blur_packages(x: Tensor, middle: Callable[[Tensor], Tensor]) -> list[Peer]:
    cpu = ("cpu",)

    def monai() -> Callable[[], Any]:
        from monai.networks.layers import GaussianFilter

        return partial(GaussianFilter(3, list(SIGMA), truncated=3.0, approx="sampled").to(x.device), x)

    def monai_view(result: Tensor) -> Tensor:
        from monai.networks.layers.convutils import gaussian_1d

        sums = [gaussian_1d(torch.tensor(s), 3.0, "sampled").sum().item() for s in SIGMA]  # 1 - 2e-3 in all
        return middle(result) / math.prod(sums)

    def scipy() -> Callable[[], Any]:
        from scipy.ndimage import gaussian_filter

        array = x[0, 0].numpy()
        return lambda: gaussian_filter(array, SIGMA, mode="nearest", truncate=3.0)

    def simpleitk() -> Callable[[], Any]:
        import SimpleITK as sitk  # noqa: N813 - the name everybody uses

        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(torch.get_num_threads())
        image = sitk.GetImageFromArray(x[0, 0].numpy())
        return lambda: sitk.SmoothingRecursiveGaussian(image, SIGMA[::-1])

    def torchio() -> Callable[[], Any]:
        import torchio as tio

        transform = tio.RandomBlur(std=tuple(v for s in SIGMA for v in (s, s)))
        subject = tio.Subject(i=tio.ScalarImage(tensor=x[0]))
        return lambda: transform(subject)

    recursive = "not compared: recursive filter, no truncation"
    untruncated = "not compared: scipy's filter with its own truncation"
    return [
        Peer("MONAI GaussianFilter", monai, view=monai_view, note="zeros outside; compared after dividing by its sum"),
        Peer("scipy gaussian_filter", scipy, view=lambda a: middle(torch.from_numpy(a)[None, None]), devices=cpu),
        Peer("SimpleITK SmoothingRecursiveGaussian", simpleitk, note=recursive, devices=cpu),
        Peer("TorchIO RandomBlur", torchio, note=untruncated, devices=cpu),
    ]


def resolution_case(key: str, n: int, device: torch.device) -> Case:
    """Down to a coarse grid and back, both linear by the corner rule."""
    x = _image(n, device)
    out = torch.empty_like(x)
    low = [max(2, int(n * share)) for share in LOW]
    sizes = torch.tensor([low])

    def composition() -> Tensor:
        return plain.corner_resize(plain.corner_resize(x, low), (n, n, n))

    def matrices() -> Callable[[], Tensor]:
        up_down = [plain.corner_matrix(m, n, device) @ plain.corner_matrix(n, m, device) for m in low]
        return lambda: plain.along_axes(x, up_down)

    peers = [
        Peer("medsynth_ext, out=", lambda: lambda: ops.simulate_resolution(x, sizes, out=out), "out", interior),
        Peer("medsynth_ext, fresh output", lambda: lambda: ops.simulate_resolution(x, sizes), "fresh", interior),
        Peer("our PyTorch twin", lambda: lambda: reference.simulate_resolution(x, sizes), "twin", interior),
        Peer("PyTorch eager (two grid_samples)", lambda: composition, "eager", interior),
        Peer("PyTorch dense matrices an axis", matrices, "tuned", interior),
        Peer("torch.compile", lambda: torch.compile(composition), "compile", interior),
        *_resolution_packages(x, low),
    ]
    title = f"Low-resolution simulation, {n}^3 to {low[0]}x{low[1]}x{low[2]} and back"
    return Case(key, title, peers, close_to(interior(composition()), 2e-3), 4 * (x.numel() + out.numel()))


def _resolution_packages(x: Tensor, low: list[int]) -> list[Peer]:
    cpu = ("cpu",)
    n = x.shape[-1]

    def monai() -> Callable[[], Any]:
        from monai.transforms import RandSimulateLowResolution

        transform = RandSimulateLowResolution(prob=1.0, downsample_mode="trilinear", zoom_range=(0.5, 0.5))
        return partial(transform, x[0])

    def torchio() -> Callable[[], Any]:
        import torchio as tio

        transform = tio.RandomAnisotropy(axes=(2,), downsampling=(4, 4))
        subject = tio.Subject(i=tio.ScalarImage(tensor=x[0]))
        return lambda: transform(subject)

    def simpleitk() -> Callable[[], Any]:
        import SimpleITK as sitk  # noqa: N813 - the name everybody uses

        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(torch.get_num_threads())
        image = sitk.GetImageFromArray(x[0, 0].numpy())
        spacing = [n / m for m in low[::-1]]
        same, origin, direction = sitk.Transform(), image.GetOrigin(), image.GetDirection()
        linear, kind = sitk.sitkLinear, sitk.sitkFloat32

        def call() -> Any:
            coarse = sitk.Resample(image, low[::-1], same, linear, origin, spacing, direction, 0.0, kind)
            return sitk.Resample(coarse, [n] * 3, same, linear, origin, [1.0] * 3, direction, 0.0, kind)

        return call

    def simpleitk_view(result: Any) -> Tensor:
        import SimpleITK as sitk  # noqa: N813

        return interior(torch.from_numpy(sitk.GetArrayFromImage(result))[None, None])

    return [
        Peer(
            "MONAI RandSimulateLowResolution", monai, note="not compared: one zoom for all axes, its own location rule"
        ),
        Peer("SimpleITK Resample, twice", simpleitk, view=simpleitk_view, devices=cpu),
        Peer("TorchIO RandomAnisotropy", torchio, note="not compared: one axis, its own location rule", devices=cpu),
    ]
