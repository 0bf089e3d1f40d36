"""A real MONAI Label server with every bundle: /info, /infer and /train over HTTP, and what it answers to bad input."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import monai.bundle
import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_workflows import load_tiny
from label_cases import BUNDLES, CASES, draw
from label_server import Answer, LabelServer
from scipy.optimize import linear_sum_assignment

from medsynth_ext.data.landmark_files import read_landmarks
from medsynth_ext.data.point_frames import read_points
from medsynth_ext.methods.synthseg.labels import LabelTable

pytestmark = pytest.mark.rehearsal

ENVIRONMENT = Path(os.environ.get("MEDSYNTH_LABEL", BUNDLES.parent / ".label"))
SEGMENTATIONS = [name for name in CASES if name.endswith("_segmentation") or name.startswith("fedsim")]
TRANSLATIONS = ["frequency_supervised_mr_to_ct", "semipaired_mr_ct_translation", "shape_consistent_ct_mr_translation"]
FRAMES = ["adaptor_relation_heatmap_detection", "adaptor_suture_heatmap_detection"]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> dict[str, tuple[Path, Path | None]]:
    """Image and truth for every bundle."""
    folder = tmp_path_factory.mktemp("drawn")
    return {name: draw(name, folder / name) for name in CASES}


@pytest.fixture(scope="module")
def server(drawn, tmp_path_factory):
    """One server with every bundle; the image for a bundle has the bundle's name."""
    if not (ENVIRONMENT / "bin/monailabel").is_file():
        pytest.skip(f"{ENVIRONMENT} has no MONAI Label: make integration")
    server = LabelServer(ENVIRONMENT, tmp_path_factory.mktemp("label"), [BUNDLES / name for name in CASES])
    for name, (image, _) in drawn.items():
        shutil.copyfile(image, server.studies / (name + "".join(image.suffixes)))
    server.start()
    yield server
    server.stop()


def image_of(answer: Answer, folder: Path) -> nib.Nifti1Image:
    """The answer as an image."""
    assert answer.status == 200, answer.body
    path = folder / "answer.nii.gz"
    path.write_bytes(answer.body)
    return nib.load(path)


def own_result(name: str, image: Path, folder: Path) -> np.ndarray:
    """What the bundle's own inference writes for an image."""
    (folder / "scans").mkdir()
    shutil.copyfile(image, folder / "scans/one.nii.gz")
    monai.bundle.run(
        config_file=str(BUNDLES / name / "configs/inference.json"),
        bundle_root=str(BUNDLES / name),
        dataset_dir=str(folder / "scans"),
        output_dir=str(folder / "results"),
        device="cpu",
    )
    (path,) = (folder / "results").glob("one_*.nii.gz")
    return np.asarray(nib.load(path).dataobj)


def test_every_bundle_is_offered_with_its_labels(server):
    info = server.get("/info/").json
    assert set(info["models"]) == set(CASES) == {path.name for path in BUNDLES.iterdir()}
    for name, model in info["models"].items():
        assert model["type"] == ("detection" if "detection" in name else "segmentation")
        assert 0 not in model["labels"].values()  # images have 0 where there is nothing
        assert name in info["trainers"]


@pytest.mark.parametrize("name", SEGMENTATIONS)
def test_segmentation_is_that_of_the_bundles_own_run(server, drawn, tmp_path, name):
    image, truth = drawn[name]
    answer = image_of(server.infer(name, name, output="image"), tmp_path)
    scan = nib.load(image)
    assert answer.shape == scan.shape[:3]
    assert np.allclose(answer.affine, scan.affine, atol=1e-3)
    found, own = np.asarray(answer.dataobj), own_result(name, image, tmp_path)
    labels = server.get("/info/").json["models"][name]["labels"]
    assert set(np.unique(found)) <= {0, *labels.values()}
    table = BUNDLES / name / "configs/labels.json"
    if table.is_file():  # files of a run hold the label values, the server's images the channels
        found = np.array(LabelTable.from_json(table).target_values)[found.astype(int)]
    assert np.mean(found == own) > 0.999
    inside, true = found > 0, np.asarray(nib.load(truth).dataobj) > 0
    assert np.sum(inside & true) > 0.3 * np.sum(inside | true)


def test_upload_is_answered_like_a_study(server, drawn, tmp_path):
    name = "synthseg_heart_segmentation"
    study = image_of(server.infer(name, name, output="image"), tmp_path).get_fdata()
    upload = image_of(server.infer(name, output="image", upload=drawn[name][0]), tmp_path).get_fdata()
    assert np.array_equal(study, upload)


