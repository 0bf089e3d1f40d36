from __future__ import annotations

import json
import statistics
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from bundle_workflows import one_thread

from medsynth_ext.methods.fedsim.folds import cross_validate, fold_cases, fold_pairs

BUNDLE = Path(__file__).resolve().parents[3] / "bundles/fedsim_cardiac_ct_synthesis"
SIZE = 16


def make_site(folder: Path, count: int, labelled: int | None = None) -> Path:
    """Bright cubes in air and soft tissue; the first ``labelled`` have a label."""
    for i in range(count):
        image = np.full((SIZE,) * 3, -900, np.int16)
        label = np.zeros((SIZE,) * 3, np.uint8)
        label[4 : 11 + i % 2, 4:12, 4:12] = 1
        image[label > 0] = 200 + 10 * i
        for kind, values in (("images", image), ("labels", label)):
            if kind == "labels" and labelled is not None and i >= labelled:
                continue
            path = folder / kind / f"patient_{i:02d}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(values, np.diag([12.5, 12.5, 12.5, 1])), path)
    return folder


def names(cases: list[dict[str, str]]) -> set[str]:
    return {Path(case["image"]).name for case in cases}


def test_every_patient_is_scored_once_and_never_by_a_network_that_saw_it(tmp_path):
    folder = make_site(tmp_path, 10)
    scored: list[str] = []
    for fold in range(5):
        parts = [names(fold_pairs(folder, part, fold=fold)) for part in ("train", "validation", "test")]
        assert [len(part) for part in parts] == [6, 2, 2]
        assert len(set.union(*parts)) == 10
        scored += parts[2]
    assert sorted(scored) == sorted(names(fold_cases(folder, "train", fold=None)))


def test_simulator_and_segmenter_of_a_fold_see_the_same_patients(tmp_path):
    """Labels do not change who is in which group, so nobody who is scored has trained a simulator."""
    all_labelled, some = make_site(tmp_path / "a", 10), make_site(tmp_path / "b", 10, labelled=7)
    for fold in range(5):
        assert names(fold_cases(some, "train", fold=fold)) == names(fold_pairs(all_labelled, "train", fold=fold))
    assert len(fold_pairs(all_labelled, "train", fold=0, labelled=4)) == 4


def test_without_a_fold_the_last_by_name_validate(tmp_path):
    folder = make_site(tmp_path, 5)
    assert names(fold_pairs(folder, "validation", fold=None)) == {"patient_03.nii.gz", "patient_04.nii.gz"}
    assert len(fold_pairs(folder, "train", fold=None)) == 3
    assert len(fold_pairs(folder, "test", fold=None)) == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"part": "exam", "fold": 0}, "part must be one of train, validation, test, got 'exam'"),
        ({"part": "test", "fold": 5}, "fold must be from 0 to below folds, which is at least 3, got 5 and 5"),
        ({"part": "test", "fold": 0, "folds": 9}, "9 folds need as many patients, .* has 6"),
    ],
)
def test_folds_that_cannot_be_are_refused(tmp_path, options, message):
    folder = make_site(tmp_path, 6)
    with pytest.raises(ValueError, match=message):
        fold_pairs(folder, **options)


def test_cross_validation_names_a_part_without_labels_before_it_trains(tmp_path):
    folder = make_site(tmp_path / "site", 6, labelled=1)
    with pytest.raises(ValueError, match=r"part of fold \d of .* has \d patients, none with a label"):
        cross_validate(bundle_root=BUNDLE, dataset_dir=folder, output_dir=tmp_path / "out", folds=3)
    assert not (tmp_path / "out").exists()


def test_cross_validation_scores_every_fold_and_goes_on_where_it_stopped(tmp_path):
    folder, out = make_site(tmp_path / "site", 6), tmp_path / "out"
    settings = {"size": SIZE, "features": [2, 4], "epochs": 2, "samples_per_epoch": 4, "learning_rate": 0.02}
    settings["device"] = "cpu"
    with one_thread():
        result = cross_validate(bundle_root=BUNDLE, dataset_dir=folder, output_dir=out, folds=3, settings=settings)
    dices = [row["val_mean_dice"] for row in result["folds"]]
    assert len(dices) == 3
    assert result["summary"]["val_mean_dice"]["mean"] == pytest.approx(statistics.fmean(dices))
    assert result["summary"]["val_mean_dice"]["deviation"] == pytest.approx(statistics.stdev(dices))
    assert json.loads((out / "cross_validation.json").read_text()) == result
    (out / "fold=1/metrics.csv").unlink()
    times = {fold: (out / f"fold={fold}/model.pt").stat().st_mtime_ns for fold in (0, 2)}
    with one_thread():
        again = cross_validate(bundle_root=BUNDLE, dataset_dir=folder, output_dir=out, folds=3, settings=settings)
    assert {fold: (out / f"fold={fold}/model.pt").stat().st_mtime_ns for fold in times} == times
    assert again["folds"][0] == result["folds"][0]
