from __future__ import annotations

import argparse

import pytest
from train_weights import first_cause, main, parse_arguments, parse_setting


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("crop_size=[96, 96, 96]", ("crop_size", [96, 96, 96])),
        ("train#trainer#amp=false", ("train#trainer#amp", False)),
        ("device=cuda:0", ("device", "cuda:0")),
        ("loss=$a == b", ("loss", "$a == b")),
    ],
)
def test_settings_are_json_where_they_can_be(text, expected):
    assert parse_setting(text) == expected


@pytest.mark.parametrize("text", ["novalue", "=3"])
def test_a_setting_needs_a_key_and_a_value(text):
    with pytest.raises(argparse.ArgumentTypeError, match="wanted KEY=VALUE"):
        parse_setting(text)


def test_all_settings_of_the_command_line_are_kept():
    options = parse_arguments(["B", "--labels-dir=L", "--out=O", "--minutes=2.5", "--set", "a=1", "--set", "b=x"])
    assert options.settings == [("a", 1), ("b", "x")]
    assert options.minutes == 2.5
    assert options.start is None


def test_the_first_cause_is_the_bottom_of_the_chain():
    outer, middle = RuntimeError("around both"), RuntimeError("around it")
    outer.__cause__, middle.__cause__ = middle, ValueError("the reason")
    assert str(first_cause(outer)) == "the reason"


@pytest.fixture
def command(monkeypatch, tmp_path):
    def run(*arguments: str) -> int:
        monkeypatch.setattr("sys.argv", ["train_weights.py", *arguments, f"--out={tmp_path}/out", "--minutes=1"])
        return main()

    return run


def test_a_missing_folder_of_labels_ends_in_one_sentence_and_leaves_nothing(command, bundle, tmp_path, capsys):
    assert command(str(bundle), f"--labels-dir={tmp_path}/nowhere", "--set=device=cpu") == 1
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("training failed: wanted label maps")
    assert f"{tmp_path}/nowhere" in message
    assert not (tmp_path / "out").exists()


def test_missing_weights_end_in_one_sentence_and_leave_nothing(command, bundle, tmp_path, capsys):
    arguments = (f"--labels-dir={tmp_path}", f"--from={tmp_path}/none.pt", "--set=device=cpu")
    assert command(str(bundle), *arguments) == 1
    assert f"training failed: the weights file {tmp_path}/none.pt does not exist" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
