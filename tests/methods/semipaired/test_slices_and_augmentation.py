"""Slices of both domains, their random crops, and what is said of folders that are no good."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from medsynth_ext.data.modality import ModalityWarning
from medsynth_ext.data.scans import ScanError
from medsynth_ext.methods.semipaired.augmentation import SlicePreparation
from medsynth_ext.methods.semipaired.phantom_cases import write_cases
from medsynth_ext.methods.semipaired.preparation import ScanPreparation
from medsynth_ext.methods.semipaired.slices import SemiPairedSlices, find_ct, find_mr_pairs

PLANE: dict[str, Any] = {"spacing_mm": 12.8, "percentiles": (0.5, 99.5), "window_hu": (-1000.0, 1000.0)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cases")
    write_cases(path, mr=2, ct=3, truth=0, size=32, spacing_mm=12.8, slices=2, slice_mm=30.0, views=60)
    return path


def slices(folder: Path, size: tuple[int, int] = (32, 32)) -> SemiPairedSlices:
    return SemiPairedSlices(
        find_mr_pairs(folder),
        ScanPreparation(mr=["mr"], ct=["surrogate"], slice_size=size, **PLANE),
        ct_data=find_ct(folder),
        ct_transform=ScanPreparation(ct=["ct"], slice_size=size, **PLANE),
    )


def test_every_combination_of_mr_and_ct_is_an_item_that_knows_its_files(folder: Path) -> None:
    dataset = slices(folder)
    dataset.load()
    assert len(dataset) == (2 * 2) * (3 * 2)
    item = dataset[2 * 6 + 5]
    assert Path(item["mr_file"]).name == "mr_001.nii.gz"
    assert Path(item["ct_file"]).name == "ct_002.nii.gz"
    assert torch.equal(item["mr"][0].half(), dataset.mr[2])
    assert all(item[key].abs().max() <= 1 for key in ("mr", "surrogate", "ct"))
    # Air is -1 in all three; the body of MR and surrogate is the same.
    body = item["surrogate"] > -0.5
    assert item["mr"][body].mean() > item["mr"][~body].mean() + 0.5


def test_slices_are_seen_from_below_with_the_front_on_top(folder: Path) -> None:
    item = ScanPreparation(ct=["ct"], **PLANE)({"ct": str(folder / "ct" / "ct_000.nii.gz")})
    stored = nib.load(folder / "ct" / "ct_000.nii.gz").get_fdata()  # right to left, front to back, feet to head
    assert np.allclose(item["ct"][0, :, :, 1], np.clip(stored[:, :, 1].T / 1000, -1, 1), atol=1e-3)


def test_empty_and_mismatched_folders_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no MR to train with: wanted DIR/mr/NAME"):
        slices(tmp_path).load()
    for kind in ("mr", "surrogate"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "a.nii.gz").write_bytes((folder / kind / "mr_000.nii.gz").read_bytes())
    with pytest.raises(ValueError, match="there is no CT to train with"):
        slices(tmp_path).load()
    (tmp_path / "mr" / "b.nii.gz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"b\.nii\.gz has no partner"):
        find_mr_pairs(tmp_path)
    (tmp_path / "mr" / "b.nii.gz").unlink()
    image = nib.load(folder / "surrogate" / "mr_000.nii.gz")
    nib.save(image.slicer[:, :, :1], tmp_path / "surrogate" / "a.nii.gz")
    (tmp_path / "ct").mkdir()
    (tmp_path / "ct" / "c.nii.gz").write_bytes((folder / "ct" / "ct_000.nii.gz").read_bytes())
    with pytest.raises(RuntimeError) as caught:
        slices(tmp_path).load()
    assert isinstance(caught.value.__cause__, ScanError)
    assert "a.nii.gz has (32, 32, 1) voxels" in str(caught.value.__cause__)


def test_a_file_of_several_volumes_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "ct").mkdir()
    source = nib.load(folder / "ct" / "ct_000.nii.gz")
    twice = np.stack([source.get_fdata()] * 2, -1)
    nib.save(nib.Nifti1Image(twice, source.affine), tmp_path / "ct" / "twice.nii.gz")
    dataset = slices(folder)
    dataset.ct_data = find_ct(tmp_path)
    with pytest.raises(ScanError, match=r"twice\.nii\.gz must be one 3-D scan, got 2 volumes"):
        dataset.load()


def test_swapped_modalities_are_noticed(folder: Path) -> None:
    with pytest.warns(ModalityWarning, match=r"ct_000\.nii\.gz should be MR but looks like CT"):
        ScanPreparation(mr=["mr"], **PLANE)({"mr": str(folder / "ct" / "ct_000.nii.gz")})
    with pytest.raises(RuntimeError) as caught:
        ScanPreparation(ct=["ct"], **PLANE)({"ct": str(folder / "mr" / "mr_000.nii.gz")})
    assert "must be CT in HU with air" in str(caught.value.__cause__)


def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    mr, ct = (2 * torch.rand(6, 1, 16, 16, generator=generator) - 1 for _ in range(2))
    return {"mr": mr, "surrogate": mr.clone(), "ct": ct}


def test_mr_and_surrogate_get_the_same_crop_and_a_sample_has_its_own_draws() -> None:
    prepare = SlicePreparation((16, 16), zoom=(1.0, 1.4), seed=3)
    whole = prepare.crop(batch(), 0, "cpu")
    assert torch.equal(whole["mr"], whole["surrogate"])
    assert not torch.allclose(whole["mr"], whole["ct"], atol=0.1)
    assert not torch.allclose(whole["mr"], batch()["mr"], atol=0.1)
    half = prepare.crop({key: value[3:] for key, value in batch().items()}, 3, "cpu")
    assert all(torch.equal(half[key], whole[key][3:]) for key in whole)


def test_without_zoom_a_crop_is_the_image_or_its_mirror_image() -> None:
    images = batch()
    cropped = SlicePreparation((16, 16), flip_prob=0.5, zoom=(1.0, 1.0)).crop(images, 0, "cpu")
    flips = 0
    for before, after in zip(images["mr"], cropped["mr"], strict=True):
        same, mirrored = (torch.allclose(after, other, atol=1e-5) for other in (before, before.flip(2)))
        assert same or mirrored
        flips += mirrored
    assert 0 < flips < 6


def test_what_a_crop_shows_beside_the_image_is_air() -> None:
    images = {key: torch.ones_like(value) for key, value in batch().items()}
    cropped = SlicePreparation((16, 16), zoom=(0.5, 0.5)).crop(images, 0, "cpu")["ct"]
    assert (cropped[:, :, 0] == -1).all()
    assert torch.allclose(cropped[:, :, 6:10, 6:10], torch.ones(6, 1, 4, 4))
