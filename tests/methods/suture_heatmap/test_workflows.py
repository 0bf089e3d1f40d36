"""What the suture bundle's workflows write, and what they say about bad input."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from bundle_workflows import load_tiny, run_workflow
from monai.bundle import ConfigParser, ConfigWorkflow
from PIL import Image

from medsynth_ext.data.point_frames import find_point_frames, read_frame, read_points
from medsynth_ext.engines import sentence_of
from medsynth_ext.handlers.detection_writer import draw_detections
from medsynth_ext.methods.suture_heatmap import ResNeXtUNet, ThresholdPoints
from medsynth_ext.phantoms.endoscopy import endoscopy_recording, write_recordings

BUNDLE = Path(__file__).parents[3] / "bundles/adaptor_suture_heatmap_detection"
TINY = {"load_pretrain": False, **load_tiny(BUNDLE.name).NETWORK}


def infer(folder: Path, out: Path, **settings: Any) -> None:
    options = {**TINY, **settings}
    run_workflow(BUNDLE, "inference.json", kind="infer", dataset_dir=str(folder), output_dir=str(out), **options)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    write_recordings(tmp_path / "data", {"one": endoscopy_recording(1, domain="sim", frames=3, size=(60, 90))})
    return tmp_path / "data"


def test_labelled_recordings_give_points_overlays_and_a_table(recording, tmp_path):
    infer(recording, tmp_path / "out", heatmaps=True, min_peak=0.0)
    video = tmp_path / "out/one/video"
    assert [len(list((video / name).iterdir())) for name in ("point_labels", "overlays", "heatmaps")] == [3, 3, 3]
    found = json.loads((video / "point_labels/000002.json").read_text())
    points = read_points(video / "point_labels/000002.json", (60, 90))  # in the frame, though it was resized and padded
    assert len(points) == len(found["scores"])
    assert all(0 <= score <= 1 for score in found["scores"])
    assert Image.open(video / "overlays/000002.png").size == (90, 60)
    with (tmp_path / "out/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == [f"one/video/{i:06d}" for i in range(3)]
    labels = [len(read_points(recording / f"one/video/point_labels/{i:06d}.json")) for i in range(3)]
    assert [int(row["true_positive"]) + int(row["false_negative"]) for row in rows] == labels
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["frames"] == summary["labelled_frames"] == 3
    assert summary["points"] == summary["true_positive"] + summary["false_positive"]


def test_plain_pictures_without_labels_of_every_kind_are_searched(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    picture = Image.fromarray(
        (endoscopy_recording(2, domain="sim", frames=1, size=(64, 96))[0].image * 255).byte().movedim(0, -1).numpy()
    )
    picture.save(folder / "rgb.png")
    picture.convert("RGBA").save(folder / "rgba.png")
    picture.convert("L").save(folder / "grey.jpg")
    Image.new("I;16", (50, 40), 30000).save(folder / "deep.png")
    picture.resize((7, 5)).save(folder / "small.png")  # smaller than the network's stride
    infer(folder, tmp_path / "out")
    names = {p.name for p in (tmp_path / "out").iterdir()}
    stems = ("rgb", "rgba", "grey", "deep", "small")
    assert names == {"summary.json", *(f"{s}.json" for s in stems), *(f"{s}_overlay.png" for s in stems)}
    sizes = json.loads((tmp_path / "out/small.json").read_text())
    assert (sizes["imageHeight"], sizes["imageWidth"]) == (5, 7)
    same = [json.loads((tmp_path / f"out/{s}.json").read_text()) for s in ("rgb", "rgba")]
    assert same[0] == same[1]


def test_bad_frames_and_labels_are_named_and_the_rest_is_searched(recording, tmp_path):
    (recording / "one/video/images/000000.png").write_bytes(b"no picture")
    labels = recording / "one/video/point_labels/000001.json"
    labels.write_text(json.dumps({"imageHeight": 60, "imageWidth": 90, "points": [{"x": 95, "y": 3}]}))
    sentence = r"(?s)2 of 3 frames could not be searched:.*000000.png cannot be read.*point 0 \(x 95, y 3\) is outside"
    with pytest.raises(SystemExit, match=sentence):
        infer(recording, tmp_path / "out")
    written = sorted(p.name for p in (tmp_path / "out/one/video/point_labels").iterdir())
    assert written == ["000002.json"]
    assert len(json.loads((tmp_path / "out/summary.json").read_text())["failed"]) == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"load_pretrain": True, "weights": "nowhere.pt"}, "the weights file nowhere.pt does not exist"),
        ({"load_pretrain": True, "features": [4, 4]}, "is for another network than PlainUNet"),
    ],
)
def test_missing_and_foreign_weights_end_in_one_sentence(recording, tmp_path, settings, message):
    with pytest.raises(SystemExit, match=message):
        infer(recording, tmp_path / "out", **settings)
    assert not list((tmp_path / "out").glob("**/*.json"))


def test_an_empty_folder_ends_in_one_sentence(tmp_path):
    with pytest.raises(SystemExit, match="no frame in"):
        infer(tmp_path, tmp_path / "out")


def test_training_without_frames_says_so(tmp_path):
    with pytest.raises(RuntimeError) as error:
        run_workflow(BUNDLE, "train.json", dataset_dir=str(tmp_path), output_dir=str(tmp_path / "out"), **TINY)
    assert str(sentence_of(error.value)).startswith(f"{tmp_path} holds 0 labelled frames")
    assert not (tmp_path / "out").exists()


def test_presets_build_the_papers_network_and_the_baseline():
    parser = ConfigParser()
    parser.read_config([str(BUNDLE / "configs" / name) for name in ("inference.json", "paper.json")])
    parser["device"] = "cpu"
    assert isinstance(parser.get_parsed_content("network_def"), ResNeXtUNet)
    decoder = parser.get_parsed_content("decoder")
    assert (decoder.kappa, decoder.min_peak, decoder.min_area, decoder.opening) == (1.0, 0.0, 0, 3)
    assert parser.get_parsed_content("size") == [288, 512]
    parser = ConfigParser()
    parser.read_config([str(BUNDLE / "configs" / name) for name in ("train.json", "baseline.json")])
    assert isinstance(parser.get_parsed_content("decoder"), ThresholdPoints)
    assert parser.get_parsed_content("network_def").down[0][3].p == 0.3
    assert parser.get_parsed_content("loss").dice_weight == 1.0


def test_simulator_frames_join_the_training(tmp_path):
    tiny = load_tiny(BUNDLE.name)
    settings = tiny.train(tmp_path / "real")
    write_recordings(tmp_path / "sim", {"sim": endoscopy_recording(9, domain="sim", frames=3, size=tiny.SIZE)})
    parser = ConfigParser()
    parser.read_config(str(BUNDLE / "configs/train.json"))
    parser.update({"device": "cpu", **settings, "sim_dir": str(tmp_path / "sim")})
    data = parser.get_parsed_content("train#dataset").data
    assert {item["surgery"] for item in data} == {"surgery_0", "surgery_1", "sim"}
    assert {item["surgery"] for item in parser.get_parsed_content("validate#dataset").data} == {"surgery_2"}


def test_phantoms_of_both_domains_are_found_by_the_training(tmp_path):
    workflow = ConfigWorkflow(
        str(BUNDLE / "configs/phantoms.json"),
        logging_file=False,  # type: ignore[arg-type]
        output_dir=str(tmp_path),
        sim=1,
        intraop=2,
        frames=2,
        size=[48, 64],
    )
    workflow.initialize()
    workflow.run()
    found = {domain: find_point_frames(tmp_path / domain) for domain in ("sim", "intraop")}
    assert [len(items) for items in found.values()] == [2, 4]
    assert read_frame(found["sim"][0]["image"]).shape == (3, 48, 64)


def test_overlay_is_green_for_found_red_for_wrong_and_yellow_for_missed():
    image = torch.zeros(3, 40, 60)
    labels = torch.tensor([[10.0, 10.0], [30.0, 40.0], [torch.nan, torch.nan]])
    picture = draw_detections(image, torch.tensor([[11.0, 10.0], [10.0, 45.0]]), labels, radius=4.0)
    assert picture.getpixel((10, 7)) == (40, 220, 60)
    assert picture.getpixel((45, 6)) == (255, 40, 40)
    assert picture.getpixel((40, 26)) == (255, 225, 0)
    plain = draw_detections(image, torch.tensor([[11.0, 10.0]]), None, radius=4.0)
    assert plain.getpixel((10, 7)) == (40, 220, 60)
