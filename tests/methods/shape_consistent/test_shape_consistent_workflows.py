"""The bundle's workflows on a few coarse hearts: stages, options, both directions, segmentation, the hidden truth."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_workflows import load_tiny, run_workflow
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from PIL import Image

from medsynth_ext.data.modality import ModalityWarning
from medsynth_ext.data.scans import ScanError
from medsynth_ext.methods.shape_consistent import ShortUNetGenerator, make_segmenter
from medsynth_ext.methods.shape_consistent.case_metrics import CaseMetrics
from medsynth_ext.methods.shape_consistent.phantom_cases import write_heart_domains
from medsynth_ext.methods.shape_consistent.preparation import volume_preparation
from medsynth_ext.methods.shape_consistent.weights import JointWeights

BUNDLE = Path(__file__).parents[3] / "bundles/shape_consistent_ct_mr_translation"
TINY = load_tiny(BUNDLE.name)
FILES = {"model", "model_mr_to_ct", "segmenter_ct", "segmenter_mr", "reference_ct", "reference_mr"}


@pytest.fixture(scope="module")
def hearts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people per domain, each in both modalities."""
    folder = tmp_path_factory.mktemp("hearts")
    write_heart_domains(folder, cases={"ct": 2, "mr": 2}, first=20, size=TINY.SIZE, views=24, hidden=True)
    return folder


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that have learned nothing."""
    folder = tmp_path_factory.mktemp("networks")
    torch.manual_seed(0)
    for name in FILES:
        if name.startswith("model"):
            network: torch.nn.Module = ShortUNetGenerator(features=TINY.NETWORKS["features"])
        else:
            network = make_segmenter("unet", features=TINY.NETWORKS["segmenter_features"])
        torch.save(network.state_dict(), folder / f"{name}.pt")
    return folder


def test_one_run_goes_through_all_stages_with_few_labels_and_another_segmenter(hearts: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        **TINY.VOLUMES,
        **TINY.NETWORKS,
        **{"epochs": 3, "segmenter_epochs": 1, "generator_epochs": 1, "decay_epochs": 1, "samples_per_epoch": 2},
        **{"val_cases": 0, "val_interval": 10, "labelled_mr": 1, "segmenter": "psp", "shape_network": "reference"},
        **{"discriminator_features": 2, "discriminator_layers": 2, "pool_size": 1, "dice_weight": 1.0},
    }
    where = {"output_dir": str(tmp_path), "ckpt_dir": str(tmp_path), "dataset_dir": str(hearts)}
    run_workflow(BUNDLE, "train.json", **where, **options)
    with (tmp_path / "loss.csv").open() as file:
        rows = list(csv.DictReader(file))
    filled = [{name for name, value in row.items() if value} for row in rows]
    assert [("reference_a" in names, "cycle_a" in names, "shape_a" in names) for names in filled[::2]] == [
        (True, False, False),
        (False, True, False),
        (False, True, True),
    ]
    assert "segmenter_a_synthetic" in filled[-1]
    assert {path.stem for path in tmp_path.glob("*.pt")} == FILES
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 3


@pytest.mark.parametrize(("direction", "made"), [("ct_to_mr", "synMR"), ("mr_to_ct", "synCT")])
def test_translations_lie_on_the_grid_of_the_scan(
    hearts: Path, networks: Path, tmp_path: Path, direction: str, made: str
) -> None:
    weights = networks / {"ct_to_mr": "model.pt", "mr_to_ct": "model_mr_to_ct.pt"}[direction]
    source = hearts / direction[:2] / "images"
    run_workflow(
        BUNDLE,
        "inference.json",
        kind="infer",
        dataset_dir=str(source),
        output_dir=str(tmp_path),
        weights=str(weights),
        direction=direction,
        spacing_mm=8.0,
        window=[16, 16, 16],
        features=TINY.NETWORKS["features"],
    )
    files = sorted(source.iterdir())
    assert len(list(tmp_path.iterdir())) == len(files) == 2
    for file in files:
        before: Any = nib.load(file)
        after: Any = nib.load(tmp_path / f"{file.name.removesuffix('.nii.gz')}_{made}.nii.gz")
        assert after.shape == before.shape
        assert np.allclose(after.affine, before.affine, atol=1e-4)
        low, high, kind = (-200, 800, np.int16) if made == "synCT" else (-1, 1, np.float32)
        assert after.get_data_dtype() == kind
        values = after.get_fdata()
        assert low <= values.min() < values.max() <= high


def test_the_off_line_baseline_tunes_both_segmenters_and_nothing_else(
    hearts: Path, networks: Path, tmp_path: Path
) -> None:
    before = {path.name: path.read_bytes() for path in networks.iterdir()}
    options = {**TINY.VOLUMES, **TINY.NETWORKS, "epochs": 2, "decay_epochs": 1, "val_cases": 0, "labelled_mr": 1}
    where = {"dataset_dir": str(hearts), "ckpt_dir": str(networks), "output_dir": str(tmp_path / "ada")}
    run_workflow(BUNDLE, "ada.json", kind=None, **where, **options)
    assert {path.name for path in (tmp_path / "ada").iterdir()} == {"segmenter_ct.pt", "segmenter_mr.pt"}
    for modality in ("ct", "mr"):
        tuned = torch.load(tmp_path / f"ada/segmenter_{modality}.pt", weights_only=True)
        start = torch.load(networks / f"reference_{modality}.pt", weights_only=True)
        assert tuned.keys() == start.keys()
        assert any(not torch.allclose(tuned[k].float(), start[k].float(), atol=1e-5) for k in tuned)
    assert {path.name: path.read_bytes() for path in networks.iterdir()} == before


def test_segmentation_writes_labels_and_their_dice(hearts: Path, networks: Path, tmp_path: Path) -> None:
    options = {
        "dataset_dir": str(hearts / "mr/images"),
        "labels_dir": str(hearts / "mr/labels"),
        "weights": str(networks / "segmenter_mr.pt"),
        "output_dir": str(tmp_path),
        "segmenter_features": TINY.NETWORKS["segmenter_features"],
        "spacing_mm": 12.0,
        "window": [16, 16, 16],
    }
    run_workflow(BUNDLE, "segment.json", kind=None, **options)
    for name in ("mr_020", "mr_021"):
        found: Any = nib.load(tmp_path / f"{name}_seg.nii.gz")
        assert found.get_data_dtype() == np.uint8
        true = np.asarray(nib.load(hearts / f"mr/labels/{name}.nii.gz").dataobj)  # type: ignore[attr-defined]
        one, both = (np.asarray(found.dataobj) == 1), true == 1
        record = json.loads((tmp_path / f"{name}_metrics.json").read_text())
        assert record["dice"]["1"] == pytest.approx(2 * (one & both).sum() / (one.sum() + both.sum()), abs=1e-6)


def test_the_dice_of_a_label_map_on_another_grid_is_refused(tmp_path: Path) -> None:
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    found = MetaTensor(torch.zeros(1, 4, 4, 4), affine=affine, meta={"filename_or_obj": "a.nii.gz"})
    found[0, 0] = 1
    metrics = CaseMetrics(tmp_path, tmp_path / "out", classes=2)
    engine: Any = SimpleNamespace(state=SimpleNamespace(output=[{"pred": found}]))
    label = found[0].numpy().astype(np.uint8)
    turned = np.diag([-2.0, 2.0, 2.0, 1.0])
    turned[0, 3] = 6.0
    for values, grid, sentence in (
        (label, turned, "the grids of .* lie up to 6.0 mm apart"),
        (3 * label, affine, r"must hold labels from 0 to 1, got \[0, 3\]"),
        (label[:3], affine, r"has \(3, 4, 4\) voxels and a.nii.gz has \(4, 4, 4\)"),
    ):
        nib.save(nib.Nifti1Image(values, grid), tmp_path / "a.nii.gz")
        with pytest.raises(ScanError, match=sentence):
            metrics(engine)
    nib.save(nib.Nifti1Image(label, affine), tmp_path / "a.nii.gz")
    metrics(engine)
    assert json.loads((tmp_path / "out/a_metrics.json").read_text())["mean_dice"] == 1.0


def test_a_training_starts_from_the_weights_that_it_is_given(hearts: Path, networks: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        **TINY.VOLUMES,
        **TINY.NETWORKS,
        **{"epochs": 1, "segmenter_epochs": 1, "generator_epochs": 0, "decay_epochs": 0, "samples_per_epoch": 1},
        **{"val_cases": 0, "val_interval": 10, "discriminator_features": 2, "discriminator_layers": 2},
    }
    where = {"output_dir": str(tmp_path), "ckpt_dir": str(tmp_path), "dataset_dir": str(hearts)}
    run_workflow(BUNDLE, "train.json", init_weights=str(networks / "model.pt"), **where, **options)
    given, kept = (torch.load(folder / "model.pt", weights_only=True) for folder in (networks, tmp_path))
    assert all(torch.allclose(kept[name].float(), given[name], atol=1e-3) for name in given)


def test_an_evaluation_without_labels_is_one_sentence(hearts: Path, networks: Path, tmp_path: Path) -> None:
    for modality in ("ct", "mr"):
        shutil.copytree(hearts / modality / "images", tmp_path / modality / "images")
    options = {"dataset_dir": str(tmp_path), "ckpt_dir": str(networks), "output_dir": str(tmp_path / "out")}
    with pytest.raises(RuntimeError) as caught:
        run_workflow(BUNDLE, "evaluate.json", kind=None, **options, **TINY.VOLUMES, **TINY.NETWORKS)
    assert f"{tmp_path} holds 0 label maps ct/labels/NAME.nii.gz" in str(caught.value.__cause__)


def test_the_best_weights_are_of_an_epoch_with_a_translation(tmp_path: Path) -> None:
    network = torch.nn.Conv3d(1, 1, 1)
    writer = JointWeights({"model": network}, tmp_path, metric="dice", first_epoch=3)
    for epoch, dice in ((1, 0.9), (2, 0.8), (3, 0.5), (4, 0.6), (5, 0.4)):
        torch.nn.init.constant_(network.bias, epoch)  # type: ignore[arg-type]
        engine: Any = SimpleNamespace(state=SimpleNamespace(epoch=epoch, metrics={"dice": dice}))
        writer(engine)
        assert (tmp_path / "model.pt").is_file() == (epoch >= 3)
    assert torch.load(tmp_path / "model.pt", weights_only=True)["bias"].item() == 4
    parser = ConfigParser()
    parser.read_config(str(BUNDLE / "configs/train.json"))
    assert parser.get_parsed_content("best_weights#first_epoch") == 30 + 20 + 1
    parser["epochs"], parser["segmenter_epochs"], parser["generator_epochs"] = 8, 3, 5
    parser.parse(reset=True)
    assert parser.get_parsed_content("best_weights#first_epoch") == 8  # no joint stage


def test_the_hidden_truth_is_compared_where_it_is_known(hearts: Path, networks: Path, tmp_path: Path) -> None:
    options = {"dataset_dir": str(hearts), "ckpt_dir": str(networks), "weights": str(networks / "model.pt")}
    names = ["evaluate.json", "hidden_truth.json"]
    workflow = run_workflow(
        BUNDLE, *names, kind=None, output_dir=str(tmp_path), **options, **TINY.VOLUMES, **TINY.NETWORKS
    )
    metrics = workflow.parser.get_parsed_content("validate#evaluator").state.metrics
    assert 0 < metrics["val_mae"] < 2
    assert 0 < metrics["val_back_mae"] < 2
    assert metrics["val_displacement_mm"] >= 0 or np.isnan(metrics["val_displacement_mm"])
    assert "ct_020" in (tmp_path / "val_mae_raw.csv").read_text()
    with Image.open(tmp_path / "pictures/ct_020.png") as picture:
        assert picture.size == (4 * (4 * TINY.SIZE + 2), 2 * (4 * TINY.SIZE + 2))


def test_the_wrong_modality_gives_a_warning(hearts: Path) -> None:
    ranges: dict[str, Any] = {"ct_window_hu": [-200.0, 800.0], "mr_percentiles": [1.0, 99.0]}
    load = volume_preparation({"image": "CT"}, spacing_mm=12.0, size=[16] * 3, **ranges)
    with pytest.warns(ModalityWarning, match=r"mr_020.nii.gz should be CT but looks like MR"):
        load({"image": str(hearts / "mr/images/mr_020.nii.gz")})