def test_landmarks_of_a_radiograph_are_near_the_true_ones(server, drawn):
    name = "fewshot_dag_landmark_localization"
    answer = server.infer(name, name, output="json").json
    truth = read_landmarks(drawn[name][1])
    found = np.array([answer["landmarks"]["landmarks"][landmark]["index"] for landmark in truth.names])
    assert np.linalg.norm(found - truth.index, axis=1).mean() < 8.0  # of 256 pixels
    assert len(answer["markups"]["markups"][0]["controlPoints"]) == len(truth.names)


def test_landmarks_of_a_ct_are_near_the_true_ones_and_come_as_boxes(server, drawn):
    name = "oneshot_landmark_detection"
    truth = read_landmarks(drawn[name][1])
    record = server.infer(name, name, output="json", result_write_to_file=False).json
    found = np.array([record["landmarks"]["landmarks"][landmark]["world_mm"] for landmark in truth.names])
    assert np.linalg.norm(found - truth.world_mm, axis=1).mean() < 2.0
    boxes = server.infer(name, name, output="image")
    centres = np.array([markup["center"] for markup in boxes.json["markups"]])
    assert np.allclose(centres * [-1, -1, 1], found, atol=1e-3)
    numbered = server.infer(name, name, output="json").json
    assert list(numbered["centroids"]) == list(truth.names)
    assert np.allclose(np.array(numbered["box"])[:, :3], centres)


@pytest.mark.parametrize("name", FRAMES)
def test_points_of_a_frame_are_near_the_true_ones_and_come_as_boxes(server, drawn, name):
    truth = read_points(drawn[name][1]).numpy()
    record = server.infer(name, name, output="json", result_write_to_file=False).json
    points = np.array([point["index"] for point in record["landmarks"]["landmarks"].values()])
    assert len(record["landmarks"]["notes"]["scores"]) == len(points)
    distances = np.linalg.norm(points[:, None] - truth[None], axis=-1)
    pairs = linear_sum_assignment(distances)
    assert np.sum(distances[pairs] < 6.0) >= 0.5 * max(len(points), len(truth))
    boxes = server.infer(name, name, output="image").json["markups"]
    assert np.allclose([box["center"][1::-1] for box in boxes], points, atol=1e-3)


@pytest.mark.parametrize("name", TRANSLATIONS)
def test_translated_scan_is_that_of_the_bundles_own_run(server, drawn, tmp_path, name):
    answer = image_of(server.infer(name, name, output="image"), tmp_path)
    scan = nib.load(drawn[name][0])
    assert answer.shape == scan.shape[:3]
    assert np.allclose(answer.affine, scan.affine, atol=1e-3)
    found, own = answer.get_fdata(), own_result(name, drawn[name][0], tmp_path)
    assert own.std() > 0
    assert np.abs(found - own).mean() < 1e-3 * own.std()


def test_styled_frame_comes_as_nifti(server, drawn, tmp_path):
    name = "ultrasound_variational_style_transfer"
    answer = image_of(server.infer(name, name, output="image", result_extension=".nii.gz"), tmp_path)
    values = answer.get_fdata()
    assert values.min() >= 0
    assert 0.05 < values.std() < values.max() <= 1


def submit(server: LabelServer, image: Path, label: Path) -> None:
    """Give the server an image of the studies with its final label, as a viewer does."""
    shutil.copyfile(image, server.studies / image.name)
    folder = server.studies / "labels/final"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(label, folder / image.name)


def labelled(folder: Path) -> list[tuple[Path, Path]]:
    """Pairs of images and labels; a label map alone is its own image."""
    if (folder / "images").is_dir():
        return [(path, folder / "labels" / path.name) for path in sorted((folder / "images").iterdir())]
    return [(path, path) for path in sorted(folder.rglob("*.nii.gz"))]


@contextmanager
def training_server(name: str, drawn: dict, folder: Path) -> Iterator[LabelServer]:
    """A server of one bundle with tiny settings, labelled images to learn from, and one called ``unseen``."""
    if not (ENVIRONMENT / "bin/monailabel").is_file():
        pytest.skip(f"{ENVIRONMENT} has no MONAI Label: make integration")
    server = LabelServer(ENVIRONMENT, folder / "label", [BUNDLES / name])
    settings = load_tiny(name).train(folder / "data")
    for image, label in labelled(folder / "data"):
        submit(server, image, label)
    shutil.copyfile(drawn[name][0], server.studies / "unseen.nii.gz")
    server.start()
    try:
        config = server.model(name) / "configs/train.json"
        train = json.loads(config.read_text())
        kept = settings.keys() - {"dataset_dir", "epochs", "features", "levels"}  # the network stays what it is
        small = {key: settings[key] for key in kept} | ({"crop_size": [32, 32, 32]} if "crop_size" in kept else {})
        config.write_text(json.dumps(train | small))
        yield server
    finally:
        server.stop()


