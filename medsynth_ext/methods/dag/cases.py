"""Labelled and unlabelled radiographs in folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medsynth_ext.data.landmarks import LandmarkFileError
from medsynth_ext.methods.dag.coordinates import to_normalised
from medsynth_ext.methods.dag.radiographs import find_radiographs, radiograph_name

__all__ = ["find_labelled", "find_unlabelled", "mean_shape"]


def find_labelled(folder: str | Path) -> list[dict[str, str]]:
    """``folder/images/NAME.*`` and ``folder/landmarks/NAME.json``, as ``{"image": path, "label": path}``.

    An empty list when there is no folder, so that a workflow can be built before the data are there.

    Raises:
        LandmarkFileError: for an image without landmarks.
    """
    images = Path(folder) / "images"
    if not images.is_dir() or not any(images.iterdir()):
        return []
    cases = []
    for path in find_radiographs(images):
        landmarks = Path(folder) / "landmarks" / f"{radiograph_name(path)}.json"
        if not landmarks.is_file():
            raise LandmarkFileError(
                f"{path} has no landmarks: wanted {landmarks}; images without belong to {Path(folder) / 'unlabelled'}"
            )
        cases.append({"image": str(path), "label": str(landmarks)})
    return cases


def find_unlabelled(folder: str | Path) -> list[dict[str, str]]:
    """``folder/unlabelled/NAME.*``, as ``{"image": path}``; an empty list when there is no folder."""
    images = Path(folder) / "unlabelled"
    if not images.is_dir() or not any(images.iterdir()):
        return []
    return [{"image": str(path)} for path in find_radiographs(images)]


def mean_shape(
    samples: Sequence[Mapping[str, Any]],  # image (1, H, W), label (N, 2) index coordinates
) -> Tensor:  # (N, 2) normalised
    """Mean of the visible positions of every landmark, without any alignment.

    Raises:
        ValueError: without samples, or for a landmark that none of them shows.
    """
    if len(samples) == 0:
        raise ValueError(
            "there is no labelled image to train with: wanted DIR/images/NAME.png and DIR/landmarks/NAME.json, more of "
            "them than are kept for validation"
        )
    points = torch.stack([to_normalised(sample["label"], sample["image"].shape[1:]) for sample in samples])
    mean = points.nanmean(0)
    hidden = mean.isnan().any(1).nonzero().flatten().tolist()
    if hidden:
        raise ValueError(f"landmark {hidden[0]} (counted from 0) is visible in none of the {len(samples)} images")
    return mean
