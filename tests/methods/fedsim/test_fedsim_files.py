"""Scans and label maps as files: the field of view, sites, shape models, and what happens to bad ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_workflows import load_tiny, run_workflow
from monai.bundle import ConfigWorkflow
from monai.data import MetaTensor

from medsynth_ext.data.scans import ScanError
from medsynth_ext.methods.fedsim.cases import find_site_cases, find_training_pairs
from medsynth_ext.methods.fedsim.field_of_view import HeartFieldOfViewd
from medsynth_ext.methods.fedsim.phantom_sites import write_label_maps, write_site
from medsynth_ext.methods.fedsim.shape_files import build_from_folder
from medsynth_ext.methods.fedsim.shape_model import ShapeModel

BUNDLE = Path(__file__).parents[3] / "bundles/fedsim_cardiac_ct_synthesis"


def workflow(config: str, **settings: Any) -> ConfigWorkflow:
    """Run a config that is neither a training nor an inference for MONAI."""
    found = ConfigWorkflow(str(BUNDLE / "configs" / config), logging_file=False, bundle_root=str(BUNDLE), **settings)  # type: ignore[arg-type]
    found.initialize()
    found.run()
    return found


def ramp(shape: tuple[int, int, int], spacing: float) -> MetaTensor:
    """A volume whose value is the x coordinate in mm."""
    affine = torch.diag(torch.tensor([spacing, spacing, spacing, 1.0], dtype=torch.float64))
    values = torch.arange(shape[0]).view(-1, 1, 1) * spacing
    return MetaTensor(values.expand(shape)[None].contiguous().float(), affine=affine)


def test_the_cube_is_centred_on_the_label() -> None:
    image, label = ramp((40, 40, 40), 2.0), ramp((40, 40, 40), 2.0)
    label[:] = 0
    label[0, 18:24, 10:20, 20:31] = 1
    found = HeartFieldOfViewd(["image", "label"], size=8, fov_mm=32.0)({"image": image, "label": label})
    # The label's box has its centre at index 20.5, 41 mm; voxels are 4 mm.
    assert found["image"].shape == found["label"].shape == (1, 8, 8, 8)
    assert torch.allclose(found["image"][0, :, 4, 4], 41 + 4 * (torch.arange(8.0) - 3.5), atol=1e-3)
    marked = found["label"][0].nonzero().float()
    assert torch.allclose(marked.mean(0), torch.full((3,), 3.5), atol=0.6)


def test_without_a_label_the_cube_is_in_the_middle_and_borders_repeat() -> None:
    found = HeartFieldOfViewd(["image", "label"], size=4, fov_mm=80.0)({"image": ramp((11, 11, 11), 2.0)})
    assert torch.allclose(found["image"][0, :, 2, 2], torch.tensor([0.0, 0.0, 20.0, 20.0]), atol=1e-3)


def test_site_folders_list_labelled_cases_first(tmp_path: Path) -> None:
    assert find_site_cases(tmp_path) == []
    write_site(tmp_path, cases=2, labelled=1, size=16)
    (tmp_path / "labels/A_000.nii.gz").rename(tmp_path / "labels/A_001.nii.gz")
    cases = find_site_cases(tmp_path)
    assert [Path(case["image"]).name for case in cases] == ["A_001.nii.gz", "A_000.nii.gz"]
    assert ["label" in case for case in cases] == [True, False]
    assert find_training_pairs(tmp_path) == cases[:1]
    image, label = nib.load(cases[0]["image"]), nib.load(cases[0]["label"])
    assert np.allclose(image.affine, label.affine)
    assert image.get_data_dtype() == np.int16
    assert set(np.unique(np.asarray(label.dataobj))) <= set(range(8))


def test_shape_models_come_from_folders_of_label_maps(tmp_path: Path) -> None:
    write_label_maps(tmp_path / "shapes", cases=3, size=24)
    settings = {"size": 24, "vertices": 700, "modes": 2}
    settings |= {
        f"registration#{name}": value
        for name, value in {"grid": 12, "levels": [2], "iterations": 4, "similarity_iterations": 4}.items()
    }
    workflow("shape_model.json", dataset_dir=str(tmp_path / "shapes"), output_file=str(tmp_path / "m.npz"), **settings)
    model = ShapeModel.load(tmp_path / "m.npz")
    assert model.parameters_count == 2 + 7
    assert (tmp_path / "m.json").is_file()
    bad = nib.load(tmp_path / "shapes/shape_001.nii.gz")
    nib.save(nib.Nifti1Image(100 + np.asarray(bad.dataobj), bad.affine), tmp_path / "shapes/shape_001.nii.gz")
    transform = lambda case: {"label": np.asarray(nib.load(case["label"]).dataobj)[None]}  # noqa: E731
    with pytest.raises(ScanError, match=r"shape_001\.nii\.gz must hold the labels 0 to 7"):
        build_from_folder(tmp_path / "shapes", tmp_path / "n.npz", transform=transform, fov_mm=200.0)


def test_the_simulator_trains_is_cut_goes_on_and_generates(tmp_path: Path) -> None:
    """The workflow a user runs, with a run that ended after stage A and was started again."""
    write_site(tmp_path / "data", cases=2, labelled=1, size=32)
    small = {"dataset_dir": str(tmp_path / "data"), "device": "cpu", "iterations_a": 2, "iterations_b": 2}
    small |= {"iterations_c": 3, "pull": 1, "iterations_per_epoch": 1, "views": 12, "vgg_width": 0.03125, "hidden": 4}
    small |= {"generator_features": 2, "discriminator_features": 2, "slices_per_step": 2, "slices_per_volume": 2}
    whole = tmp_path / "whole"
    workflow("train_simulator.json", output_dir=str(whole), **small)
    cut = tmp_path / "cut"
    workflow("train_simulator.json", output_dir=str(cut), **small, run=["$@stage_a#trainer.run()"])
    workflow("train_simulator.json", output_dir=str(cut), **small)
    first, second = (torch.load(folder / "simulator.pt", weights_only=True) for folder in (whole, cut))
    assert all(torch.equal(first[name], second[name]) for name in first)
    for stage in ("stage_a", "stage_b", "stage_c"):
        assert (cut / stage / "loss.csv").read_text().count("\n") == 1 + small[f"iterations_{stage[-1]}"]
        assert list((cut / stage / "pictures").glob("*.png"))
    same = {key: small[key] for key in ("views", "hidden", "generator_features", "device")}
    out = tmp_path / "generated"
    workflow("generate.json", weights=str(cut / "simulator.pt"), output_dir=str(out), count=1, **same)
    assert (out / "A_0000_00000_ct.nii.gz").is_file()


def test_a_scan_that_is_no_ct_is_named_and_the_rest_is_segmented(tmp_path: Path) -> None:
    tiny = load_tiny(BUNDLE.name)
    settings = tiny.infer(tmp_path / "data", BUNDLE / "models/model.pt") | {"load_pretrain": False}
    mr = np.random.default_rng(0).uniform(0, 900, (32, 32, 32)).astype(np.float32)
    nib.save(nib.Nifti1Image(mr, np.eye(4)), tmp_path / "data/images/mr.nii.gz")
    sentence = r"(?s)1 of 2 scans could not be segmented:\n.*mr\.nii\.gz: image must be CT in HU with air"
    with pytest.raises(SystemExit, match=sentence):
        run_workflow(BUNDLE, "inference.json", kind="infer", output_dir=str(tmp_path / "out"), **settings)
    mask, scan = nib.load(tmp_path / "out/one_heart.nii.gz"), nib.load(tmp_path / "data/images/one.nii.gz")
    assert mask.shape == scan.shape
    assert np.allclose(mask.affine, scan.affine)
    assert mask.get_data_dtype() == np.uint8
