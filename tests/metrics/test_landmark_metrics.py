"""Landmark metrics: counts, errors, what is missing, and their files."""

from __future__ import annotations

import csv
import json
import math

import pytest
import torch

from medsynth_ext.data.files import OutputError
from medsynth_ext.metrics import (
    LandmarkError,
    PointDetection,
    detection_rows,
    detection_scores,
    error_rows,
    write_rows,
    write_summary,
)

NOWHERE = [math.nan, math.nan]


def frames():
    """Three frames: two of three found and one too many; nothing found; nothing there and nothing found."""
    predictions = torch.tensor([[[0.0, 0.0], [5.0, 5.0], [50.0, 50.0]], [NOWHERE] * 3, [NOWHERE] * 3])
    labels = torch.tensor([[[0.0, 6.0], [5.0, 4.0], [20.0, 20.0]], [[1.0, 1.0], NOWHERE, NOWHERE], [NOWHERE] * 3])
    return predictions, labels


def test_counts_are_summed_over_frames_before_scores_are_taken():
    metric = PointDetection(6.0)
    metric(*frames())
    assert metric.counts().tolist() == [[2, 1, 1], [0, 0, 1], [0, 0, 0]]
    scores = metric.scores()
    assert scores["precision"] == pytest.approx(2 / 3)
    assert scores["sensitivity"] == pytest.approx(2 / 4)
    assert scores["f1"] == pytest.approx(4 / 7)
    assert metric.aggregate().item() == pytest.approx(4 / 7)


def test_frames_may_come_one_by_one_with_their_own_numbers_of_points():
    predictions, labels = frames()
    metric = PointDetection(6.0, score="sensitivity")
    metric([predictions[0], torch.zeros(0, 2)], [labels[0], torch.tensor([[1.0, 1.0]])])
    assert metric.counts().tolist() == [[2, 1, 1], [0, 0, 1]]
    assert metric.aggregate().item() == pytest.approx(0.5)
    metric.reset()
    with pytest.raises(ValueError, match="nothing was measured"):
        metric.scores()


def test_scores_without_points_are_zero():
    assert detection_scores(0, 0, 0) == {"precision": 0.0, "sensitivity": 0.0, "f1": 0.0}


def test_errors_are_millimetres_along_every_axis():
    metric = LandmarkError(spacing_mm=(0.5, 2.0), radii_mm=(1.0, 5.0))
    true = torch.tensor([[[10.0, 10.0], [20.0, 20.0]]])
    metric(true + torch.tensor([[[6.0, 2.0], [0.0, 0.25]]]), true)
    assert metric.errors().tolist() == [[5.0, 0.5]]
    scores = metric.scores()
    assert scores["mean_mm"] == 2.75
    assert scores["std_mm"] == 2.25
    assert (scores["within_1_mm"], scores["within_5_mm"]) == (0.5, 1.0)
    assert metric.aggregate().item() == 2.75


def test_every_case_may_have_its_own_spacing():
    metric = LandmarkError()
    true = torch.zeros(2, 1, 2)
    metric(true + torch.tensor([3.0, 4.0]), true, spacing_mm=torch.tensor([[1.0, 1.0], [2.0, 0.5]]))
    assert metric.errors().flatten().tolist() == pytest.approx([5.0, math.hypot(6.0, 2.0)])


def test_missing_predictions_fail_and_missing_labels_do_not_count():
    metric = LandmarkError(radii_mm=(2.0,))
    true = torch.tensor([[[0.0, 0.0], NOWHERE, [5.0, 5.0]]])
    metric(torch.tensor([[[0.0, 1.0], [3.0, 3.0], NOWHERE]]), true)
    scores = metric.scores()
    assert (scores["landmarks"], scores["missing"], scores["mean_mm"]) == (2, 1, 1.0)
    assert scores["within_2_mm"] == 0.5


def test_tables_hold_a_row_for_every_case(tmp_path):
    detection = PointDetection(6.0)
    detection(*frames())
    write_rows(tmp_path / "frames.csv", detection_rows(detection, ["a", "b", "c"]))
    with (tmp_path / "frames.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == ["a", "b", "c"]
    assert (rows[0]["true_positive"], rows[0]["f1"]) == ("2", str(4 / 6))

    error = LandmarkError()
    error(torch.tensor([[[0.0, 1.0], [3.0, 3.0], NOWHERE]]), torch.tensor([[[0.0, 0.0], NOWHERE, [5.0, 5.0]]]))
    write_rows(tmp_path / "errors.csv", error_rows(error, ["a"], ["head", "neck", "knee"]))
    lines = (tmp_path / "errors.csv").read_text().split()
    assert lines == ["case,landmark,error_mm", "a,head,1.0", "a,knee,"]


def test_summary_is_strict_json(tmp_path):
    write_summary(tmp_path / "new" / "summary.json", {"f1": 0.5, "mean_mm": math.nan, "list": [math.inf, 1]})
    text = (tmp_path / "new" / "summary.json").read_text()
    assert text.endswith("}\n")
    assert json.loads(text) == {"f1": 0.5, "mean_mm": None, "list": [None, 1]}


def test_bad_input_is_refused(tmp_path):
    with pytest.raises(ValueError, match="score must"):
        PointDetection(6.0, score="accuracy")
    with pytest.raises(ValueError, match="must both be"):
        LandmarkError()(torch.zeros(1, 2, 2), torch.zeros(1, 3, 2))
    with pytest.raises(ValueError, match="spacing_mm must be positive"):
        LandmarkError(spacing_mm=0.0)
    with pytest.raises(ValueError, match="radii_mm"):
        LandmarkError(radii_mm=(-1.0,))
    with pytest.raises(ValueError, match="spacing_mm must be a number"):
        LandmarkError()(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2), spacing_mm=(1.0, 1.0, 1.0))
    metric = PointDetection(6.0)
    metric(*frames())
    with pytest.raises(ValueError, match="cases must name 3, got 1"):
        detection_rows(metric, ["a"])
    with pytest.raises(ValueError, match="row 1 must have the columns"):
        write_rows(tmp_path / "x.csv", [{"a": 1}, {"b": 2}])
    with pytest.raises(OutputError, match="cannot be written"):
        write_summary(tmp_path, {})
