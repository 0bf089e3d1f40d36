"""Telling CT from MR by intensities."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from medsynth_ext.data.modality import ModalityWarning, check_modality, guess_modality
from medsynth_ext.data.scans import ScanError
from medsynth_ext.phantoms.head import head_phantom
from medsynth_ext.phantoms.rendering import RENDER_CONTRASTS, render_head
from medsynth_ext.transforms import CheckModalityd


@pytest.fixture(scope="module")
def scans() -> dict[str, np.ndarray]:
    phantom = head_phantom(0, shape=(24, 24, 24), spacing_mm=8.0)
    return {name: render_head(phantom, name, 1).numpy() for name in RENDER_CONTRASTS}


def test_every_contrast_is_told_from_ct(scans: dict[str, np.ndarray]) -> None:
    found = {name: guess_modality(image).modality for name, image in scans.items()}
    assert found == {name: "CT" if name == "CT" else "MR" for name in scans}


def test_normalised_and_integer_images_are_told_too(scans: dict[str, np.ndarray]) -> None:
    t1 = scans["T1"]
    assert guess_modality((t1 - t1.mean()) / t1.std()).modality == "MR"
    assert guess_modality(t1.astype(np.uint16)).modality == "MR"
    assert guess_modality(scans["CT"].round().astype(np.int16)).modality == "CT"


@pytest.mark.parametrize("values", [np.full(4, np.nan), np.linspace(-5000, 5000, 1000), np.linspace(-290, 3000, 99)])
def test_what_fits_neither_is_not_guessed(values: np.ndarray) -> None:
    assert guess_modality(values).modality is None


def test_a_swapped_image_is_named_with_the_figures_that_say_so(scans: dict[str, np.ndarray]) -> None:
    with pytest.warns(ModalityWarning, match=r"mr/a\.nii\.gz should be MR but looks like CT: values from .* as air"):
        check_modality(scans["CT"], "MR", name="mr/a.nii.gz")
    with pytest.warns(ModalityWarning, match="should be CT but looks like MR: .*no negative value.*swapped"):
        check_modality(scans["T1"], "CT", name="b")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_modality(scans["CT"], "CT", name="c")
        check_modality(np.linspace(-290, 3000, 99), "CT", name="d")
    with pytest.raises(ValueError, match="expected must be one of CT, MR, got 'PET'"):
        check_modality(scans["CT"], "PET", name="e")


def test_the_transform_passes_images_on_and_names_the_file(scans: dict[str, np.ndarray]) -> None:
    image = MetaTensor(torch.from_numpy(scans["CT"]), meta={"filename_or_obj": "folder/x.nii.gz"})
    with pytest.warns(ModalityWarning, match=r"folder/x\.nii\.gz should be MR"):
        result = CheckModalityd("image", "MR")({"image": image})
    assert result["image"] is image


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ((0, 1, 1, 1), np.nan, "must hold finite values, 1 of its 64 voxels are NaN or infinite"),
        ((0, 1, 1, 1), -np.inf, "must hold finite values, 1 of its 64"),
        (..., 7.0, "shows nothing: all 64 voxels are 7"),
    ],
)
def test_an_image_that_cannot_be_translated_is_refused(place: Any, value: float, message: str) -> None:
    values = np.arange(64.0).reshape(1, 4, 4, 4)
    values[place] = value
    image = MetaTensor(torch.from_numpy(values), meta={"filename_or_obj": "folder/x.nii.gz"})
    with pytest.raises(ScanError, match=r"folder/x\.nii\.gz " + message):
        CheckModalityd("image", "MR")({"image": image})


def test_several_volumes_in_one_file_are_refused() -> None:
    image = MetaTensor(torch.rand(2, 4, 4, 4), meta={"filename_or_obj": "folder/x.nii.gz"})
    with pytest.raises(ScanError, match=r"folder/x\.nii\.gz must be one 3-D scan, got 2 volumes"):
        CheckModalityd("image", "MR")({"image": image})
