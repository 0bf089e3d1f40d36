"""Frames with points: the challenge's layout, pictures of every kind, and sentences about bad files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medsynth_ext.data import FrameDataset
from medsynth_ext.data.point_frames import (
    FrameError,
    find_frames,
    find_point_frames,
    points_to_json,
    read_frame,
    read_points,
    split_by_surgery,
    write_frame,
)

POINTS = torch.tensor([[1.0, 2.5], [7.25, 11.0]])


def write(folder: Path, surgery: str = "a", count: int = 2) -> None:
    for i in range(count):
        write_frame(folder / surgery / "left", f"{i:06d}", torch.full((3, 8, 12), i / 10), POINTS)


def labels(path: Path, value: object) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_written_frames_are_found_and_read_back(tmp_path):
    write(tmp_path)
    items = find_point_frames(tmp_path, domain=1)
    assert [Path(item["image"]).name for item in items] == ["000000.png", "000001.png"]
    assert {(item["surgery"], item["domain"]) for item in items} == {("a", 1)}
    image = read_frame(items[1]["image"])
    assert image.shape == (3, 8, 12)
    assert (image - 0.1).abs().max() < 1 / 500
    assert torch.equal(read_points(items[1]["points"], (8, 12)), POINTS)
    stored = json.loads(Path(items[0]["points"]).read_text())
    assert stored == {"imageHeight": 8, "imageWidth": 12, "points": [{"x": 2.5, "y": 1.0}, {"x": 11.0, "y": 7.25}]}


def test_a_frame_without_points_is_valid(tmp_path):
    path = labels(tmp_path / "a.json", points_to_json(torch.zeros(0, 2), (8, 12)))
    assert read_points(path, (8, 12)).shape == (0, 2)


def test_folders_that_are_not_there_yet_are_empty(tmp_path):
    assert find_point_frames(tmp_path / "later") == []
    assert split_by_surgery([], 1) == ([], [])


@pytest.mark.parametrize(
    ("mode", "pixel", "want"),
    [
        ("L", 51, (0.2, 0.2, 0.2)),
        ("RGB", (51, 102, 255), (0.2, 0.4, 1.0)),
        ("RGBA", (51, 102, 255, 255), (0.2, 0.4, 1.0)),
        ("RGBA", (51, 102, 255, 0), (0.0, 0.0, 0.0)),
        ("I;16", 13107, (0.2, 0.2, 0.2)),
        ("1", 1, (1.0, 1.0, 1.0)),
    ],
)
def test_pictures_of_every_kind_become_rgb_between_0_and_1(tmp_path, mode, pixel, want):
    Image.new(mode, (3, 2), pixel).save(tmp_path / "a.png")
    image = read_frame(tmp_path / "a.png")
    assert image.shape == (3, 2, 3)
    assert image.dtype == torch.float32
    assert torch.allclose(image, torch.tensor(want)[:, None, None].expand(3, 2, 3), atol=1e-4)


def test_palettes_and_jpeg_are_read(tmp_path):
    colour = Image.new("RGB", (8, 8), (200, 40, 40))
    colour.convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "a.png")
    colour.save(tmp_path / "b.jpg", quality=95)
    for name in ("a.png", "b.jpg"):
        assert (read_frame(tmp_path / name)[0] - 200 / 255).abs().max() < 0.03


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{", "cannot be read as JSON labels"),
        ([], 'must hold {"imageHeight"'),
        ({"points": [{"x": 1}]}, r'point 0 must be {"x": ..., "y": ...}, got {\'x\': 1}'),
        ({"points": [{"x": 1, "y": "a"}]}, "point 0 must be a finite number, got 'a'"),
        ({"points": [{"x": float("nan"), "y": 1}]}, "point 0 must be a finite number, got nan"),
        ({"points": [{"x": 12.1, "y": 1}]}, r"point 0 \(x 12.1, y 1\) is outside the frame of 12 x 8"),
        ({"points": [{"x": 1, "y": 2}, {"x": 1, "y": 2}]}, r"point 1 \(x 1, y 2\) is there twice"),
        (
            {"imageHeight": 12, "imageWidth": 8, "points": []},
            r"is for a frame of 12 x 8 \(rows x columns\), got 8 x 12",
        ),
    ],
)
def test_bad_labels_are_named_in_one_sentence(tmp_path, value, message):
    path = labels(tmp_path / "bad.json", value)
    with pytest.raises(FrameError, match=message) as error:
        read_points(path, (8, 12))
    assert "bad.json" in str(error.value)


def test_frames_and_labels_without_each_other_are_named(tmp_path):
    write(tmp_path)
    lost = tmp_path / "a/left/point_labels/000001.json"
    content = lost.read_text()
    lost.unlink()
    with pytest.raises(FrameError, match=r"000001.png has no labels: wanted .*000001.json"):
        find_point_frames(tmp_path)
    lost.write_text(content)
    (tmp_path / "a/left/images/000000.png").unlink()
    with pytest.raises(FrameError, match=r"000000.json has no frame"):
        find_point_frames(tmp_path)


def test_surgeries_are_never_split(tmp_path):
    for name in ("a", "b", "c"):
        write(tmp_path, name)
    items = find_point_frames(tmp_path)
    inside, outside = split_by_surgery(items, 1)
    assert [{i["surgery"] for i in part} for part in (inside, outside)] == [{"a", "b"}, {"c"}]
    assert {i["surgery"] for i in split_by_surgery(items, ["a"])[1]} == {"a"}
    with pytest.raises(FrameError, match="held_out must name surgeries among a, b, c, got z"):
        split_by_surgery(items, ["z"])
    with pytest.raises(FrameError, match="no surgery is left to train on: 3 there, 3 held out"):
        split_by_surgery(items, 3)
    with pytest.raises(FrameError, match="no frame of surgery 'z'"):
        find_point_frames(tmp_path, ["z"])


def test_plain_folders_and_single_files_are_frames_too(tmp_path):
    write(tmp_path / "deep")
    Image.new("RGB", (4, 4)).save(tmp_path / "still.jpg")
    assert [p.name for p in find_frames(tmp_path)] == ["still.jpg"]
    assert find_frames(tmp_path / "still.jpg") == [tmp_path / "still.jpg"]
    assert len(find_frames(tmp_path / "deep")) == 2
    Image.new("RGB", (4, 4)).save(tmp_path / "still.png")
    with pytest.raises(FrameError, match="would give results of the same name"):
        find_frames(tmp_path)
    with pytest.raises(FrameError, match="does not exist"):
        find_frames(tmp_path / "later")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FrameError, match="no frame in"):
        find_frames(tmp_path / "empty")


def test_bad_frames_are_noted_and_the_others_come(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "good.png")
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no picture")
    dataset = FrameDataset(tmp_path, lambda item: {"image": read_frame(item["image"])})
    said = []
    dataset.on_failure = lambda path, sentence: said.append((path.name, sentence))
    assert len(list(dataset)) == 1
    assert [name for name, _ in said] == ["empty.png", "text.png"]
    assert "the file is empty (0 bytes)" in said[0][1]
    assert "cannot be read as a PNG or JPEG picture" in said[1][1]


def test_16_bit_levels_are_not_cut_off(tmp_path):
    ramp = np.linspace(0, 65535, 16).astype(np.uint16).reshape(4, 4)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    assert np.allclose(read_frame(tmp_path / "a.png")[0].numpy(), ramp / 65535, atol=1e-6)
