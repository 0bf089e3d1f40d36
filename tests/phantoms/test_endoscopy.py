"""The endoscopy phantom: pure function of its seed, exact labels, two domains and what lies between."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from medsynth_ext.phantoms.endoscopy import endoscopy_recording, write_recordings
from medsynth_ext.phantoms.endoscopy_scene import draw_scene
from medsynth_ext.phantoms.endoscopy_view import View

SMALL = {"frames": 6, "size": (72, 128)}


@pytest.fixture(scope="module")
def sim():
    return endoscopy_recording(3, domain="sim", **SMALL)


@pytest.fixture(scope="module")
def intraop():
    return endoscopy_recording(3, domain="intraop", **SMALL)


def same(a, b) -> bool:
    pairs = zip(a, b, strict=True)
    return all(torch.equal(x.image, y.image) and torch.equal(x.points, y.points) for x, y in pairs)


def test_a_seed_gives_one_recording_and_another_seed_another(sim):
    assert same(sim, endoscopy_recording(3, domain="sim", **SMALL))
    assert not same(sim, endoscopy_recording(4, domain="sim", **SMALL))


def test_pictures_and_points_have_their_forms(sim, intraop):
    for frame in (*sim, *intraop):
        assert frame.image.shape == (3, 72, 128)
        assert frame.image.dtype == frame.points.dtype == torch.float32
        assert frame.image.min() >= 0
        assert frame.image.max() <= 1
        assert frame.points.shape[1] == 2
        assert len(frame.points) <= 40
        assert (frame.points >= 0).all()
        assert (frame.points <= torch.tensor([71.0, 127.0])).all()


def test_without_a_gap_surgery_is_the_simulator_pixel_for_pixel(sim):
    assert same(sim, endoscopy_recording(3, domain="intraop", gap=0.0, **SMALL))


def test_the_gap_grows_steadily_and_leaves_the_labels(sim, intraop):
    half = endoscopy_recording(3, domain="intraop", gap=0.5, **SMALL)
    near, far = ((a.image - sim[-1].image).abs().mean() for a in (half[-1], intraop[-1]))
    assert 0.02 < near < far
    assert torch.equal(intraop[-1].points, sim[-1].points)


def test_surgery_is_darker_at_the_corners_rougher_and_redder_than_the_simulator(sim, intraop):
    def rough(frames):
        return torch.stack([f.image.diff(dim=2).abs().mean() for f in frames]).mean()

    def mean(frames):
        return torch.stack([f.image for f in frames]).mean((0, 2, 3))

    assert rough(intraop) > 1.3 * rough(sim)
    assert mean(intraop).sum() < mean(sim).sum()
    assert mean(intraop)[0] / mean(intraop)[1:].mean() > mean(sim)[0] / mean(sim)[1:].mean()


def test_neighbouring_frames_are_alike_and_sutures_become_more(sim):
    steps = [(a.image - b.image).abs().mean() for a, b in pairwise(sim)]
    other = endoscopy_recording(5, domain="sim", **SMALL)
    assert max(steps) < (sim[0].image - other[0].image).abs().mean()
    counts = [max(len(f.points) for f in endoscopy_recording(s, domain="sim", **SMALL)) for s in range(3)]
    assert max(counts) >= 10


def test_recordings_of_a_site_share_the_endoscope_and_nothing_else():
    """Light and noise go with the site, valve, instruments and the camera's path with the seed."""
    first, again, other = (
        endoscopy_recording(seed, domain="intraop", site=site, frames=3, size=(36, 64))
        for seed, site in ((3, 7), (4, 7), (3, 8))
    )
    assert not torch.equal(first[-1].points, again[-1].points)
    assert torch.equal(first[-1].points, other[-1].points)
    assert not torch.equal(first[-1].image, other[-1].image)


def test_a_camera_of_its_own_decides_light_colours_blur_and_noise():
    def view(seed: int, site: int) -> View:
        rng, camera = np.random.default_rng(seed), np.random.default_rng(site)
        return View(scene, rng, camera=camera, surgery=1.0, size=(36, 64))

    scene = draw_scene(np.random.default_rng(0), surgery=1.0, scale=0.2)
    first, again, other = view(3, 7), view(4, 7), view(3, 8)
    for name in ("exposure", "blur", "noise"):
        assert getattr(first, name) == getattr(again, name) != getattr(other, name)
    assert torch.equal(first.balance, again.balance)
    assert torch.equal(first.vignette, again.vignette)
    assert np.array_equal(first.path.phase, other.path.phase)
    assert not np.array_equal(first.path.phase, again.path.phase)


def test_labels_lie_in_the_dimples_that_threads_make():
    """A point is darker than the tissue around it, in nearly every frame: the entry of a thread is a pit."""
    darker = []
    for seed in (1, 3):
        for frame in endoscopy_recording(seed, domain="sim", frames=3, size=(288, 512))[1:]:
            grey = frame.image.mean(0)
            ring = torch.nn.functional.avg_pool2d(grey[None, None], 25, 1, 12)[0, 0]
            spot = torch.nn.functional.avg_pool2d(grey[None, None], 3, 1, 1)[0, 0]
            rows, columns = frame.points.round().long().T
            darker += (spot[rows, columns] < ring[rows, columns] - 0.02).tolist()
    assert len(darker) > 20
    assert np.mean(darker) > 0.85


def test_points_scale_with_the_size_of_the_picture():
    large = endoscopy_recording(1, domain="sim", frames=2, size=(144, 256))[1].points
    small = endoscopy_recording(1, domain="sim", frames=2, size=(72, 128))[1].points
    assert len(large) == len(small) > 0
    assert ((large + 0.5) / 2 - 0.5 - small).abs().max() < 1e-3


def test_files_have_the_layout_of_the_challenge(sim, tmp_path):
    write_recordings(tmp_path, {"surgery_a": sim[:2]})
    video = tmp_path / "surgery_a/video"
    assert sorted(p.name for p in (video / "images").iterdir()) == ["000000.png", "000001.png"]
    labels = json.loads((video / "point_labels/000001.json").read_text())
    assert (labels["imageHeight"], labels["imageWidth"]) == (72, 128)
    assert len(labels["points"]) == len(sim[1].points)
    pixels = np.asarray(Image.open(video / "images/000001.png")) / 255
    assert np.abs(np.moveaxis(pixels, -1, 0) - sim[1].image.numpy()).max() < 1 / 500


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"domain": "real"}, "domain must be one of sim, intraop, got 'real'"),
        ({"gap": 1.5}, r"gap must be in \[0, 1\], got 1.5"),
        ({"frames": 0}, "frames must be at least 1, got 0"),
        ({"size": (16, 64)}, r"size must be rows and columns of at least 32, got \(16, 64\)"),
    ],
)
def test_bad_arguments_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        endoscopy_recording(0, **{"domain": "sim", "frames": 1, "size": (64, 64)} | change)
