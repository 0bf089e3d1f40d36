"""Frames with points through transforms: what moves the picture moves the points, and detections come back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, DivisiblePadd, Flipd, Resized

from medsynth_ext import ops
from medsynth_ext.data.point_frames import FrameError, find_point_frames, write_frame
from medsynth_ext.engines import sample_states
from medsynth_ext.transforms import DecodePointsd, LoadPointFramed, PlacePointsd, PointFrameAugmentation

POINTS = torch.tensor([[20.0, 31.0], [50.5, 70.25], [90.0, 40.0]])


@pytest.fixture
def item(tmp_path: Path) -> dict[str, str]:
    picture = ops.render_point_map(POINTS[None], torch.ones(1, 3, dtype=torch.bool), (100, 120), 3.0)[0]
    write_frame(tmp_path / "a/left", "000000", picture.expand(3, -1, -1), POINTS)
    return find_point_frames(tmp_path)[0]


def peaks(maps):
    points, score, count = ops.heatmap_peaks_nms(maps, threshold=0.5, radius=3.0, refine="dark")
    return points[:, 0], score[:, 0], count[:, 0]


def test_loading_pads_points_with_nan(item):
    data = LoadPointFramed("image", max_points=5)(item)
    assert data["image"].shape == (3, 100, 120)
    assert isinstance(data["image"], MetaTensor)
    assert torch.equal(data["points"][:3], POINTS)
    assert data["points"][3:].isnan().all()
    with pytest.raises(FrameError, match=r"must hold at most 2 points \(max_points\), got 3"):
        LoadPointFramed("image", max_points=2)(item)


def test_labels_beside_a_picture_are_read_only_when_wanted(item):
    alone = {"image": item["image"]}
    assert "points" not in LoadPointFramed("image")(alone)
    assert torch.equal(LoadPointFramed("image", beside=True)(alone)["points"][:3], POINTS)
    plain = Path(item["image"]).parents[1] / "stills/000000.png"  # not in the layout: those labels are not its own
    plain.parent.mkdir()
    plain.write_bytes(Path(item["image"]).read_bytes())
    assert "points" not in LoadPointFramed("image", beside=True)({"image": str(plain)})


@pytest.mark.parametrize("size", [(50, 60), (100, 120), (130, 90)])
@pytest.mark.parametrize("flip", [False, True])
def test_points_follow_the_picture_and_detections_come_back(item, size, flip):
    steps = [LoadPointFramed("image", max_points=4), Resized("image", size, mode="bilinear", anti_aliasing=True)]
    steps += [Flipd("image", [0, 1])] if flip else []
    data = Compose([*steps, DivisiblePadd("image", k=32, method="end")])(item)
    placed = PlacePointsd()(data)["points"]
    assert [n % 32 for n in data["image"].shape[1:]] == [0, 0]
    values = ops.sample_at_points(data["image"][None, :1].as_subclass(torch.Tensor), placed[None, :3].contiguous())
    assert values.min() > 0.85  # the picture's blobs are where the points are
    assert placed[3].isnan().all()
    valid = ~placed.isnan().any(-1)
    pred = ops.render_point_map(placed[None], valid[None], data["image"].shape[1:], 1.5)[0]
    found = DecodePointsd(decoder=peaks)({**data, "pred": pred})
    pair, distance = ops.match_points(found["pred_points"][None], POINTS[None], 1.0)
    assert sorted(pair[0].tolist()) == [0, 1, 2]
    assert distance.max() < 1e-2
    assert found["pred_scores"].shape == (3,)


def test_padding_never_reaches_the_decoder(item):
    data = Compose([LoadPointFramed("image"), DivisiblePadd("image", k=64, method="end")])(item)
    shapes = []

    def decoder(maps):
        shapes.append(tuple(maps.shape))
        return peaks(maps)

    DecodePointsd(decoder=decoder)({**data, "pred": torch.zeros(1, 128, 128)})
    assert shapes == [(1, 1, 100, 120)]
    with pytest.raises(TypeError, match="must be a MetaTensor as LoadPointFramed makes it"):
        DecodePointsd(decoder=decoder)({"image": torch.zeros(3, 8, 8), "pred": torch.zeros(1, 8, 8)})


def test_augmentation_moves_points_with_the_picture():
    points = torch.full((3, 5, 2), torch.nan)
    points[:, :4] = torch.tensor([[40.0, 60.0], [30.25, 90.5], [70.0, 30.0], [2.0, 2.0]])
    picture = ops.render_point_map(points, ~points.isnan().any(-1), (96, 128), 3.0).expand(-1, 3, -1, -1)
    still = PointFrameAugmentation(colour_prob=0.0, contrast_prob=0.0)
    moved, placed = still(picture, points, sample_states(0, 0, 3))
    again = ops.render_point_map(placed, ~placed.isnan().any(-1), (96, 128), 3.0)
    seen = torch.zeros_like(again)
    seen[:, :, 8:-8, 8:-8] = 1  # a blob that is cut by the border has lost its label but not all of its light
    assert ((moved[:, :1] - again) * seen).abs().max() < 0.05
    assert placed[:, 4].isnan().all()
    inside = placed[~placed.isnan().any(-1)]
    assert ((inside >= -0.5) & (inside <= torch.tensor([95.5, 127.5]))).all()
    assert not torch.allclose(placed[0, :3], points[0, :3])


def test_a_sample_is_augmented_alike_in_every_batch():
    image, points = torch.rand(4, 3, 32, 48), torch.rand(4, 6, 2) * 30
    augment = PointFrameAugmentation()
    x, p = augment(image, points, sample_states(3, 10, 4))
    y, q = augment(image[2:], points[2:], sample_states(3, 12, 2))
    assert torch.allclose(x[2:], y, atol=1e-6)
    assert torch.allclose(p[2:], q, equal_nan=True)
    z, _ = augment(image, points, sample_states(4, 10, 4))
    assert not torch.allclose(x, z)


def test_switched_off_it_changes_nothing():
    image, points = torch.rand(2, 3, 16, 24), torch.rand(2, 3, 2) * 15
    off = PointFrameAugmentation(flip_prob=0.0, rotate_prob=0.0, colour_prob=0.0, contrast_prob=0.0)
    same, still = off(image, points, sample_states(0, 0, 2))
    assert torch.allclose(same, image, atol=1e-5)
    assert torch.allclose(still, points, atol=1e-4)


def test_colours_change_by_the_strength_and_stay_in_range():
    image = torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    points = torch.full((64, 1, 2), torch.nan)
    colours = PointFrameAugmentation(flip_prob=0.0, rotate_prob=0.0, colour_prob=1.0, contrast_prob=1.0)
    changed, _ = colours(image, points, sample_states(0, 0, 64))
    assert changed.min() >= 0
    assert changed.max() <= 1
    shift = (changed.mean((1, 2, 3)) / image.mean((1, 2, 3))).log().abs()
    assert 0.05 < shift.mean() < 0.4
    grey = torch.full((1, 3, 4, 4), 0.4)
    hue_only, _ = colours(grey, points[:1], sample_states(5, 0, 1))
    assert hue_only.std((1,)).max() < 0.01  # grey has no hue: its channels stay alike


@pytest.mark.parametrize(("options", "message"), [({"flip_prob": 2}, "probabilities"), ({"strength": 1.0}, "strength")])
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        PointFrameAugmentation(**options)
