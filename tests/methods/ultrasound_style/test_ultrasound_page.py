"""The picture of the page: a row for each pair, one for real frames, two of drawn styles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from medsynth_ext.handlers.weights import WeightsError
from medsynth_ext.methods.ultrasound_style import StyleTransferNetwork
from medsynth_ext.methods.ultrasound_style.page import draw_page
from medsynth_ext.phantoms.ultrasound import ultrasound_frame

PAIRS = (("leg", 0, "pig", 3), ("pig", 1, "leg", 2))


def drawn(folder, **options):
    torch.manual_seed(0)
    network = StyleTransferNetwork(1, (4, 6, 8, 8, 8))
    torch.save({"codes": torch.randn(8, 34).half()}, folder / "styles.pt")
    load = lambda item: {"image": torch.tensor(np.asarray(Image.open(item["image"])) / 255.0).float()[None]}  # noqa: E731
    options = {"bank": folder / "styles.pt", "load": load, "pairs": PAIRS, "size": (32, 32), "scale": 1, **options}
    draw_page(folder / "page.png", network, **options)
    return np.asarray(Image.open(folder / "page.png"))


def test_each_row_shows_content_style_output_truth_and_error(tmp_path):
    page = drawn(tmp_path)
    assert page.shape == (4 * 32, 5 * 32, 3)
    style = ultrasound_frame(1_000_002, content="pig", machine=3, size=(32, 32)).image
    truth = ultrasound_frame(1_000_000, content="leg", machine=3, size=(32, 32)).image
    cells = [page[:32, 32 * k : 32 * (k + 1), 0] / 255 for k in range(5)]
    assert np.abs(cells[1] - style[0].numpy()).max() < 0.003
    assert np.abs(cells[3] - truth[0].numpy()).max() < 0.003
    assert np.abs(cells[4] - np.minimum(1, 2 * np.abs(cells[2] - cells[3]))).max() < 0.02
    outline = (page[:64, :32] == (255, 180, 40)).all(-1)
    assert outline.any()


def test_real_frames_have_a_row_of_their_own(tmp_path):
    (tmp_path / "real").mkdir()
    for n in range(2):
        Image.fromarray(np.full((32, 32), 60 + 100 * n, dtype=np.uint8)).save(tmp_path / "real" / f"{n}.png")
    page = drawn(tmp_path, style_dir=tmp_path / "real")
    assert page.shape == (5 * 32, 5 * 32, 3)
    assert (page[64:96, 32:64] == 60).all()
    assert (page[64:96, 96:128] == 160).all()


def test_a_bank_that_is_not_there_is_named_and_nothing_is_written(tmp_path):
    with pytest.raises(WeightsError, match=r"none\.pt does not exist"):
        drawn(tmp_path, bank=tmp_path / "none.pt")
    assert not (tmp_path / "page.png").exists()
