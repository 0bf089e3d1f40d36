"""Landmark files: what is written is read, and what is wrong is said."""

from __future__ import annotations

import json

import jsonschema
import numpy as np
import pytest

from medsynth_ext.data.landmark_files import read_landmarks, write_landmarks
from medsynth_ext.data.landmark_tables import read_landmark_table, write_landmark_table
from medsynth_ext.data.landmarks import LandmarkFileError, Landmarks
from medsynth_ext.data.markups import read_markups, write_markups

NAMES = ("wrist", "tip", "joint")


def plane() -> Landmarks:
    index = np.array([[10.25, 3.5], [np.nan, np.nan], [0.0, 7.125]])
    world = np.column_stack([-index[:, 1] * 0.5, np.zeros(3), -index[:, 0] * 0.4])
    return Landmarks(
        NAMES,
        index,
        spacing_mm=(0.4, 0.5),
        world_mm=np.where(np.isnan(index).any(1)[:, None], np.nan, world),
        spread=np.array([0.5, np.nan, 1.25]),
        image="hand.png",
        size=(20, 30),
        notes={"checked": True},
    )


def same(a, b) -> bool:
    return (a is None and b is None) or np.allclose(a, b, atol=1e-4, equal_nan=True)


def test_json_gives_back_every_field(tmp_path) -> None:
    write_landmarks(tmp_path / "a.json", plane())
    found = read_landmarks(tmp_path / "a.json")
    assert (found.names, found.spacing_mm, found.image, found.size) == (NAMES, (0.4, 0.5), "hand.png", (20, 30))
    assert found.notes == {"checked": True}
    for name in ("index", "world_mm", "spread", "mm"):
        assert same(getattr(found, name), getattr(plane(), name)), name
    assert found.visible.tolist() == [True, False, True]


def test_json_holds_pixels_and_millimetres_by_name(tmp_path) -> None:
    write_landmarks(tmp_path / "a.json", plane())
    record = json.loads((tmp_path / "a.json").read_text())
    assert record["axes"] == ["y", "x"]
    assert record["landmarks"]["wrist"] == {
        "index": [10.25, 3.5],
        "mm": [4.1, 1.75],
        "world_mm": [-1.75, 0.0, -4.1],
        "spread": 0.5,
    }
    assert record["landmarks"]["tip"]["index"] is None
    assert record["world"] == "RAS"


def test_a_hand_made_file_needs_only_the_index(tmp_path) -> None:
    text = {"landmarks": {"a": {"index": None}, "b": {"index": [1, 2, 3]}}, "axes": ["z", "y", "x"]}
    (tmp_path / "a.json").write_text(json.dumps(text))
    found = read_landmarks(tmp_path / "a.json")
    assert found.index.shape == (2, 3)
    assert found.spacing_mm is None
    assert found.mm is None
    assert found.visible.tolist() == [False, True]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "must hold a JSON object, got list"),
        ("{}", "must hold 'landmarks'"),
        ('{"landmarks": {"a": [1, 2]}}', "'a' must be an object with 'index'"),
        ('{"landmarks": {"a": {"index": [1]}}}', "'a' must have 2 or 3 finite numbers or null"),
        ('{"landmarks": {"a": {"index": [1, NaN]}}}', "'a' must have 2 or 3 finite numbers or null"),
        ('{"landmarks": {"a": {"index": [1, 2]}, "b": {"index": [1, 2, 3]}}}', "'b' must have 2 finite numbers"),
        ('{"axes": ["x", "y"], "landmarks": {"a": {"index": [1, 2]}}}', r"must have the axes \['y', 'x'\]"),
        ('{"spacing_mm": [0, 1], "landmarks": {"a": {"index": [1, 2]}}}', "spacing_mm must be 2 positive numbers"),
        ('{"landmarks": {"a": {"index": null}}}', "no point with a position"),
    ],
)
def test_a_wrong_file_is_refused_in_one_sentence_that_names_it(tmp_path, text, said) -> None:
    (tmp_path / "wrong.json").write_text(text)
    with pytest.raises(LandmarkFileError, match=said) as error:
        read_landmarks(tmp_path / "wrong.json")
    assert "wrong.json" in str(error.value)


def test_a_missing_file_is_named(tmp_path) -> None:
    with pytest.raises(LandmarkFileError, match=r"none.json cannot be read: No such file"):
        read_landmarks(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"names": ("a", "a", "b")}, "names must differ, got 'a' 2 times"),
        ({"index": np.zeros((2, 2))}, r"index must be \(3, 2\) or \(3, 3\)"),
        ({"index": np.full((3, 2), np.inf)}, "index must not hold infinite numbers"),
        ({"spread": np.zeros(2)}, r"spread must be \(3,\), got \(2,\)"),
        ({"spacing_mm": (1.0, -1.0)}, "spacing_mm must be 2 positive numbers"),
        ({"size": (4,)}, "size must be 2 numbers"),
    ],
)
def test_landmarks_that_do_not_fit_are_refused(change, said) -> None:
    with pytest.raises(ValueError, match=said):
        Landmarks(**{"names": NAMES, "index": np.zeros((3, 2)), **change})


def test_table_gives_back_points_of_all_cases(tmp_path) -> None:
    other = Landmarks(("a",), np.array([[1.0, 2.0]]))
    write_landmark_table(tmp_path / "run.csv", [("one", plane()), ("two", other)])
    lines = (tmp_path / "run.csv").read_text().splitlines()
    assert lines[0] == "case,landmark,y,x,y_mm,x_mm,r_mm,a_mm,s_mm,spread"
    assert lines[2] == "one,tip,,,,,,,,"
    found = read_landmark_table(tmp_path / "run.csv")
    assert list(found) == ["one", "two"]
    assert same(found["one"].index, plane().index)
    assert same(found["one"].world_mm, plane().world_mm)
    assert same(found["one"].spread, plane().spread)
    assert found["two"].world_mm is None
    assert found["two"].spread is None


