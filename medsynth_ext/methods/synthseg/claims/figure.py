"""The figure of SynthSeg's claims: Dice of the arms per contrast, over the spacing, and segmentations of one person."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medsynth_ext.claims import Results
from medsynth_ext.data.files import replacing
from medsynth_ext.methods.synthseg.claims.arms import ARMS
from medsynth_ext.methods.synthseg.claims.evaluation import Evaluator
from medsynth_ext.methods.synthseg.claims.heads import Person
from medsynth_ext.methods.synthseg.claims.settings import Settings
from medsynth_ext.methods.synthseg.labels import LabelTable

__all__ = ["draw_results", "save_slices"]


def save_slices(path: Path, person: Person, record: dict[str, Any], evaluator: Evaluator, native_mm: float) -> None:
    """Keep the middle coronal slice of a person's scans with the truth and what the network makes of them."""
    middle = record["truth"].shape[1] // 2
    slices: dict[str, Any] = {"truth": record["truth"][:, middle].clone()}
    for i, scan in enumerate(person.scans):
        if scan.group == "main" and max(scan.spacing_mm) <= native_mm:
            predicted = evaluator.logits(record["images"][i : i + 1])[0].argmax(0)
            picture = record["images"][i, 0, :, middle].clone()
            slices[scan.contrast] = {"image": picture, "labels": predicted[:, middle].to(torch.uint8).cpu()}
    with replacing(path) as temporary:
        torch.save(slices, temporary)


def _mean(figures: Mapping[int, Mapping[str, Any]], key: str) -> float:
    return 100 * statistics.fmean(statistics.fmean(one["dice"][key]) for one in figures.values())


def _bars(axis: Axes, results: Results, settings: Settings, arms: list[str]) -> None:
    native, contrasts = settings.training.spacing_mm, settings.evaluation.contrasts
    width = 0.8 / len(arms)
    for k, arm in enumerate(arms):
        heights = [_mean(results.figures[arm], f"main/{contrast}/{native:g}") for contrast in contrasts]
        axis.bar([i + k * width for i in range(len(contrasts))], heights, width, label=arm, color=_colour(arm))
    axis.set_xticks([i + 0.4 - width / 2 for i in range(len(contrasts))], contrasts)
    axis.set_ylabel("Dice, %")
    axis.set_title(f"contrasts at {native:g} mm", fontsize=9)
    axis.legend(fontsize=6, ncols=2)


def _lines(axis: Axes, results: Results, settings: Settings, arms: list[str]) -> None:
    spacings = [settings.training.spacing_mm, *settings.evaluation.coarse_mm]
    contrasts = settings.evaluation.contrasts
    for arm in arms:
        means = [
            statistics.fmean(_mean(results.figures[arm], f"main/{contrast}/{spacing:g}") for contrast in contrasts)
            for spacing in spacings
        ]
        axis.plot(spacings, means, "o-", label=arm, color=_colour(arm), markersize=3, linewidth=1.2)
    axis.set_xlabel("slice spacing, mm")
    axis.set_title("mean over contrasts", fontsize=9)


def _colour(arm: str) -> Any:
    return colormaps["tab20"](list(ARMS).index(arm))


def _labels(axis: Axes, labels: Any, channels: int, title: str) -> None:
    shown = torch.where(labels > 0, 1 + (labels.long() * 7) % max(channels - 1, 1), 0)
    axis.imshow(shown.T.numpy(), origin="lower", cmap="nipy_spectral", vmin=0, vmax=channels, interpolation="nearest")
    axis.set_title(title, fontsize=7, pad=2)


def draw_results(results: Results, folders: Mapping[str, Path], settings: Settings, table: LabelTable) -> Figure | None:
    """The figure; ``None`` when no network was trained."""
    arms = [arm for arm in ARMS if arm in results.figures]
    if not arms:
        return None
    contrasts = settings.evaluation.contrasts
    figure = Figure(figsize=(12, 8.5), layout="constrained")
    bands: Any = figure.subfigures(2, 1, height_ratios=[1, 1.15])
    top, bottom = bands
    left, right = top.subplots(1, 2, width_ratios=[1.6, 1])
    _bars(left, results, settings, arms)
    _lines(right, results, settings, arms)
    shown = [arm for arm in ("synthseg", "t1_baseline") if arm in arms]
    grid = bottom.subplots(1 + len(shown), 1 + len(contrasts), squeeze=False)
    for row, arm in enumerate(shown, start=1):
        seed = next(iter(results.figures[arm]))
        path = folders[f"{arm}/{seed}"] / "slices.pt"
        slices = torch.load(path, weights_only=True)
        _labels(grid[0][0], slices["truth"], table.n_targets, "truth")
        grid[row][0].text(0.5, 0.5, arm, ha="center", va="center", fontsize=9, transform=grid[row][0].transAxes)
        for column, contrast in enumerate(contrasts, start=1):
            image = slices[contrast]["image"].float().T.numpy()
            grid[0][column].imshow(image, origin="lower", cmap="gray", vmin=0, vmax=1)
            grid[0][column].set_title(contrast, fontsize=7, pad=2)
            _labels(grid[row][column], slices[contrast]["labels"], table.n_targets, "")
    for axis in grid.flat:
        axis.axis("off")
    return figure
