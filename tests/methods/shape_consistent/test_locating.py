"""The window around an organ in a scan that shows more: found, given, or not wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor, nn

from medsynth_ext.data.scans import ScanError
from medsynth_ext.methods.shape_consistent import make_segmenter
from medsynth_ext.methods.shape_consistent.locating import CropToOrgand, OrganLocator, OrganWarning

WINDOW = [8, 8, 8]


class _ByValue(nn.Module):
    """Takes 1 for the first part, 2 for the second, everything else for background."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return 20 * self.scale * torch.cat([(x == 0), (x == 1), (x == 2)], 1).float()


def scan(shape: tuple[int, int, int] = (24, 20, 8), origin_mm: float = -30.0) -> MetaTensor:
    affine = torch.diag(torch.tensor([5.0, 5.0, 5.0, 1.0], dtype=torch.float64))
    affine[:3, 3] = origin_mm
    return MetaTensor(torch.zeros(1, *shape), affine=affine, meta={"filename_or_obj": "chest.nii.gz"})


def locator(**options: Any) -> OrganLocator:
    return OrganLocator(_ByValue(), weights=None, intensities=lambda item: item, window=WINDOW, least_ml=4.0, **options)


def test_the_window_holds_all_parts_and_not_the_most_of_one() -> None:
    image = scan()
    image[0, 13:16, 9:15, 2:6] = 1
    image[0, 16:19, 9:15, 2:6] = 2
    image[0, :8, :8] = 1  # much more of one part, somewhere else
    assert locator()(image) == [12, 8, 0]  # the middle is (15.5, 11.5, 3.5)


def test_what_was_cut_off_comes_back_as_zeros_in_its_place() -> None:
    image = scan()
    image[0, 13:19, 9:14, 2:6] = torch.arange(6.0)[:, None, None] % 2 + 1
    crop = CropToOrgand("image", window=WINDOW, locator=locator())
    cut = crop({"image": image})
    assert cut["image"].shape == (1, 8, 8, 8)
    back = crop.inverse(cut)["image"]
    assert torch.equal(back.as_tensor(), image.as_tensor())
    assert torch.allclose(back.affine, image.affine)


def test_a_given_middle_needs_no_segmenter_and_one_outside_is_refused() -> None:
    def nobody(image: Any) -> list[int]:
        raise AssertionError("the locator must not be asked")

    crop = CropToOrgand("image", window=WINDOW, locator=nobody, centre_mm=[22.5, 17.5, -12.5])
    cut = crop({"image": scan()})["image"]  # voxel (10.5, 9.5, 3.5)
    assert cut.affine[:3, 3].tolist() == [5.0, 0.0, -30.0]
    outside = CropToOrgand("image", window=WINDOW, locator=nobody, centre_mm=[0.0, 0.0, 500.0])
    with pytest.raises(ScanError, match=r"500.0\] lies outside of chest.nii.gz"):
        outside({"image": scan()})
    with pytest.raises(ValueError, match=r"centre_mm must be \[x, y, z\]"):
        CropToOrgand("image", window=WINDOW, locator=nobody, centre_mm=[1.0])
    for stays in (
        CropToOrgand("image", window=WINDOW, locator=nobody, whole=True)({"image": scan()}),
        CropToOrgand("image", window=[24, 24, 24], locator=nobody)({"image": scan()}),
    ):
        assert stays["image"].shape == (1, 24, 20, 8)


def test_a_scan_without_the_organ_gives_a_warning() -> None:
    with pytest.warns(OrganWarning, match=r"chest.nii.gz shows 0 ml of what .* wanted 4; give its middle"):
        locator()(scan())


def test_missing_weights_are_named(tmp_path: Path) -> None:
    network = make_segmenter("unet", features=[2, 4])
    lost = OrganLocator(network, weights=tmp_path / "lost.pt", intensities=lambda item: item, window=WINDOW)
    with pytest.raises(ScanError, match=r"no segmenter to find the organ with: the weights file .*lost.pt does not"):
        lost(scan())
