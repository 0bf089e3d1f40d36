"""Slices of a chest CT as the claims use them, on a volume of phantom slices whose truth is known."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from medsynth_ext.claims.run import run_bundle
from medsynth_ext.methods.fbpaug.claims.real_anatomy import real_chest_slices
from medsynth_ext.phantoms.chest import chest_slice, infect_lungs

SIZE, SPACING_MM = 64, 5.0
BUNDLE = Path(__file__).parents[3] / "bundles/fbpaug_ct_segmentation"


@pytest.fixture(scope="module")
def chests() -> list[torch.Tensor]:
    """Five slices without lesions, on pixels of half the size."""
    return [chest_slice(seed, size=SIZE, spacing_mm=SPACING_MM, lesions=0).fine_hu for seed in range(5)]


@pytest.fixture(scope="module", params=["LPS", "RAS"])
def scan(request, chests: list[torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    volume = torch.stack(chests).numpy().transpose(2, 1, 0)  # right to left, front to back, feet to head
    volume = np.concatenate([np.full_like(volume[..., :2], -2048), volume], axis=2)  # two slices without a chest
    affine = np.diag([-SPACING_MM / 2, -SPACING_MM / 2, 4.0, 1.0])
    image = nib.Nifti1Image(volume, affine)
    if request.param == "RAS":
        image = nib.as_closest_canonical(image)
    path = tmp_path_factory.mktemp(request.param) / "chest.nii.gz"
    nib.save(image, path)
    return path


def test_slices_with_lung_come_in_the_phantom_s_orientation_centred_on_the_lungs(scan: Path, chests) -> None:
    found = real_chest_slices(scan, count=5, size=SIZE, spacing_mm=SPACING_MM)
    for (hu, lungs), want in zip(found, chests, strict=True):
        assert hu.shape == lungs.shape == (2 * SIZE, 2 * SIZE)
        correlation = {
            name: np.corrcoef(hu.flatten(), other.flatten())[0, 1]
            for name, other in (("same", want), ("mirrored", want.flip(1)), ("upside down", want.flip(0)))
        }
        assert correlation["same"] > 0.6  # moved to the middle of the lungs
        assert correlation["same"] == max(correlation.values())
        rows, columns = (lungs.nonzero().float().mean(0) - SIZE + 0.5).abs().tolist()
        assert max(rows, columns) < 1.5
        assert hu[lungs].median() < -800
        assert 0.1 < lungs.float().mean() < 0.35


def test_a_scan_with_too_few_lung_slices_is_named(scan: Path) -> None:
    with pytest.raises(ValueError, match=r"chest\.nii\.gz has 5 slices with lung, wanted at least 6"):
        real_chest_slices(scan, count=6, size=SIZE, spacing_mm=SPACING_MM)


def test_lesions_go_into_the_lungs_alone_and_leave_the_slice_as_it_was(scan: Path) -> None:
    hu, lungs = real_chest_slices(scan, count=1, size=SIZE, spacing_mm=SPACING_MM)[0]
    before = hu.clone()
    ill = infect_lungs(hu, lungs, 3, spacing_mm=SPACING_MM, lesions=3)
    assert torch.equal(hu, before)
    changed = ill.fine_hu != before
    assert changed.any()
    assert not (changed & ~lungs).any()
    assert ill.lesions.any()
    assert ill.lesions.shape == (SIZE, SIZE)
    assert torch.equal(infect_lungs(hu, lungs, 3, spacing_mm=SPACING_MM, lesions=3).fine_hu, ill.fine_hu)
    assert not infect_lungs(hu, lungs, 3, spacing_mm=SPACING_MM, lesions=0).lesions.any()
    with pytest.raises(ValueError, match="with lung"):
        infect_lungs(hu, torch.zeros_like(lungs), 3, spacing_mm=SPACING_MM)


def test_the_claims_judge_a_real_chest_when_one_is_given(scan: Path, tmp_path: Path) -> None:
    folders = {"out": str(tmp_path / "out"), "work": str(tmp_path / "work")}
    outcome = run_bundle(BUNDLE, scale="tiny", only=["8"], chest_ct=str(scan), **folders)
    assert [one.claim.id for one in outcome] == ["8"]
    assert "agreement on the real chest" in outcome[0].conditions[0].what
    with pytest.raises(ValueError, match="8"):
        run_bundle(BUNDLE, scale="tiny", only=["8"], **folders)
