"""What FBPAug's bundle does beside training: agreement of series, other kernels, phantoms as files, bad scans."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_workflows import load_tiny, run_workflow
from monai.bundle import ConfigWorkflow

from medsynth_ext.data.scans import ScanError
from medsynth_ext.methods.fbpaug.agreement import compare_masks, dice
from medsynth_ext.methods.fbpaug.phantom_cases import write_cases
from medsynth_ext.transforms import FBPAug

BUNDLE = Path(__file__).parents[3] / "bundles/fbpaug_ct_segmentation"


def save(path: Path, values: np.ndarray, spacing: float = 2.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, np.diag([spacing, spacing, 5.0, 1.0])), path)


def test_dice_of_hand_worked_masks() -> None:
    assert dice(np.array([1, 1, 0, 0]), np.array([1, 0, 0, 1])) == pytest.approx(0.5)
    assert dice(np.array([1, 0]), np.array([0, 0])) == 0
    assert math.isnan(dice(np.zeros(3), np.zeros(3)))


def test_agreement_of_two_folders_of_masks(tmp_path: Path) -> None:
    a = np.zeros((4, 4, 2), dtype=np.uint8)
    b = a.copy()
    a[:2, 0, 0] = 1
    b[1:4, 0, 0] = 1
    for folder, mask in (("a", a), ("b", b)):
        save(tmp_path / folder / "one_seg.nii.gz", mask)
        save(tmp_path / folder / "two_seg.nii.gz", np.zeros_like(a))
    save(tmp_path / "a" / "three_seg.nii.gz", a)
    summary = compare_masks(tmp_path / "a", tmp_path / "b", tmp_path)
    assert summary == json.loads((tmp_path / "agreement.json").read_text())
    assert (summary["pairs"], summary["both_empty"], summary["only_in_a"]) == (2, 1, ["three_seg.nii.gz"])
    assert summary["mean_dice"] == pytest.approx(2 / 5)
    with (tmp_path / "agreement.csv").open() as file:
        first = next(csv.DictReader(file))
    assert float(first["volume_a_ml"]) == pytest.approx(0.04)
    assert float(first["difference_ml"]) == pytest.approx(0.02)


def test_masks_that_do_not_belong_together_are_named(tmp_path: Path) -> None:
    save(tmp_path / "a/one.nii.gz", np.zeros((4, 4, 2), dtype=np.uint8))
    save(tmp_path / "b/one.nii.gz", np.zeros((4, 5, 2), dtype=np.uint8))
    with pytest.raises(ScanError, match=r"one\.nii\.gz has sizes \(4, 4, 2\) and \(4, 5, 2\)"):
        compare_masks(tmp_path / "a", tmp_path / "b", tmp_path)
    (tmp_path / "b/one.nii.gz").rename(tmp_path / "b/two.nii.gz")
    with pytest.raises(ScanError, match="no file name is in both"):
        compare_masks(tmp_path / "a", tmp_path / "b", tmp_path)


def plain(config: str, **settings: object) -> None:
    """Run a config that is neither a training nor an inference for MONAI."""
    workflow = ConfigWorkflow(
        str(BUNDLE / "configs" / config),
        logging_file=False,
        bundle_root=str(BUNDLE),
        **settings,  # type: ignore[arg-type]
    )
    workflow.initialize()
    workflow.run()


def test_rekernel_writes_the_scan_under_the_kernel(tmp_path: Path) -> None:
    write_cases(tmp_path / "in", cases=1, slices=2, size=40, spacing_mm=8.0, views=60, kernels=["soft"])
    settings = {"a": 30.0, "b": 3.0, "spacing_mm": 8.0, "dataset_dir": str(tmp_path / "in/images")}
    plain("rekernel.json", output_dir=str(tmp_path / "out"), **settings)
    before = nib.load(tmp_path / "in/images/chest_000.nii.gz")
    after = nib.load(tmp_path / "out/chest_000_rekernel.nii.gz")
    # Oriented to RAS: the phantom's file has both in-plane axes turned over.
    image = torch.from_numpy(before.get_fdata(dtype=np.float32))[None].flip(1, 2)
    want = FBPAug(30.0, 3.0, circle=False, spacing_mm=8.0)(image)
    assert np.allclose(after.get_fdata(), want[0].numpy(), atol=0.1)


def test_phantom_files_are_pairs_of_kernels_with_masks(tmp_path: Path) -> None:
    options = {"cases": 2, "slices": 2, "size": 48, "spacing_mm": 6.5, "views": 60, "kernels": ["soft", "sharp"]}
    plain("phantoms.json", output_dir=str(tmp_path), **options)
    for name in ("chest_000", "chest_001"):
        soft, sharp, mask = (
            nib.load(tmp_path / folder / f"{name}.nii.gz") for folder in ("images", "images_sharp", "labels")
        )
        assert soft.shape == sharp.shape == mask.shape == (48, 48, 2)
        assert soft.get_fdata().std() != sharp.get_fdata().std()
        assert set(np.unique(mask.get_fdata())) <= {0, 1}
    assert (tmp_path / "agreement.json").exists() is False


def test_a_scan_that_is_no_ct_is_named_and_the_rest_is_segmented(tmp_path: Path) -> None:
    tiny = load_tiny(BUNDLE.name)
    settings = tiny.infer(tmp_path / "data", BUNDLE / "models/model.pt")
    settings |= {"load_pretrain": False}
    save(tmp_path / "data/images/mr.nii.gz", np.random.default_rng(0).uniform(0, 900, (48, 48, 3)).astype(np.float32))
    sentence = r"(?s)1 of 2 scans could not be segmented:\n.*mr\.nii\.gz: image must be CT in HU with air"
    with pytest.raises(SystemExit, match=sentence):
        run_workflow(BUNDLE, "inference.json", kind="infer", output_dir=str(tmp_path / "out"), **settings)
    assert (tmp_path / "out/one_seg.nii.gz").is_file()
    record = json.loads((tmp_path / "out/volumes.json").read_text())
    assert list(record["lesion_volume_ml"]) == ["one"]
    assert len(record["failed"]) == 1
    mask, scan = nib.load(tmp_path / "out/one_seg.nii.gz"), nib.load(tmp_path / "data/images/one.nii.gz")
    assert mask.shape == scan.shape
    assert np.allclose(mask.affine, scan.affine)
    assert record["lesion_volume_ml"]["one"] == pytest.approx(mask.get_fdata().sum() * 6.5**2 * 8 / 1000, abs=1e-2)
