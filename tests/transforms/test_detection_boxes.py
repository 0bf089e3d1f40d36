"""Landmarks as boxes, for a program that knows only detections."""

from __future__ import annotations

import json

import numpy as np
import torch

from medsynth_ext.data.landmarks import Landmarks
from medsynth_ext.transforms import DetectionBoxesd

NAMES = ("first", "hidden", "last")
WORLD = np.array([[1.0, 2.0, 3.0], [np.nan] * 3, [-4.0, 5.0, 6.0]])
LANDMARKS = Landmarks(NAMES, WORLD / 2, spacing_mm=(2.0, 2.0, 2.0), world_mm=WORLD)


def test_boxes_lie_about_the_landmarks_that_were_found():
    made = DetectionBoxesd(edge_mm=3.0)({"box": torch.zeros(0, 6), "landmarks": LANDMARKS})
    assert made["box"].tolist() == [[-1.0, -2.0, 3.0, 3.0, 3.0, 3.0], [4.0, -5.0, 6.0, 3.0, 3.0, 3.0]]  # LPS
    assert made["label"].tolist() == [1, 3]
    assert made["centroids"] == [{"first": [1, 0, 1, 2]}, {"last": [3, -2, 2, 3]}]


def test_record_of_all_landmarks_is_json():
    made = DetectionBoxesd()({"box": torch.zeros(0, 6), "landmarks": LANDMARKS})
    record = json.loads(json.dumps(made["result"], allow_nan=False))
    assert list(record["landmarks"]["landmarks"]) == list(NAMES)
    states = [point["positionStatus"] for point in record["markups"]["markups"][0]["controlPoints"]]
    assert states == ["defined", "undefined", "defined"]


def test_item_that_asks_for_no_boxes_stays_as_it_is():
    item = {"landmarks": LANDMARKS}
    assert DetectionBoxesd()(item) == item


def test_nothing_found_gives_no_boxes():
    empty = Landmarks((), np.zeros((0, 2)), world_mm=np.zeros((0, 3)))
    made = DetectionBoxesd()({"box": torch.zeros(0, 6), "landmarks": empty})
    assert made["box"].shape == (0, 6)
    assert made["label"].shape == (0,)
    assert made["centroids"] == []