def test_tables_have_two_or_three_axes_and_not_both(tmp_path) -> None:
    volume = Landmarks(("a",), np.array([[1.0, 2.0, 3.0]]))
    write_landmark_table(tmp_path / "run.csv", [("one", volume)])
    assert same(read_landmark_table(tmp_path / "run.csv")["one"].index, [[1, 2, 3]])
    with pytest.raises(ValueError, match="must all have 2 or all have 3 axes"):
        write_landmark_table(tmp_path / "run.csv", [("one", volume), ("two", plane())])
    (tmp_path / "other.csv").write_text("case,x\n")
    with pytest.raises(LandmarkFileError, match=r"other.csv must have the columns case, landmark, y, x"):
        read_landmark_table(tmp_path / "other.csv")


@pytest.mark.parametrize("system", ["LPS", "RAS"])
def test_markups_keep_the_place_in_the_world_whatever_their_system(tmp_path, system) -> None:
    world = np.array([[1.0, 2.0, 3.0], [np.nan] * 3, [-4.0, 5.5, 0.0]])
    write_markups(tmp_path / "a.mrk.json", NAMES, world, coordinate_system=system)
    names, found = read_markups(tmp_path / "a.mrk.json")
    assert names == NAMES
    assert same(found, world)
    markup = json.loads((tmp_path / "a.mrk.json").read_text())["markups"][0]
    assert markup["coordinateSystem"] == system
    assert markup["coordinateUnits"] == "mm"
    assert markup["controlPoints"][0]["position"] == ([-1.0, -2.0, 3.0] if system == "LPS" else [1.0, 2.0, 3.0])
    assert [p["positionStatus"] for p in markup["controlPoints"]] == ["defined", "undefined", "defined"]


# What 3D Slicer's published schema of markups, version 1.0.3, asks of a fiducial list.
_NUMBERS = {"type": "array", "items": {"type": "number"}}
_TEXT, _FLAG = {"type": "string"}, {"type": "boolean"}
_POINT = {
    "type": "object",
    "properties": {
        **dict.fromkeys(("id", "label", "description", "associatedNodeID"), _TEXT),
        **dict.fromkeys(("selected", "locked", "visibility"), _FLAG),
        "position": {**_NUMBERS, "minItems": 3, "maxItems": 3},
        "orientation": {**_NUMBERS, "minItems": 9, "maxItems": 9},
        "positionStatus": {"enum": ["undefined", "preview", "defined"]},
    },
    "additionalProperties": False,
}
_MARKUP = {
    "type": "object",
    "required": ["type"],
    "properties": {
        "type": {"enum": ["Fiducial", "Line", "Angle", "Curve", "ClosedCurve", "Plane", "ROI"]},
        "coordinateSystem": {"enum": ["LPS", "RAS"]},
        "coordinateUnits": {"enum": ["mm", "um"]},
        **dict.fromkeys(("locked", "fixedNumberOfControlPoints"), _FLAG),
        "labelFormat": _TEXT,
        "lastUsedControlPointNumber": {"type": "integer"},
        "controlPoints": {"type": "array", "items": _POINT},
    },
    "additionalProperties": False,
}
SLICER_SCHEMA = {
    "type": "object",
    "required": ["@schema", "markups"],
    "properties": {"@schema": _TEXT, "markups": {"type": "array", "items": _MARKUP}},
}


def test_markups_are_as_slicers_schema_wants_them(tmp_path) -> None:
    world = np.array([[1.0, 2.0, 3.0], [np.nan] * 3, [-4.0, 5.5, 0.0]])
    write_markups(tmp_path / "a.mrk.json", NAMES, world)
    record = json.loads((tmp_path / "a.mrk.json").read_text())
    jsonschema.validate(record, SLICER_SCHEMA)
    assert record["@schema"].endswith("/Markups/Resources/Schema/markups-schema-v1.0.3.json#")
    record["markups"][0]["controlPoints"][0]["position"] = [1.0, 2.0]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(record, SLICER_SCHEMA)


def test_markups_of_older_programs_are_read(tmp_path) -> None:
    points = [{"label": "a", "position": [1, 2, 3]}]
    for code, wanted in (("0", [1, 2, 3]), ("1", [-1, -2, 3])):
        record = {"markups": [{"type": "Fiducial", "coordinateSystem": code, "controlPoints": points}]}
        (tmp_path / "old.mrk.json").write_text(json.dumps(record))
        assert same(read_markups(tmp_path / "old.mrk.json")[1], [wanted])


def test_markups_that_are_none_and_wrong_arguments_are_refused(tmp_path) -> None:
    (tmp_path / "a.mrk.json").write_text('{"markups": [{"type": "Curve"}]}')
    with pytest.raises(LandmarkFileError, match=r"a.mrk.json must hold 'markups' with a list of type Fiducial"):
        read_markups(tmp_path / "a.mrk.json")
    record = {"markups": [{"type": "Fiducial", "coordinateSystem": "ABC", "controlPoints": []}]}
    (tmp_path / "a.mrk.json").write_text(json.dumps(record))
    with pytest.raises(LandmarkFileError, match="must have coordinates in LPS or RAS and mm, got ABC"):
        read_markups(tmp_path / "a.mrk.json")
    with pytest.raises(ValueError, match=r"must end in .mrk.json"):
        write_markups(tmp_path / "a.json", ["a"], np.zeros((1, 3)))
    with pytest.raises(ValueError, match=r"world_mm must be \(1, 3\)"):
        write_markups(tmp_path / "a.mrk.json", ["a"], np.zeros((1, 2)))
