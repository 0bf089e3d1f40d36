"""The speckle phantom: physics of the pulse, exact masks, one anatomy under many machines."""

from __future__ import annotations

import csv
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from medsynth_ext.phantoms.ultrasound import taking_turns, ultrasound_anatomy, ultrasound_frame, write_frames
from medsynth_ext.phantoms.ultrasound_anatomy import CONTENTS, TISSUES
from medsynth_ext.phantoms.ultrasound_machines import MACHINES, OBSERVED, UNOBSERVED, Machine
from medsynth_ext.phantoms.ultrasound_rendering import beam_grid, pulse_echo, render_tissues, scan_convert

SIZE = (48, 48)
PLAIN = Machine(2.0, 4.0, spread=0.0, noise=0.0)


def echo_of_a_point(machine: Machine, row: int = 32, size: int = 65) -> torch.Tensor:
    field = torch.zeros(size, size, dtype=torch.complex64)
    field[row, size // 2] = 1
    return pulse_echo(field, machine).abs()


def full_width(profile: torch.Tensor) -> float:
    """Width at half maximum of a Gaussian, from its second moment."""
    place = torch.arange(len(profile)) - profile.argmax()
    return 2 * math.sqrt(2 * math.log(2)) * float(((profile * place**2).sum() / profile.sum()).sqrt())


def test_a_point_is_seen_as_the_pulse_with_its_widths():
    seen = echo_of_a_point(replace(PLAIN, axial_px=3.0, lateral_px=6.0))
    assert full_width(seen[:, 32]) == pytest.approx(3.0, rel=0.02)
    assert full_width(seen[32]) == pytest.approx(6.0, rel=0.02)
    assert seen.argmax() == 32 * 65 + 32
    assert float((seen**2).sum()) == pytest.approx(1.0, rel=1e-3)  # unit energy
    separable = seen[:, 32:33] * seen[32:33] / seen[32, 32]
    assert torch.allclose(seen, separable, atol=1e-5)


def test_the_pulse_widens_away_from_the_focus():
    machine = replace(PLAIN, lateral_px=4.0, focus=0.5, spread=1.0)
    near, focus, far = (echo_of_a_point(machine, row) for row in (4, 32, 60))
    assert full_width(focus[32]) == pytest.approx(4.0, rel=0.03)
    assert full_width(far[60]) == pytest.approx(full_width(near[4]), rel=0.05)
    assert full_width(far[60]) == pytest.approx(4.0 * (1 + 28 / 32.5), rel=0.05)


def test_a_smooth_field_sends_no_echo_but_its_edge_does():
    field = torch.zeros(64, 16, dtype=torch.complex64)
    field[20:44] = 1
    machine = replace(PLAIN, axial_px=4.0, lateral_px=1.5, wavelength=0.5)
    seen = pulse_echo(field, machine).abs()[:, 8]
    assert seen[20] > 20 * seen[32]


def test_speckle_of_even_tissue_is_rayleigh_before_compression():
    generator = torch.Generator().manual_seed(0)
    parts = torch.randn(2, 256, 256, generator=generator)
    envelope = pulse_echo(torch.complex(parts[0], parts[1]), PLAIN).abs()[32:-32, 32:-32]
    assert float(envelope.mean() / envelope.std()) == pytest.approx(1.913, rel=0.03)


def test_a_frame_is_a_function_of_its_arguments():
    first = ultrasound_frame(3, content="pig", machine=1, size=SIZE)
    again = ultrasound_frame(3, content="pig", machine=1, size=SIZE)
    other = ultrasound_frame(4, content="pig", machine=1, size=SIZE)
    assert torch.equal(first.image, again.image)
    assert not torch.equal(first.image, other.image)
    assert first.image.shape == (1, *SIZE)
    assert first.image.dtype == torch.float32
    assert 0 <= first.image.min() < first.image.max() <= 1


def test_machines_change_the_picture_and_never_the_masks():
    frames = [ultrasound_frame(5, content="leg", machine=m, size=SIZE) for m in range(len(MACHINES))]
    assert all(torch.equal(frame.labels, frames[0].labels) for frame in frames)
    distance = [float((a.image - b.image).abs().mean()) for a in frames for b in frames if a is not b]
    assert min(distance) > 0.03
    assert set(OBSERVED) | set(UNOBSERVED) == set(range(len(MACHINES)))
    assert not set(OBSERVED) & set(UNOBSERVED)


@pytest.mark.parametrize("content", list(CONTENTS))
def test_vessels_are_dark_and_labelled_as_blood(content):
    blood = list(TISSUES).index("blood")
    for seed in range(4):
        anatomy = ultrasound_anatomy(seed, content=content, size=(96, 96))
        assert torch.equal(anatomy.labels > 0, anatomy.tissues == blood)
        assert set(anatomy.labels.unique().tolist()) <= {0, 1, 2}
        image = render_tissues(anatomy.tissues, MACHINES[0], seed)
        wall = F.max_pool2d((anatomy.labels == 0).float()[None], 9, 1, 4)[0] > 0
        if (~wall).any():
            assert image[~wall].mean() < 0.5 * image[anatomy.labels == 0].mean()


def test_leg_and_pig_have_vessels_and_breast_a_mass():
    for content in ("leg", "pig"):
        found = [ultrasound_anatomy(s, content=content, size=SIZE).labels.unique().tolist() for s in range(12)]
        assert any(1 in labels for labels in found)
        assert any(2 in labels for labels in found)
        assert sum(len(labels) > 1 for labels in found) >= 11
    mass = list(TISSUES).index("mass")
    assert all((ultrasound_anatomy(s, content="breast", size=SIZE).tissues == mass).any() for s in range(5))


def test_a_mass_throws_a_shadow():
    tissues = torch.full((96, 64), list(TISSUES).index("gland"), dtype=torch.uint8)
    tissues[30:60, 20:44] = list(TISSUES).index("mass")
    image = render_tissues(tissues, PLAIN, 0)
    assert image[66:90, 24:40].mean() < image[66:90, :14].mean() - 0.1


def test_scan_conversion_undoes_the_beams_and_is_black_outside():
    y, x = torch.meshgrid(torch.linspace(0, 1, 96), torch.linspace(-0.5, 0.5, 96), indexing="ij")
    picture = 0.5 + 0.3 * torch.sin(6 * x) * torch.cos(5 * y)
    beams = F.grid_sample(picture[None, None], beam_grid(96, 96, 60)[None], padding_mode="border", align_corners=False)[
        0, 0
    ]
    back = scan_convert(beams, 60)
    inside = back > 0
    assert inside[50:, 40:56].all()
    assert not inside[:6, :16].any()
    assert (back - picture)[inside].abs().mean() < 0.01


def test_a_convex_probe_labels_only_what_it_sees():
    frame = ultrasound_frame(2, content="leg", machine=0, size=SIZE, sector_deg=40)
    assert (frame.labels[frame.image == 0]).float().mean() < 0.5
    dark = scan_convert(torch.ones(SIZE), 40) == 0
    assert dark.any()
    assert (frame.labels[0][dark] == 0).all()
    assert (frame.image[0][dark] == 0).all()


def test_written_frames_have_masks_and_a_table(tmp_path):
    files = write_frames(tmp_path, count=24, size=(32, 32))
    with (tmp_path / "frames.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == [path.name for path in files]
    pairs = {(row["content"], row["machine"]) for row in rows}
    assert len(pairs) == 24  # every content under every machine
    labels = np.asarray(Image.open(tmp_path / "labels" / files[0].name))
    assert labels.shape == (32, 32)
    assert labels.max() <= 2


@pytest.mark.parametrize("contents", [("leg",), ("leg", "pig"), tuple(CONTENTS)])
def test_every_content_is_seen_by_every_machine_once_in_a_turn(contents):
    count = len(contents) * len(OBSERVED)
    assert len({taking_turns(n, contents, OBSERVED) for n in range(7, 7 + count)}) == count


def test_what_is_not_there_is_named():
    with pytest.raises(ValueError, match="content must be one of leg, pig, breast, nerve, got 'arm'"):
        ultrasound_anatomy(0, content="arm")
    with pytest.raises(ValueError, match="machine must be 0 to 7, got 8"):
        ultrasound_frame(0, content="leg", machine=8)
    with pytest.raises(ValueError, match="at least 16"):
        ultrasound_anatomy(0, content="leg", size=(8, 64))
    with pytest.raises(ValueError, match="below 180"):
        ultrasound_frame(0, content="leg", machine=0, sector_deg=180)
