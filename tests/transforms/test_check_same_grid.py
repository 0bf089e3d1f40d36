"""Images of one case on different grids are refused."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from medsynth_ext.data.scans import ScanError
from medsynth_ext.transforms import CheckSameGridd


def image(name: str, shape: tuple[int, ...] = (4, 5, 6), shift: float = 0.0, spacing: float = 2.0) -> MetaTensor:
    affine = torch.diag(torch.tensor([spacing, spacing, spacing, 1.0], dtype=torch.float64))
    affine[0, 3] = shift
    return MetaTensor(torch.zeros(1, *shape), affine=affine, meta={"filename_or_obj": name})


def test_one_grid_passes_also_with_rounded_headers() -> None:
    data = {"a": image("a.nii"), "b": image("b.nii", shift=0.01)}
    assert CheckSameGridd(["a", "b"])(data) == data


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"shape": (4, 5, 7)}, r"b\.nii has \(4, 5, 7\) voxels and a\.nii has \(4, 5, 6\): register both"),
        ({"shift": 3.0}, r"the grids of b\.nii and a\.nii lie up to 3\.0 mm apart"),
        ({"spacing": 2.2}, r"the grids of b\.nii and a\.nii lie up to 1\.0 mm apart"),
    ],
)
def test_another_size_place_or_spacing_is_refused_with_both_names(other: dict, message: str) -> None:
    with pytest.raises(ScanError, match=message):
        CheckSameGridd(["a", "b"])({"a": image("a.nii"), "b": image("b.nii", **other)})
