"""Whole volumes in windows: the same values as in one piece, within a budget, without seams."""

from __future__ import annotations

import logging

import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor, nn

from medsynth_ext.inferers import VolumeInferer, seam_steps
from medsynth_ext.inferers.memory import peak_bytes


@pytest.mark.parametrize("mode", ["constant", "gaussian"])
def test_a_pointwise_network_gives_what_it_gives_on_the_whole(mode: str) -> None:
    image = torch.randn(2, 1, 21, 17, 30)
    network = nn.Conv3d(1, 3, 1)
    inferer = VolumeInferer((8, 8, 8), mode=mode, progress=False)
    with torch.no_grad():
        assert torch.allclose(inferer(image, network), network(image), atol=1e-5)


def test_a_volume_smaller_than_the_window_is_padded_with_its_border() -> None:
    image = torch.full((1, 1, 5, 12, 6), 3.0)
    seen = []

    def network(windows: Tensor) -> Tensor:
        seen.append(windows.clone())
        return windows

    result = VolumeInferer((8, 8, 8), progress=False)(image, network)
    assert torch.allclose(result, image)
    assert all(w.shape[2:] == (8, 8, 8) and (w == 3).all() for w in seen[1:])  # the first one measures the cost


def test_the_metadata_of_the_input_are_kept() -> None:
    image = MetaTensor(torch.rand(1, 1, 10, 10, 10), affine=torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0])))
    result = VolumeInferer((8, 8, 8), progress=False)(image, nn.Conv3d(1, 1, 1).requires_grad_(False))
    assert isinstance(result, MetaTensor)
    assert torch.equal(result.affine, image.affine)


def test_the_budget_decides_how_many_windows_go_through_at_once() -> None:
    network = nn.Sequential(nn.Conv3d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv3d(8, 1, 3, padding=1))
    image = torch.rand(1, 1, 70, 40, 40)
    batches = []

    def watched(windows: Tensor) -> Tensor:
        batches.append(len(windows))
        return network(windows)

    window = (16, 16, 16)
    cost = peak_bytes(lambda: network(torch.zeros(1, 1, *window)))
    held = 2 * 70 * 40**2 * 4
    outputs = []
    for windows in (1, 3):
        batches.clear()
        budget = (held + (windows + 0.5) * cost) / 2**30
        with torch.no_grad():
            outputs.append(VolumeInferer(window, memory_gib=budget, windows_at_once=8, progress=False)(image, watched))
        assert max(batches) == windows
    assert torch.allclose(*outputs, atol=1e-5)


def test_a_budget_that_one_window_exceeds_is_said_with_its_numbers(caplog: pytest.LogCaptureFixture) -> None:
    inferer = VolumeInferer((16, 16, 16), memory_gib=1e-6, progress=False)
    with caplog.at_level(logging.WARNING):
        inferer(torch.zeros(1, 1, 20, 20, 20), nn.Conv3d(1, 1, 1).requires_grad_(False))
    assert "needs 0.00 GiB even with one window at a time, more than memory_gib=1e-06" in caplog.text


def test_the_peak_counts_what_lives_at_one_time() -> None:
    def chain() -> Tensor:
        x = torch.ones(1000)
        for _ in range(5):
            x = x + 1
        return x

    assert peak_bytes(chain) == 2 * 4000
    assert peak_bytes(lambda: [torch.ones(1000) for _ in range(5)]) == 5 * 4000


def test_windows_that_disagree_leave_a_seam_that_is_measured_and_blending_lowers_it() -> None:
    image = torch.linspace(0, 1, 48).view(1, 1, 48, 1, 1).expand(1, 1, 48, 48, 48).contiguous()
    count = [0]

    def disagreeing(windows: Tensor) -> Tensor:
        count[0] += len(windows)
        shift = torch.arange(count[0] - len(windows), count[0]).remainder(2).view(-1, 1, 1, 1, 1)
        return windows + 0.5 * shift

    hard = VolumeInferer((16, 16, 16), overlap=0.0, mode="constant", progress=False)
    soft = VolumeInferer((16, 16, 16), overlap=0.5, mode="gaussian", progress=False)
    steps = []
    for inferer in (hard, soft):
        count[0] = 0
        result = inferer(image, disagreeing)[0, 0]
        steps.append(seam_steps(result, inferer.borders((48, 48, 48))))
    assert steps[0].at_borders > 0.2
    assert abs(steps[0].elsewhere) < 0.05
    assert abs(steps[1].at_borders) < 0.05 * steps[0].at_borders


def test_a_smooth_result_has_no_seam() -> None:
    inferer = VolumeInferer((16, 16, 16), progress=False)
    image = torch.rand(1, 1, 40, 40, 40)
    with torch.no_grad():
        result = inferer(image, nn.Conv3d(1, 1, 1))
    found = seam_steps(result[0, 0], inferer.borders((40, 40, 40)))
    assert abs(found.at_borders - found.elsewhere) < 0.02


def test_borders_are_where_windows_begin_and_end_inside() -> None:
    inferer = VolumeInferer((8, 8, 8), overlap=0.5)
    assert inferer.borders((16, 8, 4)) == [[4, 8, 12], [], []]
    with pytest.raises(ValueError, match="there is no seam to measure"):
        seam_steps(torch.zeros(8, 8, 4), inferer.borders((8, 8, 4)))


def test_a_bar_counts_the_windows(capsys: pytest.CaptureFixture[str]) -> None:
    VolumeInferer((8, 8, 8))(torch.zeros(1, 1, 16, 16, 16), nn.Conv3d(1, 1, 1).requires_grad_(False))
    assert "/27 [" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": (0, 8, 8)}, "window must be positive"),
        ({"window": (8, 8, 8), "overlap": 1.0}, r"overlap must be in \[0, 1\), got 1.0"),
        ({"window": (8, 8, 8), "mode": "linear"}, "mode must be one of constant, gaussian, got 'linear'"),
        ({"window": (8, 8, 8), "memory_gib": 0}, "memory_gib and windows_at_once must be positive"),
    ],
)
def test_wrong_settings_are_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VolumeInferer(**options)


def test_an_image_with_other_axes_is_refused() -> None:
    with pytest.raises(ValueError, match="the window has 3 axes"):
        VolumeInferer((8, 8, 8))(torch.zeros(1, 1, 16, 16), nn.Identity())
