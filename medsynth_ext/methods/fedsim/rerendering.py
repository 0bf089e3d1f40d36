"""Real patients as another site's scanner would show them: the out-of-distribution test."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from torch import Tensor, nn
from tqdm.auto import tqdm

from medsynth_ext.data.files import check_writable
from medsynth_ext.data.nifti import nifti_image, save_nifti
from medsynth_ext.methods.fedsim.cases import read_case
from medsynth_ext.methods.fedsim.generation import render_volume

__all__ = ["rerender", "rerender_cases"]

logger = logging.getLogger(__name__)


@torch.no_grad()
def rerender(
    generator: nn.Module,
    material: Tensor,  # (M, 1, c, c, c)
    hearts: Tensor,  # (M, 1, N, N, N)
    *,
    context: int = 0,
    slices_at_once: int = 16,
) -> Tensor:  # (M, 1, N, N, N)
    """Volumes of the same patients from their reduced CT and their true labels, by a site's generator.

    Args:
        generator: of the other site.
        material: the patients' CT, averaged to the coarse grid.
        hearts: their labels, 0 or 1.
        context: as the generator was trained.
        slices_at_once: slices per call of the generator.
    """
    generator.eval()
    pairs = zip(material.split(1), hearts.split(1), strict=True)
    return torch.cat([render_volume(generator, c, h, context=context, slices_at_once=slices_at_once) for c, h in pairs])


def rerender_cases(
    cases: Sequence[Mapping[str, str]],
    transform: Callable[[Mapping[str, str]], Mapping[str, Any]],
    generator: nn.Module,
    output_dir: str | Path,
    *,
    coarse: int,
    context: int = 0,
    slices_at_once: int = 16,
) -> list[str]:
    """Write labelled patients as a site's scanner would show them: ``images/NAME`` (int16 HU) and ``labels/NAME``.

    Patients without a label are left out and named: the generator draws a slice from its label.

    Args:
        cases: ``{"image": path}`` with ``"label"`` for some.
        transform: from a case to ``image`` (1, N, N, N) in [-1, 1] and ``label`` (1, N, N, N), with their affine.
        generator: of the other site.
        output_dir: where the files go.
        coarse: voxels per side of the generator's coarse CT.
        context: as the generator was trained.
        slices_at_once: slices per call of the generator.

    Returns:
        Names of the files.

    Raises:
        ValueError: without a labelled patient.
        ScanError: for a file that cannot be read or used.
    """
    labelled = [case for case in cases if "label" in case]
    if not labelled:
        raise ValueError(f"no labelled patient among {len(cases)}: wanted images/NAME.nii.gz and labels/NAME.nii.gz")
    for case in cases:
        if "label" not in case:
            logger.warning(f"{case['image']} has no label and is left out")
    folder = Path(output_dir)
    check_writable(folder)
    device = next(generator.parameters()).device
    names = []
    for case in tqdm(labelled, desc="scanning patients again"):
        item = read_case(case, transform)
        affine = item["image"].affine
        image, parts = (torch.as_tensor(np.asarray(item[key]))[None].float().to(device) for key in ("image", "label"))
        reduced = F.avg_pool3d(image, image.shape[2] // coarse)
        heart = (parts > 0).float()
        shown = rerender(generator, reduced, heart, context=context, slices_at_once=slices_at_once)
        name = Path(case["image"]).name
        volumes: dict[str, tuple[Tensor, type[np.generic]]] = {
            "images": ((1000 * shown[0]).round(), np.int16),
            "labels": (parts[0], np.uint8),
        }
        for kind, (values, dtype) in volumes.items():
            save_nifti(nifti_image(MetaTensor(values, affine=affine), dtype), folder / kind / name)
        names.append(name)
    return names