@pytest.mark.parametrize("name", SEGMENTATIONS)
def test_training_on_labels_gives_new_weights_that_are_used(drawn, tmp_path, name):
    with training_server(name, drawn, tmp_path) as server:
        weights = server.model(name) / "models/model.pt"
        before = torch.load(weights)
        first = image_of(server.infer(name, "unseen", output="image"), tmp_path).get_fdata()
        checksum = server.get(f"/model/info/{name}").json["checksum"]
        answer = server.train(name, max_epochs=1, val_split=0.25)
        assert answer.status == 200, answer.body
        assert server.get(f"/model/info/{name}").json["checksum"] != checksum
        after = torch.load(weights)
        assert after.keys() == before.keys()
        changes = [float((after[key].float() - before[key].float()).abs().max()) for key in after]
        assert max(changes) > 0
        # It went on from the weights that were there: a fresh network would differ far more.
        key = next(key for key in after if after[key].ndim > 2)
        assert float((after[key].float() - before[key].float()).norm()) < 0.7 * float(before[key].float().norm())
        second = image_of(server.infer(name, "unseen", output="image"), tmp_path).get_fdata()
        assert not np.array_equal(first, second)


def test_training_in_the_background_answers_at_once_and_ends_with_weights_that_are_used(drawn, tmp_path):
    name = "fbpaug_ct_segmentation"
    with training_server(name, drawn, tmp_path) as server:
        weights = server.model(name) / "models/model.pt"
        before = weights.read_bytes()
        first = image_of(server.infer(name, "unseen", output="image"), tmp_path).get_fdata()
        answer = server.train(name, wait=False, max_epochs=1, val_split=0.25)
        assert answer.status == 200, answer.body
        assert answer.json["status"] in ("SUBMITTED", "RUNNING")
        assert weights.read_bytes() == before
        task = server.trained()
        assert task["status"] == "DONE", task["details"]
        assert weights.read_bytes() != before
        second = image_of(server.infer(name, "unseen", output="image"), tmp_path).get_fdata()
        assert not np.array_equal(first, second)
        shutil.rmtree(server.studies / "labels")
        server.train(name, wait=False, max_epochs=1, val_split=0.25)
        task = server.trained()
        assert task["status"] == "ERROR"
        assert any("no image of the studies has one" in line for line in task["details"]), task["details"]


def detail(answer: Answer) -> str:
    return answer.json["detail"]


def test_unknown_image_and_model_are_not_found(server):
    name = "synthseg_heart_segmentation"
    answer = server.infer(name, "nobody", output="image")
    assert (answer.status, detail(answer)) == (404, "there is no image 'nobody' among the studies of this server")
    answer = server.infer("nothing", name, output="image")
    assert answer.status == 404
    assert detail(answer).startswith("there is no model 'nothing': this server has adaptor_relation_heatmap_detection,")
    assert server.train("nothing").status == 404


def test_training_without_labels_is_refused(server):
    answer = server.train("fbpaug_ct_segmentation")
    assert answer.status == 422
    assert "no image of the studies has one" in detail(answer)


@pytest.mark.parametrize(
    "name", ["synthseg_heart_segmentation", "fbpaug_ct_segmentation", "oneshot_landmark_detection"]
)
def test_unreadable_image_is_refused_and_leaves_nothing(server, drawn, tmp_path, name):
    whole = drawn[name][0].read_bytes()
    kinds = {"empty": b"", "text": b"no image at all", "cut": whole[: len(whole) // 2]}
    before = set(server.folder.rglob("*"))
    for kind, content in kinds.items():
        path = tmp_path / f"{kind}.nii.gz"
        path.write_bytes(content)
        answer = server.infer(name, output="image", upload=path)
        assert answer.status == 422, (kind, answer.body)
        assert detail(answer).startswith(f"running {name} failed: ")
        assert len(detail(answer)) < 400
    assert not {path for path in server.folder.rglob("*") if "log" not in path.name} - before
    assert server.infer(name, name, output="image").status == 200  # it goes on


def test_picture_that_is_none_is_refused(server, tmp_path):
    path = tmp_path / "frame.png"
    path.write_bytes(b"no picture")
    for name in [*FRAMES, "fewshot_dag_landmark_localization"]:
        answer = server.infer(name, output="json", upload=path)
        assert answer.status == 422, answer.body
        assert detail(answer).startswith(f"running {name} failed: the uploaded image cannot be read as a ")


def test_magnitude_image_is_refused_as_ct(server, drawn):
    answer = server.infer("fbpaug_ct_segmentation", "synthseg_heart_segmentation", output="image")
    assert answer.status == 422
    assert detail(answer).startswith(
        "running fbpaug_ct_segmentation failed: synthseg_heart_segmentation.nii.gz: image must be CT in HU with air"
    )
