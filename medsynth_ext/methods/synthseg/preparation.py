"""From a folder of images and label maps to a folder of maps with sub-labels, their table and a report."""

from __future__ import annotations

import csv
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.data import MetaTensor
from torch import Tensor
from tqdm.auto import tqdm

from medsynth_ext.data.files import check_writable, replacing
from medsynth_ext.data.scans import scan_name
from medsynth_ext.methods.synthseg.labels import LabelTable
from medsynth_ext.methods.synthseg.sub_labels import SubLabel, split_labels, sub_label_table

__all__ = ["prepare_label_maps"]

_COLUMNS = ("map", "value", "label", "mean", "deviation", "voxels")


def prepare_label_maps(
    pairs: Sequence[Mapping[str, str]],
    output_dir: str | Path,
    *,
    load: Callable[[Mapping[str, str]], Mapping[str, Tensor]],
    names: Mapping[int | str, str],
    rename: Mapping[int | str, int] | None = None,
    backgrounds: Sequence[int] = (3, 4, 5, 6, 7, 8, 9, 10),
    foreground: int = 2,
    stride: int = 1000,
    seed: int = 0,
    iterations: int = 100,
    variance_floor: float = 1.0,
    least_voxels: int = 50,
    split: bool = True,
) -> list[Path]:
    """Write ``maps/CASE_nNN.nii.gz`` for every pair and number of background tissues, ``labels.json``, ``report.csv``.

    The report tells which tissues were found in every map: mean, deviation (0 to 255) and voxels of each sub-label.

    Args:
        pairs: ``{"image": file, "label": file}`` each, see :func:`medsynth_ext.data.pairs.find_pairs`.
        output_dir: where to write.
        load: reads one pair: ``image`` and ``label`` (1, D, H, W) on one isotropic grid in RAS.
        names: value and name of every label but the background.
        rename: value in a file to value in ``names``, where they differ.
        backgrounds: numbers of sub-labels of the background, one version of each map per number.
        foreground: sub-labels of every other label.
        stride: see :func:`split_labels`.
        seed: of the mixtures.
        iterations: see :func:`fit_mixture`.
        variance_floor: see :func:`fit_mixture`.
        least_voxels: see :func:`split_labels`.
        split: without it the maps keep their labels, one version each, for comparison.

    Returns:
        The files of the maps.

    Raises:
        ValueError: without pairs; for a pair that cannot be read, or whose labels are not in ``names``; names the file.
        OutputError: when a file cannot be written.
    """
    if not pairs:
        raise ValueError("wanted images/NAME.nii.gz and labels/NAME.nii.gz in dataset_dir, found none")
    folder = Path(output_dir)
    check_writable(folder)
    known = {int(value): str(name) for value, name in names.items()}
    table = sub_label_table(known, background=max(backgrounds), foreground=foreground, stride=stride)
    LabelTable.from_dict(table)  # refuses a table that would be of no use
    versions = list(backgrounds) if split else [1]
    changed = {int(old): int(new) for old, new in (rename or {}).items()}
    files: list[Path] = []
    rows: list[dict[str, Any]] = []
    with tqdm(total=len(pairs) * len(versions), desc="splitting labels") as bar:
        for number, pair in enumerate(pairs):
            case = scan_name(Path(pair["label"]))
            image, labels, affine = _read(pair, load, known, changed)
            for background in versions:
                path = folder / "maps" / f"{case}_n{background:02d}.nii.gz"
                result, parts = labels.int(), list[SubLabel]()
                if split:
                    try:
                        result, parts = split_labels(
                            image,
                            labels,
                            background=background,
                            foreground=foreground,
                            stride=stride,
                            seed=seed + number,
                            iterations=iterations,
                            variance_floor=variance_floor,
                            least_voxels=least_voxels,
                        )
                    except ValueError as error:
                        raise ValueError(f"{pair['image']}: {error}") from error
                with replacing(path) as temporary:
                    nib.save(nib.Nifti1Image(result.numpy().astype(np.int16), affine), temporary)
                files.append(path)
                rows += [_row(path.name, part, known) for part in parts]
                bar.update()
    _write_report(folder / "report.csv", rows)
    with replacing(folder / "labels.json") as temporary:
        temporary.write_text(json.dumps(table, indent=4) + "\n", encoding="utf-8")
    return files


def _read(
    pair: Mapping[str, str],
    load: Callable[[Mapping[str, str]], Mapping[str, Tensor]],
    names: Mapping[int, str],
    rename: Mapping[int, int],
) -> tuple[Tensor, Tensor, np.ndarray]:
    """Image, labels and affine of one pair, checked."""
    try:
        data = load(pair)
    except (OSError, EOFError, ValueError, RuntimeError, zlib.error) as error:
        raise ValueError(f"{pair['image']} and {pair['label']} cannot be read: {error}") from error
    image, labels = data["image"], data["label"]
    affine = labels.affine.numpy() if isinstance(labels, MetaTensor) else np.eye(4)
    image, values = (x.as_tensor() if isinstance(x, MetaTensor) else x for x in (image, labels))
    if image.ndim != 4 or image.shape[0] != 1 or image.shape != values.shape:
        raise ValueError(
            f"{pair['image']} and {pair['label']} must be 3-D on one grid, got {tuple(image.shape[1:])} and "
            f"{tuple(values.shape[1:])}"
        )
    values = values[0].round().long()
    out = values.clone()
    for old, new in rename.items():
        out[values == old] = new
    unknown = sorted(set(out.unique().tolist()) - {0, *names})
    if not bool(out.any()):
        raise ValueError(f"{pair['label']} holds nothing but background")
    if unknown:
        raise ValueError(f"{pair['label']}: the labels {unknown} are not in names; add them there or to rename")
    return image[0].float(), out, affine


def _row(name: str, part: SubLabel, names: Mapping[int, str]) -> dict[str, Any]:
    title = "background" if part.parent == 0 else names[part.parent]
    numbers = {"mean": f"{part.mean:.1f}", "deviation": f"{part.deviation:.1f}", "voxels": part.voxels}
    return {"map": name, "value": part.value, "label": title, **numbers}


def _write_report(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
