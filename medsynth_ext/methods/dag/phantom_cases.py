"""Radiographs of phantoms, and of a real chest CT, as files: labelled, unlabelled and for testing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from medsynth_ext.data.chest_projections import ChestProjections
from medsynth_ext.data.files import replacing
from medsynth_ext.data.landmark_files import write_landmarks
from medsynth_ext.data.landmarks import Landmarks
from medsynth_ext.phantoms.hand_xray import XrayPhantom, hand_xray
from medsynth_ext.phantoms.pelvis_xray import pelvis_xray

__all__ = ["ANATOMIES", "phantom_landmarks", "write_cases", "write_image", "write_projections"]

ANATOMIES: Mapping[str, Callable[..., XrayPhantom]] = {"hand": hand_xray, "pelvis": pelvis_xray}


def write_cases(
    folder: str | Path,
    *,
    anatomy: str = "hand",
    labelled: int = 20,
    unlabelled: int = 200,
    size: int = 512,
    seed: int = 0,
) -> None:
    """Write ``images/NAME.png`` with ``landmarks/NAME.json``, and ``unlabelled/NAME.png``.

    Args:
        folder: where to write.
        anatomy: ``hand`` or ``pelvis``.
        labelled: images with landmarks.
        unlabelled: images without.
        size: pixels of the longer side.
        seed: number of the first image; no two images of a run share one.

    Raises:
        ValueError: for another anatomy.
    """
    if anatomy not in ANATOMIES:
        raise ValueError(f"anatomy must be one of {', '.join(ANATOMIES)}, got {anatomy!r}")
    draw = partial(ANATOMIES[anatomy], size=size)
    _write(Path(folder), anatomy, draw, labelled=labelled, unlabelled=unlabelled, seed=seed)


def write_projections(
    folder: str | Path,
    ct: str | Path,
    labels: str | Path,
    *,
    labelled: int = 20,
    unlabelled: int = 200,
    size: int = 512,
    seed: int = 0,
) -> tuple[str, ...]:
    """Likewise from projections of a chest CT in random poses, see :class:`ChestProjections`.

    Args:
        folder: where to write.
        ct: NIfTI file in HU.
        labels: its labelled structures, with ``structures.csv`` beside them.
        labelled: images with landmarks.
        unlabelled: images without.
        size: pixels of a side.
        seed: number of the first image; no two images of a run share one.

    Returns:
        The names of the landmarks, which a training must be told.
    """
    chest = ChestProjections(ct, labels)
    draw = partial(chest.radiograph, size=size)
    _write(Path(folder), "chest", draw, labelled=labelled, unlabelled=unlabelled, seed=seed)
    return chest.names


def _write(
    folder: Path, kind: str, draw: Callable[[int], XrayPhantom], *, labelled: int, unlabelled: int, seed: int
) -> None:
    for i in tqdm(range(labelled + unlabelled), desc="drawing radiographs"):
        phantom = draw(seed + i)
        name = f"{kind}_{seed + i:06d}"
        if i >= labelled:
            write_image(folder / "unlabelled" / f"{name}.png", phantom)
            continue
        write_image(folder / "images" / f"{name}.png", phantom)
        write_landmarks(folder / "landmarks" / f"{name}.json", phantom_landmarks(phantom, f"{name}.png"))


def phantom_landmarks(phantom: XrayPhantom, image: str) -> Landmarks:
    """The landmarks of a phantom; what is not visible has no position."""
    points = phantom.points.double().numpy().copy()
    points[~phantom.visible.numpy()] = np.nan
    spacing = phantom.spacing_mm
    size = tuple(int(n) for n in phantom.image.shape[1:])
    return Landmarks(phantom.names, points, spacing_mm=(spacing, spacing), image=image, size=size)


def write_image(path: Path, phantom: XrayPhantom) -> None:
    values = phantom.image[0].double().numpy()
    low, high = values.min(), values.max()
    with replacing(path) as temporary:
        Image.fromarray(((values - low) / max(high - low, 1e-12) * 65535).round().astype(np.uint16)).save(temporary)
