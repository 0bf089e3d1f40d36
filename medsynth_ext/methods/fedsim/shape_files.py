"""A shape model from a folder of label maps."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medsynth_ext.data.scans import ScanError, check_header, find_scans
from medsynth_ext.methods.fedsim.shape_building import build_shape_model

__all__ = ["build_from_folder"]

logger = logging.getLogger(__name__)


def build_from_folder(
    folder: str | Path,
    path: str | Path,
    *,
    transform: Callable[[Mapping[str, str]], Mapping[str, Any]],
    fov_mm: float,
    modes: int = 14,
    vertices: int = 4300,
    registration: Mapping[str, Any] | None = None,
) -> None:
    """Build a model of all label maps of a folder and write it to ``path``, with a report beside it (``.json``).

    Args:
        folder: NIfTI label maps, one per person: 0 background, parts 1 to 7.
        path: the ``.npz`` file.
        transform: from ``{"label": path}`` to ``label`` (1, N, N, N) on the field of view.
        fov_mm: side of the field of view.
        modes: components that are kept.
        vertices: about how many vertices the surfaces have together.
        registration: options of ``register_labels``.

    Raises:
        ScanError: for a map that cannot be read.
        ShapeModelError: for maps that no model can be made of.
    """
    maps = []
    for file in find_scans(folder):
        check_header(file)
        label = torch.as_tensor(np.asarray(transform({"label": str(file)})["label"]))[0]
        if (label != label.round()).any() or label.min() < 0 or label.max() > 7:
            raise ScanError(f"{file} must hold the labels 0 to 7, got {label.unique().tolist()[:12]}")
        maps.append(label.to(torch.uint8))
    report = Path(path).with_suffix(".json")
    build_shape_model(
        maps, fov_mm=fov_mm, modes=modes, vertices=vertices, registration=registration, report=report
    ).save(path)
    logger.info(f"shape model of {len(maps)} maps: {path}; how good the registrations are: {report}")
