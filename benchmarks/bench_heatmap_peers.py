"""Other packages' heatmap functions, prepared so that only their own work is timed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.harness import Peer

__all__ = ["dark_patches", "dark_peers", "nms_peers", "peak_peers", "render_peers", "soft_peers"]

CPU = ("cpu",)
KERNEL = 11  # of OpenCV's blur before DARK; its default sigma is then 2


def render_peers(points: Tensor, sigma: float, size: Sequence[int]) -> list[Peer]:
    """kornia (2D) and MONAI."""

    def kornia() -> Callable[[], Tensor]:
        from kornia.geometry.subpix import dsnt

        flipped, widths = points.flip(-1), torch.full(points.shape, sigma, device=points.device)
        return lambda: dsnt.render_gaussian2d(flipped, widths, tuple(size), normalized_coordinates=False)

    def peaks(maps: Tensor) -> Tensor:  # kornia's maps sum to 1
        place = points.round().long()
        top = maps[torch.arange(len(points))[:, None], torch.arange(points.shape[1]), place[..., 0], place[..., 1]]
        wanted = torch.exp(-0.5 * ((place - points) / sigma).square().sum(-1))
        return maps * (wanted / top)[..., None, None]

    def monai() -> Callable[[], Any]:
        from monai.transforms import GenerateHeatmap

        transform = GenerateHeatmap(sigma=sigma, spatial_shape=tuple(size))
        samples = [p.cpu().numpy() for p in points]
        return lambda: [transform(p) for p in samples]

    rounds = "not compared: rounds the points to voxels"
    found = [Peer("MONAI GenerateHeatmap", monai, note=rounds, max_rounds=2, devices=CPU)]
    if len(size) == 2:
        note = "compared after undoing its normalisation"
        found.append(Peer("kornia render_gaussian2d", kornia, view=peaks, note=note))
    return found


def peak_peers(maps: Tensor, coordinates: Callable[[Tensor], Tensor]) -> list[Peer]:
    """numpy and OpenCV."""
    shape = maps.shape

    def numpy() -> Callable[[], Any]:
        rows = maps.numpy().reshape(shape[0] * shape[1], -1)
        return lambda: rows.argmax(1)

    def opencv() -> Callable[[], Any]:
        import cv2

        images = list(maps.numpy().reshape(-1, *shape[2:]))
        return lambda: [cv2.minMaxLoc(m)[3] for m in images]

    def of_opencv(places: list[tuple[int, int]]) -> Tensor:
        return coordinates(torch.tensor([y * shape[3] + x for x, y in places]))

    return [
        Peer("numpy argmax", numpy, view=lambda i: coordinates(torch.from_numpy(i)), note="one thread", devices=CPU),
        Peer("OpenCV minMaxLoc, map by map", opencv, view=of_opencv, devices=CPU),
    ]


def dark_patches(maps: Tensor) -> Tensor:  # (B, N, 2)
    """The best PyTorch form of DARK we know: patches around the peaks are gathered, and only those are blurred."""
    count, height, width = maps.shape[0] * maps.shape[1], *maps.shape[2:]
    index = maps.reshape(count, -1).argmax(-1)
    y, x = index // width, index % width
    r = KERNEL // 2 + 2
    step = torch.arange(-r, r + 1, device=maps.device)
    rows, columns = (y[:, None] + step).clamp(0, height - 1), (x[:, None] + step).clamp(0, width - 1)
    at = torch.arange(count, device=maps.device)[:, None, None]
    patch = maps.reshape(count, height, width)[at, rows[:, :, None], columns[:, None]]
    taps = torch.exp(-0.5 * (torch.arange(KERNEL, device=maps.device) - KERNEL // 2).square() / 4.0)
    taps = taps / taps.sum()
    b = F.conv2d(F.conv2d(patch[:, None], taps.view(1, 1, -1, 1)), taps.view(1, 1, 1, -1))[:, 0].clamp_min(1e-10).log()
    c = 2
    dx, dy = 0.5 * (b[:, c, c + 1] - b[:, c, c - 1]), 0.5 * (b[:, c + 1, c] - b[:, c - 1, c])
    dxx = 0.25 * (b[:, c, c + 2] - 2 * b[:, c, c] + b[:, c, c - 2])
    dyy = 0.25 * (b[:, c + 2, c] - 2 * b[:, c, c] + b[:, c - 2, c])
    corners = b[:, c + 1, c + 1] - b[:, c - 1, c + 1] - b[:, c + 1, c - 1] + b[:, c - 1, c - 1]
    dxy = 0.25 * corners
    det = dxx * dyy - dxy * dxy
    place = torch.stack([y - (dxx * dy - dxy * dx) / det, x - (dyy * dx - dxy * dy) / det], -1)
    return place.view(*maps.shape[:2], 2)


def dark_peers(maps: Tensor) -> list[Peer]:
    """Whole maps blurred with OpenCV, as pose estimation codes do."""

    def opencv() -> Callable[[], np.ndarray]:
        import cv2

        images = maps.numpy().reshape(-1, *maps.shape[2:])

        def call() -> np.ndarray:
            out = np.empty((len(images), 2))
            for k, image in enumerate(images):
                log = np.log(np.maximum(cv2.GaussianBlur(image, (KERNEL, KERNEL), 0), 1e-10))
                y, x = divmod(int(image.argmax()), image.shape[1])
                dx, dy = 0.5 * (log[y, x + 1] - log[y, x - 1]), 0.5 * (log[y + 1, x] - log[y - 1, x])
                dxx = 0.25 * (log[y, x + 2] - 2 * log[y, x] + log[y, x - 2])
                dyy = 0.25 * (log[y + 2, x] - 2 * log[y, x] + log[y - 2, x])
                corners = log[y + 1, x + 1] - log[y - 1, x + 1] - log[y + 1, x - 1] + log[y - 1, x - 1]
                hessian = np.array([[dxx, 0.25 * corners], [0.25 * corners, dyy]])
                out[k] = (y, x) - np.linalg.solve(hessian, np.array([dx, dy]))[::-1]
            return out

        return call

    def view(places: np.ndarray) -> Tensor:
        return torch.from_numpy(places).reshape(*maps.shape[:2], 2)

    return [Peer("numpy and OpenCV, whole maps blurred", opencv, view=view, max_rounds=3, devices=CPU)]


def soft_peers(run: Callable[[Callable[[Tensor], Tensor]], Callable[[], Tensor]], beta: float, axes: int) -> list[Peer]:
    """kornia, in 2D."""
    if axes != 2:
        return []

    def kornia() -> Callable[[], Tensor]:
        from kornia.geometry.subpix import spatial_soft_argmax2d

        temperature = torch.tensor(1 / beta)  # it divides
        return run(lambda h: spatial_soft_argmax2d(h, temperature.to(h), False).flip(-1))

    return [Peer("kornia spatial_soft_argmax2d", kornia, view=lambda r: r)]


def nms_peers(maps: Tensor, threshold: float, view: Callable[[Tensor], Tensor]) -> list[Peer]:
    """OpenCV, kornia and scikit-image in 2D, SciPy in 3D."""
    shape = maps.shape
    images = maps.cpu().numpy().reshape(-1, *shape[2:])

    def listed(places: list[np.ndarray]) -> Tensor:
        rows = [np.insert(p, 0, k, axis=1) for k, p in enumerate(places)]
        table = torch.from_numpy(np.concatenate(rows).astype(np.int64))
        return view(torch.cat([table[:, :1] // shape[1], table[:, :1] % shape[1], table[:, 1:]], dim=1))

    def opencv() -> Callable[[], Any]:
        import cv2

        square = np.ones((3, 3), np.uint8)
        return lambda: [np.argwhere((cv2.dilate(m, square) == m) & (m > threshold)) for m in images]

    def kornia() -> Callable[[], Tensor]:
        from kornia.geometry.subpix import nms2d

        return lambda: (nms2d(maps, (3, 3)) > threshold).nonzero()

    def scikit_image() -> Callable[[], Any]:
        from skimage.feature import peak_local_max

        def call() -> list[np.ndarray]:
            return [peak_local_max(m, min_distance=1, threshold_abs=threshold, exclude_border=False) for m in images]

        return call

    def scipy() -> Callable[[], Any]:
        from scipy.ndimage import maximum_filter

        return lambda: [np.argwhere((maximum_filter(m, 3) == m) & (m > threshold)) for m in images]

    if len(shape) == 5:
        return [Peer("SciPy maximum_filter", scipy, view=listed, note="one thread", max_rounds=3, devices=CPU)]
    return [
        Peer("OpenCV dilate, map by map", opencv, view=listed, devices=CPU),
        Peer("kornia nms2d", kornia, view=view, max_rounds=3),
        Peer("scikit-image peak_local_max, map by map", scikit_image, view=listed, max_rounds=3, devices=CPU),
    ]
