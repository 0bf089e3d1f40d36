"""A CT slice reconstructed again with another kernel: projection, filter, back-projection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from benchmarks.goals import SIZE
from benchmarks.harness import Agreement, Case, Peer
from medsynth_ext import ops
from medsynth_ext.methods.fbpaug.claims.scikit_chain import scikit_chain
from medsynth_ext.ops import reference
from medsynth_ext.phantoms.chest import chest_slice

__all__ = ["cases"]

A, B = 30.0, 3.0
CPU = ("cpu",)


def cases(size: int, device: torch.device) -> Iterator[Callable[[], Case]]:
    """The cases of this family: 512^2 with 512 views, scaled by ``size`` over the size of the goals."""
    n = max(32, 512 * size // SIZE)
    yield partial(chain_case, "fbpaug", n, "rotate_bilinear", device)
    yield partial(chain_case, "fbpaug_fft2", n, "fft2", device)
    yield partial(projection_case, "rotate_project", n, device)


def _slice(n: int, device: torch.device) -> Tensor:
    chest = chest_slice(0, size=n, spacing_mm=320 / n)
    return torch.nn.functional.avg_pool2d(chest.fine_hu[None], 2).to(device)


def _inside(image: Tensor) -> Tensor:
    """What lies well inside the circle, where all packages agree on what is there."""
    n = image.shape[-1]
    at = torch.arange(n, device=image.device) - n // 2
    return image[..., at[:, None] ** 2 + at**2 < (0.45 * n) ** 2]


def _near(want: Tensor, share: float) -> Callable[[Tensor], Agreement]:
    """Mean difference, as a share of the spread: scikit-image rounds places near the image's border differently."""

    def check(found: Tensor) -> Agreement:
        gap = ((found.double() - want.double()).abs().mean() / want.double().std()).item()
        return Agreement(gap <= share, f"mean difference {gap:.1e} of the spread")

    return check


def chain_case(key: str, n: int, mode: str, device: torch.device) -> Case:
    """One slice with as many views as pixels."""
    image = _slice(n, device)
    a, b = torch.tensor([A], device=device), torch.tensor([B], device=device)

    def ours() -> Tensor:
        return ops.kernel_augment(image, a, b, views=n, mode=mode)

    def scikit() -> Callable[[], Tensor]:
        import skimage  # noqa: F401  # says that it is missing before the timing

        values = image[0].double().cpu().numpy()
        return lambda: torch.from_numpy(scikit_chain(values, A, B, n))[None]

    def twin() -> Tensor:
        return reference.kernel_augment(image, a, b, views=n, offset_hu=ops.WATER_AIR_HU).clamp(-1000, 3000)

    quick = mode == "fft2"
    note = "the whole chain" if quick else ""
    peers = [
        Peer(f"medsynth_ext {mode}", lambda: ours, "fresh", _inside),
        Peer("scikit-image", scikit, "peer", None if quick else _inside, note, max_rounds=2, devices=CPU),
    ]
    if not quick:
        peers.append(Peer("twin", lambda: twin, "twin", _inside, max_rounds=1))
    title = f"reconstruction with another kernel, {mode}, {n}x{n}, {n} views"
    return Case(key, title, peers, _near(_inside(ours()), 0.02), samples=1)


def projection_case(key: str, n: int, device: torch.device) -> Case:
    """The rotating projector alone."""
    image = _slice(n, device) + ops.AIR_ZERO_HU

    def ours() -> Tensor:
        return ops.rotate_project(image, n)

    def scikit() -> Callable[[], Tensor]:
        import numpy as np
        from skimage.transform import radon

        at = torch.arange(n) - n // 2
        circle = at[:, None] ** 2 + at**2 <= (n // 2) ** 2
        values = (image[0].cpu() * circle).double().numpy()
        angles = np.arange(n) * 180.0 / n
        return lambda: torch.from_numpy(radon(values, theta=angles, circle=True)).T[None]

    peers = [
        Peer("medsynth_ext", lambda: ours, "fresh", lambda p: p),
        Peer("scikit-image radon", scikit, "peer", lambda p: p, max_rounds=2, devices=CPU),
        Peer("twin", lambda: lambda: reference.rotate_project(image, n), "twin", lambda p: p, max_rounds=1),
    ]
    return Case(key, f"rotating projector, {n}x{n}, {n} views", peers, _near(ours(), 0.02), samples=1)
