"""Every bundle with one network as a MONAI Deploy application: exported, run on NIfTI and DICOM, and compared."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from bundle_workflows import load_tiny, run_workflow
from check_bundles import REPOSITORY
from PIL import Image

from medsynth_ext.data import read_series

pydicom = pytest.importorskip("pydicom")
from nifti_to_dicom import main as nifti_to_dicom  # noqa: E402 - needs pydicom
from nifti_to_dicom import write_series  # noqa: E402

pytestmark = pytest.mark.rehearsal

PYTHON = Path(os.environ.get("DEPLOY_PYTHON", REPOSITORY / ".deploy/bin/python"))
SEGMENTATIONS = {
    "synthseg_brain_segmentation": ("MR", "seg"),
    "synthseg_heart_segmentation": ("MR", "seg"),
    "fbpaug_ct_segmentation": ("CT", "seg"),
    "fedsim_cardiac_ct_synthesis": ("CT", "heart"),
}
TRANSLATIONS = {
    "frequency_supervised_mr_to_ct": ("MR", "sct"),
    "semipaired_mr_ct_translation": ("MR", "sct"),
    "shape_consistent_ct_mr_translation": ("CT", "synMR"),
}
LANDMARKS = {"oneshot_landmark_detection": ("CT", ".landmarks.json")}
POINTS = ("adaptor_relation_heatmap_detection", "adaptor_suture_heatmap_detection")
RADIOGRAPHS, FRAMES = "fewshot_dag_landmark_localization", "ultrasound_variational_style_transfer"
VOLUMES = {name: modality for name, (modality, _) in (SEGMENTATIONS | TRANSLATIONS | LANDMARKS).items()}


def deploy(runs: list[dict[str, Any]], folder: Path) -> str:
    """Run the application on everything in one process of its own environment; returns what it printed."""
    file = folder / "runs.json"
    file.write_text(json.dumps(runs))
    command = [str(PYTHON), str(REPOSITORY / "tests/integration/deploy_runs.py"), str(file)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stderr[-3000:]
    runs[:] = json.loads(file.read_text())
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """From a bundle and ``nifti``, ``dicom`` or ``own`` (its own inference) to the folder of results."""
    if not PYTHON.is_file():
        pytest.fail(f"{PYTHON} is missing: make integration makes it")
    root = tmp_path_factory.mktemp("deploy")
    runs = []
    for name in (*VOLUMES, *POINTS, RADIOGRAPHS, FRAMES):
        bundle = REPOSITORY / "bundles" / name
        data = Path(load_tiny(name).infer(root / name / "data", bundle / "models/model.pt")["dataset_dir"])
        scan = next(p for p in sorted(data.rglob("*")) if p.name.endswith((".nii.gz", ".png")))
        inputs = {"nifti": scan}
        if name in VOLUMES:
            inputs["dicom"] = root / name / "one"
            nifti_to_dicom([str(scan), str(inputs["dicom"]), "--modality", VOLUMES[name]])
        elif name == RADIOGRAPHS:
            pixels = np.asarray(Image.open(scan))
            (inputs["dicom"],) = write_series(root / name, pixels.T[..., None], np.eye(4), names=["one.dcm"])
        for kind, path in inputs.items():
            folder = str(root / name / kind)
            model = str(root / f"{name}.ts")
            runs.append({"bundle": str(bundle), "model": model, "input": str(path), "output": folder})
        run_workflow(bundle, "inference.json", kind="infer", dataset_dir=str(scan), output_dir=str(root / name / "own"))
    printed = deploy(runs, root)
    failed = {f"{run['bundle']} {run['input']}": run["error"] for run in runs if run["error"]}
    assert not failed, f"{failed}\n{printed[-3000:]}"
    return lambda name, kind: root / name / kind


def segment_counts(path: Path) -> tuple[list[str], dict[tuple[int, float], int]]:
    """Labels of the segments of a DICOM SEG, and the voxels of every segment and position along the body."""
    dataset = pydicom.dcmread(path)
    frames = np.atleast_3d(dataset.pixel_array).reshape(-1, dataset.Rows, dataset.Columns)
    counts: Counter[tuple[int, float]] = Counter()
    shared = dataset.SharedFunctionalGroupsSequence[0]
    for frame, group in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        place = group if "SegmentIdentificationSequence" in group else shared  # shared where there is one segment
        number = int(place.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        height = round(float(group.PlanePositionSequence[0].ImagePositionPatient[2]), 2)
        counts[number, height] += int((frame > 0).sum())
    return [segment.SegmentLabel for segment in dataset.SegmentSequence], {k: v for k, v in counts.items() if v}


@pytest.mark.parametrize("name", SEGMENTATIONS)
def test_a_segmentation_is_the_bundles_own_as_nifti_and_as_dicom_seg(results, name):
    made: Any = nib.load(results(name, "nifti") / "one_seg.nii.gz")
    own: Any = nib.load(results(name, "own") / f"one_{SEGMENTATIONS[name][1]}.nii.gz")
    labels = np.asarray(made.dataobj)
    assert np.allclose(made.affine, own.affine, atol=1e-3)
    assert (labels == np.asarray(own.dataobj)).mean() > 0.999
    assert len(np.unique(labels)) > 1
    (file,) = results(name, "dicom").iterdir()
    names, counts = segment_counts(file)
    values = sorted(set(np.unique(labels)) - {0})
    assert len(names) >= len(values)
    heights = [round(float(made.affine[2] @ [0, 0, k, 1]), 2) for k in range(labels.shape[2])]
    expected = {height: int((labels[:, :, k] > 0).sum()) for k, height in enumerate(heights)}
    found: Counter[float] = Counter()
    for (_, height), count in counts.items():
        found[height] += count
    assert sum(abs(found[h] - expected[h]) for h in heights) <= 0.01 * sum(expected.values()), (found, expected)
    assert len({number for number, _ in counts}) == len(values)


@pytest.mark.parametrize("name", TRANSLATIONS)
def test_a_synthetic_image_is_the_bundles_own_as_nifti_and_as_a_series(results, name):
    made: Any = nib.load(results(name, "nifti") / "one_synthetic.nii.gz")
    own: Any = nib.load(results(name, "own") / f"one_{TRANSLATIONS[name][1]}.nii.gz")
    values, expected = np.asarray(made.dataobj), np.asarray(own.dataobj)
    span = float(np.ptp(expected))
    assert span > 0
    assert np.allclose(values, expected, atol=2e-3 * span)
    (folder,) = results(name, "dicom").iterdir()
    volume = read_series(folder)
    assert np.allclose(volume.affine, made.affine, atol=1e-3)
    assert np.allclose(volume.voxels, values, atol=2e-3 * span)
    slices = [pydicom.dcmread(path, stop_before_pixels=True) for path in folder.iterdir()]
    source = pydicom.dcmread(next((folder.parents[1] / "one").iterdir()), stop_before_pixels=True)
    assert {s.Modality for s in slices} == {"MR" if VOLUMES[name] == "CT" else "CT"}
    assert {s.StudyInstanceUID for s in slices} == {source.StudyInstanceUID}
    assert source.SeriesInstanceUID not in {s.SeriesInstanceUID for s in slices}
    assert len({s.SOPInstanceUID for s in slices}) == len(slices)


@pytest.mark.parametrize("name", LANDMARKS)
def test_landmarks_are_the_bundles_own_from_nifti_and_from_dicom(results, name):
    ending = LANDMARKS[name][1]
    (own,) = results(name, "own").glob(f"*{ending}")
    expected = json.loads(own.read_text())["landmarks"]
    for kind in ("nifti", "dicom"):
        found = json.loads((results(name, kind) / f"one{ending}").read_text())["landmarks"]
        assert found.keys() == expected.keys()
        for point in expected:
            assert found[point]["world_mm"] == pytest.approx(expected[point]["world_mm"], abs=0.1)


@pytest.mark.parametrize("name", POINTS)
def test_points_are_the_bundles_own(results, name):
    (made,) = results(name, "nifti").rglob("*.json")
    own = next(path for path in results(name, "own").rglob("*.json") if path.name == made.name)
    found, expected = ([[p["y"], p["x"]] for p in json.loads(path.read_text())["points"]] for path in (made, own))
    assert found
    assert np.allclose(found, expected, atol=0.1)


def test_landmarks_of_a_radiograph_are_the_bundles_own_from_a_picture_and_from_dicom(results):
    expected = json.loads((results(RADIOGRAPHS, "own") / "one.json").read_text())["landmarks"]
    for kind in ("nifti", "dicom"):
        found = json.loads((results(RADIOGRAPHS, kind) / "one.json").read_text())["landmarks"]
        for point, place in expected.items():
            assert found[point]["index"] == pytest.approx(place["index"], abs=0.1)


def test_a_styled_frame_is_the_bundles_own(results):
    (made,) = results(FRAMES, "nifti").iterdir()
    own = results(FRAMES, "own") / made.name
    found, expected = (np.asarray(Image.open(path), dtype=np.int16) for path in (made, own))
    assert np.abs(found - expected).max() <= 1
    assert np.ptp(expected) > 0


def test_a_folder_that_is_no_volume_is_refused_in_one_sentence_and_leaves_nothing(tmp_path):
    affine = np.diag([2.0, 2, 3, 1])
    voxels = np.random.default_rng(0).integers(-1000, 1000, (24, 24, 8))
    sheared = affine.copy()
    sheared[1, 2] = 1.0
    write_series(tmp_path / "gap", voxels, affine)[3].unlink()
    write_series(tmp_path / "tilt", voxels, sheared)
    write_series(tmp_path / "two", voxels, affine)
    write_series(tmp_path / "two", voxels, affine, names=[f"b{k}.dcm" for k in range(8)])
    said = {
        "gap": "lacks slices between 0003.dcm and 0005.dcm",
        "tilt": "the results could not refer to the slices of the series",
        "two": "the input must hold one DICOM series, got 2",
    }
    bundle, model = REPOSITORY / "bundles/fbpaug_ct_segmentation", tmp_path / "model.ts"
    runs = [
        {
            "bundle": str(bundle),
            "model": str(model),
            "input": str(tmp_path / name),
            "output": str(tmp_path / f"{name}_out"),
        }
        for name in said
    ]
    printed = deploy(runs, tmp_path)
    for run, (name, sentence) in zip(runs, said.items(), strict=True):
        assert run["error"] == "exit status 1"
        assert f"error: {tmp_path / name}" in printed or f"error: {sentence}" in printed
        assert sentence in printed
        assert list((tmp_path / f"{name}_out").iterdir()) == []
