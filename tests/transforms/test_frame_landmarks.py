"""Points of a frame as landmarks."""

from __future__ import annotations

import numpy as np
import torch
from monai.data import MetaTensor

from medsynth_ext.transforms import FrameLandmarksd


def test_points_keep_their_pixels_and_get_a_place_and_scores():
    meta = {"filename_or_obj": "/frames/000012.png", "frame_size": (20, 30)}
    item = {
        "image": MetaTensor(torch.zeros(3, 8, 8), meta=meta),
        "pred_points": torch.tensor([[1.0, 2.5], [3.0, 4.0]]),
        "pred_scores": torch.tensor([0.9, 0.5], dtype=torch.float64),
    }
    landmarks = FrameLandmarksd()(item)["landmarks"]
    assert landmarks.names == ("point 1", "point 2")
    assert np.array_equal(landmarks.index, [[1.0, 2.5], [3.0, 4.0]])
    assert np.array_equal(landmarks.world_mm, [[-2.5, -1.0, 0.0], [-4.0, -3.0, 0.0]])  # RAS
    assert (landmarks.image, landmarks.size, landmarks.notes["scores"]) == ("000012.png", (20, 30), [0.9, 0.5])


def test_frame_without_points_has_no_landmarks():
    image = MetaTensor(torch.zeros(3, 8, 8), meta={"filename_or_obj": "a.png", "frame_size": (8, 8)})
    made = FrameLandmarksd()({"image": image, "pred_points": torch.zeros(0, 2), "pred_scores": torch.zeros(0)})
    assert made["landmarks"].names == ()
