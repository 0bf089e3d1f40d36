from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from medsynth_ext.methods.synthseg import LabelTable

BRAIN = Path(__file__).parents[3] / "bundles" / "synthseg_brain_segmentation" / "configs" / "labels.json"
SMALL = {
    "generation_labels": [0, 14, 2, 3, 25, 41, 42, 57],
    "n_neutral": 2,
    "generation_classes": [0, 1, 2, 3, 2, 4, 5, 4],
    "segmentation_labels": [0, 14, 2, 3, 2, 41, 42, 41],
    "names": {"14": "third ventricle", "2": "left white matter"},
    "topological_classes": {"2": 1, "3": 1, "41": 2, "42": 2},
}


@pytest.fixture
def brain():
    return LabelTable.from_json(BRAIN)


def write(tmp_path, **changes):
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({k: v for k, v in (SMALL | changes).items() if v is not None}))
    return path


def test_small_table_by_hand(tmp_path):
    table = LabelTable.from_json(write(tmp_path))
    assert (table.n_classes, table.n_targets) == (6, 6)
    assert table.target_values == [0, 2, 3, 14, 41, 42]
    assert table.lut[[0, 14, 2, 57]].tolist() == [0, 1, 2, 7]
    assert table.lut[1] == -1
    assert table.flip.tolist() == [0, 1, 5, 6, 7, 2, 3, 4]
    assert table.target_of.tolist() == [0, 3, 1, 2, 1, 4, 5, 4]
    assert table.target_flip == [0, 4, 5, 3, 1, 2]
    assert table.target_topology == [0, 1, 1, 0, 2, 2]
    assert table.target_names == [
        "background",
        "left white matter",
        "label 3",
        "third ventricle",
        "label 41",
        "label 42",
    ]


def test_brain_table_is_the_published_one(brain):
    assert len(brain.generation_labels) == 54
    assert (brain.n_neutral, brain.n_classes, brain.n_targets) == (18, 48, 33)
    predicted = dict(zip(brain.generation_labels, brain.segmentation_labels, strict=True))
    assert {v for v, p in predicted.items() if p == 0} == {
        *(0, 72, 85, 30, 62),
        *(502, 506, 507, 508, 509, 511, 512, 514, 515, 516, 530),
    }
    assert {v: p for v, p in predicted.items() if p not in (0, v)} == {25: 2, 57: 41, 136: 4, 137: 5, 163: 43, 164: 44}
    classes = dict(zip(brain.generation_labels, brain.generation_classes, strict=True))
    shared = [{v for v, c in classes.items() if c == k} for k in range(brain.n_classes)]
    assert [s for s in shared if len(s) > 1] == [{4, 5}, {17, 18}, {136, 137}, {43, 44}, {53, 54}, {163, 164}]
    assert set(brain.generation_labels) == set(brain.names)


def test_mirrored_names_swap_left_and_right(brain):
    for i, j in enumerate(brain.target_flip):
        name = brain.target_names[i]
        swapped = name.replace("left", "?").replace("right", "left").replace("?", "right")
        assert brain.target_names[j] == swapped


def test_mirroring_twice_is_identity(brain):
    assert torch.equal(brain.flip.long()[brain.flip.long()], torch.arange(54))
    assert [brain.target_flip[k] for k in brain.target_flip] == list(range(33))


def test_prediction_of_the_mirrored_label_is_the_mirrored_prediction(brain):
    mirrored = torch.tensor(brain.target_flip)[brain.target_of.long()]
    assert torch.equal(brain.target_of.long()[brain.flip.long()], mirrored)


def test_every_structure_but_csf_has_a_topological_class(brain):
    without = [v for v, c in zip(brain.target_values, brain.target_topology, strict=True) if c == 0]
    assert without == [0, 24]
    groups = {frozenset(v for v, c in brain.topological_classes.items() if c == k) for k in range(1, 5)}
    assert groups == {frozenset(g) for g in ((2, 3, 4, 5), (41, 42, 43, 44), (7, 8), (46, 47))}


def test_table_without_sides_mirrors_to_itself(tmp_path):
    table = LabelTable([0, 1, 2], 3, [0, 1, 2], [0, 1, 2])
    assert table.target_flip == [0, 1, 2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_neutral": None}, "the key n_neutral is missing"),
        ({"spare": 1}, "the key spare is unknown"),
        ({"generation_classes": [0, 1]}, r"one entry per generation label \(8\), got 2"),
        ({"generation_labels": [0, 14, 2, 3, 25, 41, 42, 2]}, "got 2 more than once"),
        ({"generation_labels": [0, 14, 2, 3, 25, 41, 42, -7]}, "integers from 0 on, got -7"),
        ({"generation_labels": [0, 14, 2, 3, 25, 41, 42, 1.5]}, "integers from 0 on, got 1.5"),
        ({"generation_labels": [9, 14, 2, 3, 25, 41, 42, 57]}, "must be background, 0 predicted as 0, got 9"),
        ({"n_neutral": 3}, "even number of left and right"),
        ({"n_neutral": 0}, "n_neutral must be 1 to 8"),
        ({"n_neutral": "2"}, "n_neutral must be an integer"),
        ({"generation_classes": [0, 1, 2, 3, 2, 4, 6, 4]}, "5 is missing"),
        ({"segmentation_labels": [0, 14, 2, 3, 2, 41, 41, 41]}, "predicted in pairs"),
        ({"topological_classes": {"99": 1}}, "name 99"),
        ({"names": {"two": "x"}}, "names must map label values"),
        ({"names": ["x"]}, "names must be an object"),
        ({"generation_labels": "0"}, "generation_labels must be a list"),
    ],
)
def test_wrong_table_is_refused_with_file_and_reason(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message) as error:
        LabelTable.from_json(write(tmp_path, **changes))
    assert "labels.json" in str(error.value)


def test_missing_and_broken_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.json does not exist"):
        LabelTable.from_json(tmp_path / "nothing.json")
    (tmp_path / "half.json").write_text('{"generation_labels": [0,')
    with pytest.raises(ValueError, match=r"half\.json is not JSON"):
        LabelTable.from_json(tmp_path / "half.json")
    (tmp_path / "list.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match="wanted an object"):
        LabelTable.from_json(tmp_path / "list.json")
