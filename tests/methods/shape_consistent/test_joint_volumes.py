"""Volumes of two domains: draws, augmentation, and what is wrong with files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import RandAffined

from medsynth_ext.data.modality import ModalityWarning
from medsynth_ext.data.scans import ScanError
from medsynth_ext.methods.shape_consistent.augmentation import AugmentedDomains
from medsynth_ext.methods.shape_consistent.displacement import CentroidDisplacement, centroid_distances
from medsynth_ext.methods.shape_consistent.preparation import volume_preparation
from medsynth_ext.methods.shape_consistent.volumes import JointVolumes, find_domains, pair_up, split_cases

PREPARATION: dict[str, Any] = {
    "spacing_mm": 2.0,
    "size": [8, 8, 8],
    "ct_window_hu": [-200.0, 800.0],
    "mr_percentiles": [1.0, 99.0],
}


def write(path: Path, values: np.ndarray, spacing_mm: float = 2.0) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])), path)
    return str(path)


def ct(seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(40, 20, (8, 8, 8)).astype(np.float32)
    values[:4] = -1000
    return values


def mr(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 500, (8, 8, 8)).astype(np.float32)


def label(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 3, (8, 8, 8)).astype(np.uint8)


def folder_of(root: Path, counts: Mapping[str, tuple[int, int]]) -> Path:
    """Domains with so many images, and so many labels."""
    for name, (images, labels) in counts.items():
        for i in range(images):
            write(root / name / f"images/{name}_{i}.nii.gz", ct(i) if name == "ct" else mr(i))
        for i in range(labels):
            write(root / name / f"labels/{name}_{i}.nii.gz", label(i))
    return root


def volumes(root: Path, *, classes: int = 3, **options: Any) -> JointVolumes:
    transforms = {
        d: volume_preparation({"image": kind}, ["label"], **PREPARATION) for d, kind in (("a", "CT"), ("b", "MR"))
    }
    return JointVolumes(find_domains(root), transforms, classes=classes, **options)


def test_every_combination_is_one_item_and_unlabelled_volumes_have_a_labelled_companion(tmp_path: Path) -> None:
    data = volumes(folder_of(tmp_path, {"ct": (2, 2), "mr": (3, 1)}))
    data.load()
    assert len(data) == 2 * 3 * 1 * 1
    items = [data[i] for i in range(len(data))]
    assert len({(item["file_a"], item["file_b"]) for item in items}) == 6
    for item in items:
        assert item["image_a"].shape == (1, 8, 8, 8)
        assert -1 <= float(item["image_b"].min()) < float(item["image_b"].max()) <= 1
        assert item["labelled_a"] is True
        assert item["real_a"] is item["image_a"]
        assert item["labelled_b"] is item["file_b"].endswith("mr_0.nii.gz")
        assert torch.equal(item["real_label_b"], torch.from_numpy(label(0)).long()[None])


def test_labels_beyond_the_limit_are_not_used(tmp_path: Path) -> None:
    data = volumes(folder_of(tmp_path, {"ct": (3, 3), "mr": (2, 2)}), labelled={"a": 1, "b": None})
    flags = {data[i]["file_a"][-8]: data[i]["labelled_a"] for i in range(len(data))}
    assert flags == {"0": True, "1": False, "2": False}
    two = volumes(tmp_path, labelled={"a": 2, "b": None})
    assert len(two) == 3 * 2 * 2
    companions = {float(two[i]["real_a"].sum()) for i in range(len(two)) if not two[i]["labelled_a"]}
    assert len(companions) == 2  # every labelled volume stands beside the unlabelled one


def test_both_domains_are_split_and_paired_for_validation(tmp_path: Path) -> None:
    learn, keep = split_cases(find_domains(folder_of(tmp_path, {"ct": (4, 4), "mr": (3, 2)})), 1)
    assert [len(learn[d]) for d in "ab"] == [3, 2]
    (item,) = pair_up(keep)
    assert [Path(item[k]).name for k in ("image", "label", "b_image", "b_label")] == [
        *["ct_3.nii.gz"] * 2,
        *["mr_1.nii.gz"] * 2,
    ]
    with pytest.raises(ScanError, match=r"ct_3.nii.gz has no .*ct/hidden/ct_3.nii.gz"):
        pair_up(keep, ["hidden"])
    assert pair_up({"a": [], "b": []}) == []


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"ct": (2, 2), "mr": (0, 0)}, "domain mr must have at least two volumes to learn from .*, got 0"),
        ({"ct": (1, 1), "mr": (2, 2)}, "domain ct must have at least two volumes to learn from .*, got 1"),
        ({"ct": (2, 2), "mr": (2, 0)}, "domain mr has no label; wanted DIR/mr/labels/NAME.nii.gz"),
    ],
)
def test_domains_that_are_too_small_are_named(tmp_path: Path, counts: Any, message: str) -> None:
    with pytest.raises(ScanError, match=message):
        volumes(folder_of(tmp_path, counts)).load()


def test_labels_of_another_label_space_are_named(tmp_path: Path) -> None:
    root = folder_of(tmp_path, {"ct": (2, 2), "mr": (2, 2)})
    write(root / "mr/labels/mr_1.nii.gz", 205 * label(1).astype(np.int16))
    with pytest.raises(ScanError, match=r"mr_1.nii.gz must hold labels from 0 to 2, got \[0.*, 205"):
        volumes(root).load()


def test_labels_that_do_not_lie_on_their_image_are_named(tmp_path: Path) -> None:
    root = folder_of(tmp_path, {"ct": (2, 2), "mr": (2, 2)})
    write(root / "ct/labels/ct_1.nii.gz", label(1)[:-2])
    with pytest.raises(RuntimeError) as caught:
        volumes(root).load()
    assert "labels/ct_1.nii.gz has (6, 8, 8) voxels and" in str(caught.value.__cause__)
    assert "images/ct_1.nii.gz has (8, 8, 8)" in str(caught.value.__cause__)


def test_volumes_of_different_spacing_come_onto_one_grid(tmp_path: Path) -> None:
    root = folder_of(tmp_path, {"ct": (2, 2), "mr": (2, 2)})
    write(root / "ct/images/ct_1.nii.gz", ct(1), spacing_mm=1.0)
    write(root / "ct/labels/ct_1.nii.gz", label(1), spacing_mm=1.0)
    data = volumes(root)
    data.load()
    image, found = data._volume("a", 1)
    assert image.shape == (1, 8, 8, 8)
    assert found is not None
    assert float(image[0, 0].max()) == -1  # beyond the scan
    assert int(found[0, 0].max()) == 0


def test_percentiles_are_those_of_the_crop_as_in_an_inference(tmp_path: Path) -> None:
    values = np.full((16, 16, 16), 5000, dtype=np.float32)
    values[4:12, 4:12, 4:12] = mr()
    case = {"image": write(tmp_path / "mr/images/a.nii.gz", values)}
    found = volume_preparation({"image": "MR"}, **PREPARATION)(case)["image"].as_tensor()[0]
    low, high = np.percentile(mr(), [1.0, 99.0])
    wanted = np.clip(2 * (mr() - low) / (high - low) - 1, -1, 1)
    assert np.allclose(found.numpy(), wanted, atol=0.01)


def test_swapped_domains_give_a_warning_that_says_why(tmp_path: Path) -> None:
    root = folder_of(tmp_path, {"ct": (2, 2), "mr": (2, 2)})
    write(root / "ct/images/ct_0.nii.gz", mr())
    with pytest.warns(ModalityWarning, match=r"ct_0.nii.gz should be CT but looks like MR: .*were the two swapped"):
        volumes(root).load()


def engine(iteration: int) -> Any:
    return SimpleNamespace(state=SimpleNamespace(iteration=iteration, device="cpu"))


def batch_of(labelled: bool) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 1, 8, 8, 8, generator=generator) * 2 - 1
    marks = (image > 0).long()
    other = torch.rand(1, 1, 8, 8, 8, generator=generator) * 2 - 1
    batch: dict[str, Any] = {}
    for d in "ab":
        real = (image, marks) if labelled else (other, (other > 0).long())
        batch |= {f"image_{d}": image, f"label_{d}": marks, f"labelled_{d}": torch.tensor([labelled])}
        batch |= {f"real_{d}": real[0], f"real_label_{d}": real[1]}
    return batch


def test_moves_are_functions_of_seed_iteration_and_domain_and_image_and_label_move_alike() -> None:
    move = RandAffined(
        ["image", "label"], prob=1.0, translate_range=[3] * 3, mode=["nearest", "nearest"], padding_mode="border"
    )
    domains = AugmentedDomains(move, seed=3)
    (first, other), (again, _), (later, _) = (domains(engine(i), batch_of(True)) for i in (5, 5, 6))
    assert torch.equal(first.image, again.image)
    assert not torch.equal(first.image, other.image)
    assert not torch.equal(first.image, later.image)
    assert torch.equal((first.image > 0).long(), first.label)
    assert first.real is first.image
    unlabelled, _ = domains(engine(5), batch_of(False))
    assert torch.equal((unlabelled.real > 0).long(), unlabelled.real_label)
    assert not torch.equal(unlabelled.real, unlabelled.image)
    still, _ = AugmentedDomains(None)(engine(1), batch_of(True))
    assert torch.equal(still.image, batch_of(True)["image_a"])


def test_displacement_is_the_distance_of_centroids_in_millimetres() -> None:
    a, b = torch.zeros(2, 1, 6, 6, dtype=torch.long)
    a[0, 1, 1], b[0, 4, 5] = 1, 1
    b[0, 0, 0] = 2
    distance = centroid_distances(a, b, classes=3, spacing_mm=torch.tensor([2.0, 3.0]))
    assert distance[0].item() == pytest.approx((6**2 + 12**2) ** 0.5)
    assert distance[1].isnan()
    metric = CentroidDisplacement(3)
    affine = torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0]))
    volumes = [m.expand(2, 6, 6)[None, None] for m in (a[0], b[0])]
    metric(volumes[0], MetaTensor(volumes[1], affine=affine))
    assert metric.aggregate().item() == pytest.approx(10.0)
    with pytest.raises(ValueError, match="must both be"):
        metric(a, b[:, :3])
