"""GMM intensities from a label map: ``means[label] + stds[label] * normal``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.data import label_map
from benchmarks.goals import SIZE
from benchmarks.harness import Agreement, Case, Peer
from medsynth_ext import ops
from medsynth_ext.ops import reference

__all__ = ["cases"]

LABELS = 40


def in_law(labels: Tensor, means: Tensor, stds: Tensor, *, limit: float = 6.0) -> Callable[[Tensor], Agreement]:
    """A check that every label's mean and deviation are the wanted ones, in standard errors of either."""
    index = labels.reshape(-1).long()
    count = torch.bincount(index, minlength=len(means)).double()
    enough = count >= 100

    def check(image: Tensor) -> Agreement:
        if image.numel() != index.numel():
            return Agreement(False, f"shape {tuple(image.shape)}, wanted {tuple(labels.shape)}")
        value = image.reshape(-1).double()
        mean = torch.zeros_like(count).index_add_(0, index, value) / count
        spread = value - mean[index]
        std = (torch.zeros_like(count).index_add_(0, index, spread**2) / count).sqrt()
        error_of_mean = ((mean - means.double()) * count.sqrt() / stds.double())[enough].abs().max().item()
        error_of_std = ((std / stds.double() - 1) * (2 * count).sqrt())[enough].abs().max().item()
        worst = max(error_of_mean, error_of_std) if not math.isnan(error_of_mean + error_of_std) else math.nan
        ok = worst <= limit
        return Agreement(
            ok, f"label means and deviations within {worst:.1f} standard errors" + ("" if ok else ": wrong")
        )

    return check


def cases(size: int, device: torch.device) -> Iterator[Callable[[], Case]]:
    """The cases of this family."""
    yield partial(gmm_case, "gmm", size, device)
    if size == SIZE:
        yield partial(gmm_case, "gmm_192", 192, device)


def gmm_case(key: str, n: int, device: torch.device) -> Case:
    """All ways of sampling one volume."""
    torch.manual_seed(0)
    labels = label_map(n, LABELS).to(device)  # (n, n, n) int32
    means, stds = (torch.rand(LABELS) * 255).to(device), (torch.rand(LABELS) * 30 + 5).to(device)
    batch, small, long = labels[None, None], labels[None, None].to(torch.uint8), labels.long()
    out = torch.empty(batch.shape, device=device)

    def ours(volume: Tensor, **options: Any) -> Tensor:
        return ops.gmm_sample(volume, means, stds, seed=1, **options)

    def reused() -> Callable[[], Tensor]:
        buffer, flat = torch.empty(labels.shape, device=device), labels.reshape(-1)

        def call() -> Tensor:
            buffer.normal_().mul_(stds.index_select(0, flat).view_as(buffer))
            return buffer.add_(means.index_select(0, flat).view_as(buffer))

        return call

    def composition(index: Tensor) -> Tensor:
        return means[index] + stds[index] * torch.randn(index.shape, device=device)

    peers = [
        Peer("medsynth_ext, out=", lambda: lambda: ours(batch, out=out), "out", _same),
        Peer("medsynth_ext, fresh output", lambda: lambda: ours(batch), "fresh", _same),
        Peer("medsynth_ext, uint8 labels, out=", lambda: lambda: ours(small, out=out), "variant", _same),
        Peer(
            "medsynth_ext, labels not validated, out=",
            lambda: lambda: ours(batch, validate=False, out=out),
            "variant",
            _same,
        ),
        Peer("our PyTorch twin", lambda: lambda: reference.gmm_sample(batch, means, stds, seed=1), "twin", _same),
        Peer("PyTorch eager, int64 index", lambda: lambda: composition(long), "eager", _same),
        Peer("PyTorch eager, int32 index", lambda: lambda: composition(labels), "peer", _same),
        Peer("PyTorch index_select in place, output reused", reused, "tuned", _same),
        Peer("torch.compile", lambda: partial(torch.compile(composition), long), "compile", _same),
        *_packages(labels, means, stds),
    ]
    least = labels.numel() * (labels.element_size() + out.element_size())
    return Case(key, f"GMM sampling, {n}^3, {LABELS} labels (int32)", peers, in_law(labels, means, stds), least)


def _same(image: Tensor) -> Tensor:
    return image


def _packages(labels: Tensor, means: Tensor, stds: Tensor) -> list[Peer]:
    """The other packages' ways."""

    def torchio() -> Callable[[], object]:
        import torchio as tio

        subject = tio.Subject(l=tio.LabelMap(tensor=labels[None]))
        transform = tio.RandomLabelsToImage(
            label_key="l",
            image_key="im",
            used_labels=list(range(LABELS)),
            mean=[(m, m) for m in means.tolist()],
            std=[(s, s) for s in stds.tolist()],
            discretize=False,
        )
        return lambda: transform(subject)

    def cornucopia() -> Callable[[], Tensor]:
        from cornucopia.labels import GaussianMixtureFinalTransform

        transform = GaussianMixtureFinalTransform(mu=means, sigma=stds, fwhm=0, background=None)
        return lambda: transform(labels[None])

    def neurite() -> Callable[[], Tensor]:
        import neurite as ne

        return lambda: ne.functional.sample_image_from_labels(labels, (0.0, 255.0), 10.0)

    return [
        Peer("TorchIO RandomLabelsToImage", torchio, view=lambda s: s["im"].data, devices=("cpu",)),
        Peer("cornucopia GaussianMixture", cornucopia, view=_same),
        Peer("neurite sample_image_from_labels", neurite, note="not compared: draws means of its own"),
    ]
