"""Mean densities of organs in synthetic and real CT of different people."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medsynth_ext.data.scans import ScanError
from medsynth_ext.methods.semipaired.organ_hu import organ_hu, write_organ_hu


def save(path: Path, values: np.ndarray, spacing: float = 2.0) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    nib.save(nib.Nifti1Image(values.astype(np.int16), np.diag([spacing] * 3 + [1])), path)


def ball(radius: float, number: int, size: int = 16) -> np.ndarray:
    grid = np.indices((size,) * 3) - (size - 1) / 2
    return np.where((grid**2).sum(0) <= radius**2, number, 0)


def test_means_are_of_the_organs_inside_and_numbers_may_differ(tmp_path: Path) -> None:
    for side, name, number, hu in (("found", "a_sct", 5, 70), ("real", "b", 9, 50)):
        mask = ball(5, number)
        save(tmp_path / side / f"{name}.nii.gz", np.where(ball(4.5, 1) > 0, hu, -1000))  # the rim is wrong in both
        save(tmp_path / f"{side}_labels" / f"{name[0]}.nii.gz", mask)
    figures = write_organ_hu(
        tmp_path / "organs.json",
        found=tmp_path / "found",
        found_labels=tmp_path / "found_labels",
        real=tmp_path / "real",
        real_labels=tmp_path / "real_labels",
        organs={"liver": (5, 9)},
    )
    assert figures["organs"]["liver"]["found_hu"] == pytest.approx(70)
    assert figures["hu_dif"] == pytest.approx(20)
    assert json.loads((tmp_path / "organs.json").read_text()) == figures


def test_labels_on_another_grid_are_resampled(tmp_path: Path) -> None:
    save(tmp_path / "ct/a.nii.gz", np.where(ball(6, 1) > 0, 40, -1000))
    save(tmp_path / "labels/a.nii.gz", ball(5, 3)[::2, ::2, ::2], spacing=4.0)
    assert organ_hu(tmp_path / "ct", tmp_path / "labels", {"spleen": 3})["spleen"].mean() == pytest.approx(40)


def test_missing_labels_and_organs_are_named(tmp_path: Path) -> None:
    save(tmp_path / "ct/a.nii.gz", ball(5, 40))
    save(tmp_path / "labels/b.nii.gz", ball(5, 3))
    with pytest.raises(ScanError, match=r"a.nii.gz has no labels; wanted .*labels/a.nii.gz"):
        organ_hu(tmp_path / "ct", tmp_path / "labels", {"spleen": 3})
    save(tmp_path / "labels/a.nii.gz", ball(5, 3))
    with pytest.raises(ScanError, match=r"no scan of .*ct shows liver \(label 7\) by more than its rim"):
        organ_hu(tmp_path / "ct", tmp_path / "labels", {"liver": 7})
