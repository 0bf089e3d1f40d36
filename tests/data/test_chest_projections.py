"""Projections of a CT with known balls in it."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from medsynth_ext.data.chest_projections import ChestProjections
from medsynth_ext.data.scans import ScanError

SPACING = (5.0, 5.0, 6.0)
SHAPE = (64, 56, 54)
BALLS = {31: (20.0, 30.0, 12.0), 92: (44.0, 20.0, 25.0), 93: (36.0, 36.0, 42.0), 40: (30.0, 30.0, 53.0)}  # index
STRUCTURES = "group,structure,id\na,vertebrae_L1,31\na,vertebrae_T3,40\nb,rib_left_1,92\nb,rib_left_2,93\nc,heart,51\n"


def write(folder: Path, axes: str = "RAS", *, shift_labels: bool = False) -> tuple[Path, Path]:
    index = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"), -1)
    hu = np.full(SHAPE, -1000, dtype=np.int16)
    labels = np.zeros(SHAPE, dtype=np.uint8)
    for number, centre in BALLS.items():
        ball = (((index - centre) * SPACING) ** 2).sum(-1) < 14.0**2
        hu[ball], labels[ball] = 900, number
    labels[2:5, 2:5, 2:5] = 51  # another kind of structure
    affine = np.diag([*SPACING, 1.0])
    paths = folder / "ct.nii.gz", folder / "mask.nii.gz"
    for path, values in zip(paths, (hu, labels), strict=True):
        image = nib.Nifti1Image(values, affine)
        if axes != "RAS":
            codes = nib.orientations.axcodes2ornt(axes)
            image = image.as_reoriented(nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), codes))
        if shift_labels and path.name == "mask.nii.gz":
            image = nib.Nifti1Image(values[:-1], affine)
        nib.save(image, path)
    (folder / "structures.csv").write_text(STRUCTURES)
    return paths


@pytest.fixture(scope="module")
def chest(tmp_path_factory: pytest.TempPathFactory) -> ChestProjections:
    return ChestProjections(*write(tmp_path_factory.mktemp("ct")), voxel_mm=3.0)


def blob_centres(image: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Weighted centres of what lies within 8 pixels of the points."""
    grid = torch.stack(torch.meshgrid(*(torch.arange(float(n)) for n in image.shape), indexing="ij"), -1)
    found = []
    for point in points:
        weight = image * ((grid - point).square().sum(-1) < 8.0**2)
        found.append((weight[..., None] * grid).sum((0, 1)) / weight.sum())
    return torch.stack(found)


def test_whole_structures_of_the_wanted_kinds_are_landmarks(chest: ChestProjections) -> None:
    assert chest.names == ("vertebrae_L1", "rib_left_1", "rib_left_2")  # T3 is cut, the heart is no bone


@pytest.mark.parametrize("bend_mm", [0.0, 6.0])
def test_landmarks_lie_where_the_structures_are_seen(chest: ChestProjections, bend_mm: float) -> None:
    for seed in range(4):
        case = chest.radiograph(seed, size=128, bend_mm=bend_mm, nuisances=False)
        assert case.image.shape == (1, 128, 128)
        seen = blob_centres(case.image[0], case.points)
        assert (seen - case.points).norm(dim=1).max() < (0.2 if bend_mm == 0 else 0.6)


def test_the_flow_moves_the_landmarks(chest: ChestProjections) -> None:
    straight, bent = (chest.radiograph(5, size=64, bend_mm=b, nuisances=False).points for b in (0.0, 6.0))
    assert 0.3 < (straight - bent).norm(dim=1).max() < 10


def test_the_patients_left_is_on_the_right_and_the_head_above(chest: ChestProjections) -> None:
    points = chest.radiograph(0, size=64, bend_mm=0.0, nuisances=False).points
    assert points[0, 1] > points[2, 1] > points[1, 1]  # index 20 is further left than 36 and 44 in RAS
    assert points[0, 0] > points[1, 0] > points[2, 0]


def test_the_orientation_of_the_files_does_not_matter(chest: ChestProjections, tmp_path: Path) -> None:
    other = ChestProjections(*write(tmp_path, "LPS"), voxel_mm=3.0)
    first, second = (c.radiograph(3, size=48) for c in (chest, other))
    assert torch.allclose(first.points, second.points, atol=1e-4)
    assert torch.allclose(first.image, second.image, atol=1e-4)


def test_a_seed_gives_one_radiograph(chest: ChestProjections) -> None:
    first, again, other = (chest.radiograph(s, size=48) for s in (1, 1, 2))
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.points, again.points)
    assert not torch.equal(first.points, other.points)


def test_files_that_do_not_fit_are_named(tmp_path: Path) -> None:
    ct, mask = write(tmp_path, shift_labels=True)
    with pytest.raises(ScanError, match=r"mask\.nii\.gz must lie on the grid of .*ct\.nii\.gz, \(64, 56, 54\), got"):
        ChestProjections(ct, mask)
    ct, mask = write(tmp_path)
    with pytest.raises(ScanError, match="holds no whole structure named femur"):
        ChestProjections(ct, mask, prefixes=["femur"])
    (tmp_path / "structures.csv").write_text("number,name\n1,a\n")
    with pytest.raises(ScanError, match=r"structures\.csv must have the columns id and structure, got number, name"):
        ChestProjections(ct, mask)
