from __future__ import annotations

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from PIL import Image

from medsynth_ext.handlers import ProgressBar, SamplePictures, TimeLimit, scalars
from medsynth_ext.handlers import time_limit as time_limit_module
from medsynth_ext.handlers.sample_pictures import slice_grid


def test_scalars_are_the_figures_of_the_first_sample():
    output = [{"loss": torch.tensor(1.5), "pred": torch.zeros(3, 4)}, {"loss": torch.tensor(9.0)}]
    assert scalars(output) == {"loss": 1.5}
    assert scalars({"a": 2, "b": torch.zeros(2)}) == {"a": 2.0}


def test_the_bar_shows_the_terms(capsys):
    engine = Engine(lambda engine, batch: {"loss": 0.25, "dice": 0.5})
    ProgressBar("learning").attach(engine)
    engine.run(range(3), max_epochs=1)
    shown = capsys.readouterr().err
    assert "learning" in shown
    assert "loss=0.25" in shown
    assert "dice=0.5" in shown


def test_time_limit_stops_when_another_epoch_would_not_fit(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time_limit_module.time, "monotonic", lambda: clock[0])
    engine = Engine(lambda engine, batch: clock.__setitem__(0, clock[0] + 10))
    TimeLimit(minutes=1).attach(engine)
    engine.run(range(2), max_epochs=100)  # 20 s per epoch, so three end at 60 s
    assert engine.state.epoch == 3


def test_time_limit_must_be_positive():
    with pytest.raises(ValueError, match="minutes must be positive, got 0"):
        TimeLimit(0)


def test_a_picture_per_interval_is_written(tmp_path):
    sample = {"image": torch.rand(1, 6, 8, 10), "label": torch.ones(1, 6, 8, 10), "pred": torch.rand(4, 6, 8, 10)}
    engine = Engine(lambda engine, batch: [sample])
    SamplePictures(tmp_path, interval=2).attach(engine)
    engine.run([0], max_epochs=4)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["epoch=000002.png", "epoch=000004.png"]
    picture = np.asarray(Image.open(tmp_path / "epoch=000002.png"))
    # Columns are the planes (8, 10), (6, 10) and (6, 8) turned upright, two pixels apart; three rows.
    assert picture.shape == (3 * 10, (8 + 2) + (6 + 2) + (6 + 2), 3)


def test_labels_have_different_colours_and_background_is_black():
    labels = torch.arange(33).reshape(1, 3, 11)
    grid = slice_grid(torch.zeros(3, 11), labels)
    colours = {tuple(pixel) for pixel in grid[11:, :3].reshape(-1, 3)}
    assert len(colours) == 33
    assert (0, 0, 0) in colours


def test_the_head_stands_upright():
    image = torch.zeros(4, 4, 6)
    image[:, :, 5] = 1  # the top in RAS
    grid = slice_grid(image)
    assert grid[0, 0, 0] == 255  # the first plane holds the axes (anterior, superior)
    assert grid[5, 0, 0] == 0
