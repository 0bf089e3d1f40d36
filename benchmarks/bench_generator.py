"""The whole generator: one label map in, one image and its target out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import compositions as plain
from benchmarks.data import label_map
from benchmarks.harness import Agreement, Case, Needs, Peer
from medsynth_ext.generators import SynthSegGenerator
from medsynth_ext.methods.synthseg.labels import LabelTable

__all__ = ["LABELS", "blob_table", "cases"]

LABELS = 40


def blob_table() -> LabelTable:
    """The table of the benchmark's label map: forty structures without sides, each with a Gaussian of its own."""
    values = list(range(LABELS))
    return LabelTable(generation_labels=values, n_neutral=LABELS, generation_classes=values, segmentation_labels=values)


def cases(size: int, device: torch.device) -> Iterator[Callable[[], Case]]:
    """The cases of this family."""
    yield partial(generator_case, size, device)


class Composition:
    """A generator from plain PyTorch calls: affine and integrated field, GMM, bias, gamma, blur, low resolution."""

    def __init__(self, labels: Tensor, *, compiled: bool = False) -> None:
        self.n = labels.shape[-1]
        self.device = labels.device
        self.labels = labels.float()[None, None]
        self.deform = torch.compile(self._deform) if compiled else self._deform
        self.gmm = torch.compile(self._gmm) if compiled else self._gmm

    def __call__(self) -> tuple[Tensor, Tensor]:
        """One pair."""
        labels = self.deform()
        return self._finish(self.gmm(labels)), labels

    def _resize(self, x: Tensor, n: int, *, corners: bool) -> Tensor:
        return F.interpolate(x, size=(n, n, n), mode="trilinear", align_corners=corners)

    def _affine(self) -> Tensor:
        angle = (torch.rand(3, device=self.device) * 2 - 1) * math.radians(15)
        c, s = angle.cos(), angle.sin()
        turn = torch.eye(3, device=self.device)
        for i, (a, b) in enumerate(((1, 2), (0, 2), (0, 1))):
            one = torch.eye(3, device=self.device)
            one[a, a] = one[b, b] = c[i]
            one[a, b], one[b, a] = -s[i], s[i]
            turn = turn @ one
        scale = torch.diag(1 + (torch.rand(3, device=self.device) * 2 - 1) * 0.2)
        return (
            turn @ scale @ (torch.eye(3, device=self.device) + (torch.rand(3, 3, device=self.device) * 2 - 1) * 0.012)
        )

    def _deform(self) -> Tensor:
        half = max(2, self.n // 2)
        velocity = self._resize(torch.randn(1, 3, 8, 8, 8, device=self.device) * 2, half, corners=True)
        field = self._resize(plain.integrate_normalised(velocity), self.n, corners=True) * (2.0 / (half - 1))
        grid = (plain.unit_identity(self.n, self.device) + field.permute(0, 2, 3, 4, 1).flip(-1)) @ self._affine().T
        return F.grid_sample(self.labels, grid, mode="nearest", padding_mode="border", align_corners=True)[0, 0].long()

    def _gmm(self, labels: Tensor) -> Tensor:
        means, stds = torch.rand(LABELS, device=self.device) * 255, torch.rand(LABELS, device=self.device) * 35
        return (means[labels] + stds[labels] * torch.randn(labels.shape, device=self.device))[None, None]

    def _finish(self, image: Tensor) -> Tensor:
        bias = self._resize(torch.randn(1, 1, 4, 4, 4, device=self.device) * 0.35, self.n, corners=True)
        image = image.mul_(bias.exp_()).clamp_(0, 300)
        low, high = image.aminmax()
        image = ((image - low) / (high - low)).pow_(math.exp(0.5 * torch.randn(()).item()))
        factor = 1 + 2 * torch.rand(()).item()
        image = plain.blur(image, [0.75 * factor / 2] * 3)
        coarse = self._resize(image, max(4, int(self.n / factor)), corners=False)
        return self._resize(coarse, self.n, corners=False)


def is_pair(n: int) -> Callable[[Tensor], Agreement]:
    """A check on what every generator must give: an image that varies in [0, 1], and labels of the map."""

    def check(pair: Tensor) -> Agreement:  # (2, n, n, n): image, labels
        if pair.shape != (2, n, n, n):
            return Agreement(False, f"shape {tuple(pair.shape)}, wanted {(2, n, n, n)}")
        image, labels = pair
        low, high, found = image.min().item(), image.max().item(), labels.unique().numel()
        inside = low >= -1e-4 and high <= 1 + 1e-4 and high - low > 0.05
        known = found > 1 and bool(((labels >= 0) & (labels < LABELS) & (labels == labels.round())).all())
        text = f"image in [{low:.2f}, {high:.2f}], {found} labels"
        return Agreement(inside and known, text + ("" if inside and known else ": wrong"))

    return check


def _pair(result: tuple[Tensor, Tensor]) -> Tensor:
    image, labels = (torch.as_tensor(x).detach().float() for x in result)
    return torch.stack([image.reshape(image.shape[-3:]), labels.reshape(labels.shape[-3:])])


def generator_case(n: int, device: torch.device) -> Case:
    """All generators, each with its own closest pipeline."""
    torch.manual_seed(0)
    labels = label_map(n, LABELS).to(device)
    batch = labels.to(torch.uint8)[None, None]

    def ours(reuse: bool) -> Callable[[], tuple[Tensor, Tensor]]:
        generator = SynthSegGenerator(blob_table(), crop_size=(n, n, n), validate=device.type == "cpu")
        index = itertools.count()
        out = (torch.empty(1, 1, n, n, n, device=device), torch.empty(1, 1, n, n, n, dtype=torch.int64, device=device))
        return lambda: generator(batch, seed=1, index=next(index), out=out if reuse else None)

    peers = [
        Peer("medsynth_ext, out=", lambda: ours(True), "out", _pair),
        Peer("medsynth_ext, fresh output", lambda: ours(False), "fresh", _pair),
        Peer("PyTorch eager composition", lambda: Composition(labels), "eager", _pair),
        Peer("torch.compile on deformation and GMM", lambda: Composition(labels, compiled=True), "compile", _pair),
        *_packages(labels),
    ]
    least = 2 * batch.numel() + 12 * batch.numel()
    return Case("generator", f"Whole generator, {n}^3, {LABELS} labels, one pair", peers, is_pair(n), least, samples=1)


def _packages(labels: Tensor) -> list[Peer]:
    cpu = ("cpu",)

    def cornucopia(**options: Any) -> Callable[[], Any]:
        import cornucopia as cc

        transform = cc.SynthFromLabelTransform(**options)
        return lambda: transform(labels[None])

    def torchio() -> Callable[[], Any]:
        import torchio as tio

        transform = tio.Compose(
            [
                tio.RandomAffine(scales=0.2, degrees=15),
                tio.RandomElasticDeformation(num_control_points=10, max_displacement=7.5),
                tio.RandomLabelsToImage(label_key="l", image_key="im", used_labels=list(range(LABELS))),
                tio.RandomBiasField(coefficients=0.5),
                tio.RescaleIntensity((0, 1)),
                tio.RandomGamma((-0.3, 0.3)),
                tio.RandomBlur((0, 1.5)),
                tio.RandomAnisotropy(axes=(0, 1, 2), downsampling=(1.5, 3)),
            ]
        )
        subject = tio.Subject(l=tio.LabelMap(tensor=labels[None]))
        return lambda: transform(subject)

    def monai() -> Callable[[], Any]:
        import monai.transforms as mt

        nearest: dict[str, Any] = {"prob": 1, "mode": "nearest", "padding_mode": "zeros"}
        deform = mt.Compose(
            [
                mt.RandAffine(rotate_range=[0.26] * 3, scale_range=[0.2] * 3, **nearest),
                mt.Rand3DElastic(sigma_range=(8, 8), magnitude_range=(100, 300), **nearest),
            ]
        )
        smooth = (0.5, 1.5)
        finish = mt.Compose(
            [
                mt.RandBiasField(prob=1, coeff_range=(0, 0.3)),
                mt.ScaleIntensity(),
                mt.RandAdjustContrast(prob=1, gamma=(0.6, 1.6)),
                mt.RandGaussianSmooth(prob=1, sigma_x=smooth, sigma_y=smooth, sigma_z=smooth),
                mt.RandSimulateLowResolution(prob=1, zoom_range=(0.33, 0.66)),
            ]
        )
        gmm, floats = Composition(labels).gmm, labels[None].float()

        def call() -> tuple[Any, Any]:
            warped = deform(floats)
            return finish(gmm(warped.as_tensor()[0].long())[0]), warped

        return call

    def tensorflow() -> Callable[[], Any]:
        raise Needs("the authors' TensorFlow code is no installable package; measured apart from this run")

    cubic = "not compared: texture smoothing and noise of its own, cubic fields"
    linear = "not compared: noise of its own"
    linear_options: dict[str, Any] = {"order": 1, "gmm_fwhm": False}
    return [
        Peer("cornucopia, linear, no texture smoothing", lambda: cornucopia(**linear_options), note=linear),
        Peer(
            "cornucopia, linear, no texture smoothing, 7 squarings",
            lambda: cornucopia(**linear_options, elastic_steps=7),
            note=linear,
        ),
        Peer("cornucopia SynthFromLabelTransform, defaults", cornucopia, note=cubic, max_rounds=1, devices=cpu),
        Peer("TorchIO pipeline", torchio, note="not compared: B-spline deformation, no integration", devices=cpu),
        Peer("MONAI transforms and PyTorch GMM", monai, view=_pair, note="deformation by smoothed noise", devices=cpu),
        Peer("SynthSeg, original TensorFlow generator", tensorflow, note="not compared"),
    ]
