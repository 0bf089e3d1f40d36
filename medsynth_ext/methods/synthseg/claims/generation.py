"""Measurements of the generator itself: is a pair the same however it is made, and how long does it take."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from medsynth_ext.claims import Progress
from medsynth_ext.generators import SynthSegGenerator
from medsynth_ext.methods.synthseg.claims.composition import compose_pair
from medsynth_ext.methods.synthseg.claims.heads import phantom_label_table
from medsynth_ext.methods.synthseg.claims.settings import SpeedSettings
from medsynth_ext.ops import _checks
from medsynth_ext.phantoms import head_phantom

__all__ = ["measure_repeatability", "measure_speed", "plain_operators"]

FIELD_MM = 192.0
Pair = tuple[Tensor, Tensor]


@contextmanager
def plain_operators() -> Iterator[None]:
    """Inside the block every operator is its plain PyTorch twin."""
    with mock.patch.object(_checks, "has_operators", return_value=False):
        yield


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _generator(size: int, map_size: int) -> tuple[SynthSegGenerator, Tensor]:
    spacing = FIELD_MM / map_size
    generator = SynthSegGenerator(
        phantom_label_table(), crop_size=(size,) * 3, spacing_mm=spacing, map_spacing_mm=spacing, validate=False
    )
    labels = head_phantom(0, shape=(map_size,) * 3, spacing_mm=spacing).labels
    return generator, labels[None, None]


def _difference(a: Pair, b: Pair) -> dict[str, float]:
    """Largest difference of the images, how many voxels differ by more than 1e-5, and how many targets differ."""
    gap = (a[0].cpu().double() - b[0].cpu().double()).abs()
    return {
        "largest": float(gap.max()),
        "fraction_above_1e-5": float((gap > 1e-5).double().mean()),
        "fraction_of_targets": float((a[1].cpu() != b[1].cpu()).double().mean()),
    }


def measure_repeatability(settings: SpeedSettings, *, seed: int, progress: Progress) -> dict[str, Any]:
    """Make the same samples with other numbers of threads, other batches, and on CUDA where there is one."""
    generator, labels = _generator(settings.check_size, max(settings.check_size, 64))
    maps = labels.expand(3, -1, -1, -1, -1).contiguous()

    def make(index: int, count: int, device: str = "cpu") -> Pair:
        image, target = generator(maps[:count].to(device), seed=seed, index=index)
        return image.clone(), target.clone()

    with _threads(settings.threads[0]):
        first = make(0, 3)
    figures: dict[str, Any] = {"threads": {}}
    for count in settings.threads[1:]:
        progress(0.3, f"{count} threads")
        with _threads(count):
            figures["threads"][str(count)] = _difference(first, make(0, 3))
    parts = [make(i, 1) for i in range(3)]
    joined = torch.cat([image for image, _ in parts]), torch.cat([target for _, target in parts])
    figures["one_by_one"] = _difference(first, joined)
    other = make(3, 3)
    figures["other_index"] = _difference(first, other)
    if torch.cuda.is_available():
        progress(0.8, "CUDA")
        figures["cuda"] = _difference(first, make(0, 3, "cuda"))
    return figures


def _time(function: Callable[[], Any], repeats: int, device: str) -> tuple[float, float]:
    """Median wall and processor seconds of a call, after one call to warm up when there are several."""
    wall, processor = [], []
    for i in range(repeats + (repeats > 1)):
        if device == "cuda":
            torch.cuda.synchronize()
        begun, used = time.perf_counter(), time.process_time()
        function()
        if device == "cuda":
            torch.cuda.synchronize()
        if i > 0 or repeats == 1:
            wall.append(time.perf_counter() - begun)
            processor.append(time.process_time() - used)
    return statistics.median(wall), statistics.median(processor)


def measure_speed(settings: SpeedSettings, *, seed: int, device: str, progress: Progress) -> dict[str, Any]:
    """Time a pair of the generator, of the same chain with the twins, and of the chain in PyTorch's own functions.

    The three take turns inside one process, so they meet the same load; processor seconds do not count waiting.
    """
    generator, labels = _generator(settings.crop_size, settings.map_size)
    labels = labels.to(device)
    image, target = generator(labels, seed=seed)
    drawn = generator.draw(labels.shape, seed=seed)

    def ours() -> None:
        generator(labels, seed=seed, out=(image, target))

    def twins() -> None:
        with plain_operators():
            generator(labels, seed=seed, out=(image, target))

    def plain() -> None:
        compose_pair(generator, labels, drawn)

    figures: dict[str, Any] = {"device": device, "threads": torch.get_num_threads(), "crop_size": settings.crop_size}
    for place, (name, function, repeats) in enumerate(
        (
            ("generator", ours, settings.repeats),
            ("composition", plain, settings.repeats),
            ("twins", twins, settings.reference_repeats),
            ("generator again", ours, settings.repeats),
        )
    ):
        progress(place / 4, name)
        wall, processor = _time(function, repeats, device)
        figures[name] = {"wall_s": round(wall, 5), "cpu_s": round(processor, 5)}
    return figures
