"""check_bundles refuses a broken bundle with a sentence that says what is wrong, and an exit status."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import check_bundles
import pytest
import torch

SOURCE = check_bundles.REPOSITORY / "bundles/oneshot_landmark_detection"


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A copy of a sound bundle, for a test to break."""
    return Path(shutil.copytree(SOURCE, tmp_path / SOURCE.name, ignore=shutil.ignore_patterns("eval", "runs")))


def edit(name: str, **changes: object) -> Callable[[Path], None]:
    """Change entries of a JSON file; None removes one."""

    def change(bundle: Path) -> None:
        path = bundle / name
        content = {**json.loads(path.read_text()), **changes}
        path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}, indent=4) + "\n")

    return change


def remove(name: str) -> Callable[[Path], None]:
    return lambda bundle: (bundle / name).unlink()


def write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda bundle: (bundle / name).write_bytes(content)


def cut(name: str) -> Callable[[Path], None]:
    """Keep the first half of a file."""
    return lambda bundle: (bundle / name).write_bytes(
        (bundle / name).read_bytes()[: (bundle / name).stat().st_size // 2]
    )


def replace(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(bundle: Path) -> None:
        text = (bundle / name).read_text()
        assert old in text
        (bundle / name).write_text(text.replace(old, new))

    return change


def other_network(bundle: Path) -> None:
    torch.save(torch.nn.Linear(2, 3).state_dict(), bundle / "models/model.pt")


def object_weights(bundle: Path) -> None:
    torch.save(torch.nn.Linear(2, 3), bundle / "models/model.pt")


NEWER = "https://project-monai.github.io/schema/meta_schema_20991231.json"
OLDER = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20220324.json"
CASES = {
    "no weights": (remove("models/model.pt"), "files", "missing: models/model.pt"),
    "no config": (remove("configs/inference.json"), "files", "missing: configs/inference.json"),
    "no data licence": (remove("docs/data_license.txt"), "files", "missing: docs/data_license.txt"),
    "empty file": (write("docs/README.md", b""), "files", "empty: docs/README.md"),
    "cut config": (cut("configs/train.json"), "readable", "train.json is no JSON"),
    "list config": (write("configs/train.json", b"[]\n"), "readable", "configs/train.json must be a JSON object"),
    "binary README": (write("docs/README.md", b"\xff\xfe\x00"), "readable", "README.md cannot be read as text"),
    "cut picture": (cut("docs/ears.png"), "readable", "docs/ears.png is no whole picture"),
    "code": (write("configs/network.py", b"x = 1\n"), "no Python", "configs/network.py"),
    "compact JSON": (write("docs/extra.json", b'{"a": 1}'), "JSON format", "extra.json"),
    "key": (write("docs/key.txt", b"-----BEGIN PRIVATE KEY-----\n"), "text format", "docs/key.txt holds a private key"),
    "space at end": (write("docs/note.txt", b"a \n"), "text format", "docs/note.txt has spaces at the end of line [1]"),
    "no line break": (write("docs/note.txt", b"a"), "text format", "docs/note.txt must end with one line break"),
    "twin names": (write("docs/Readme.md", b"a\n"), "text format", "names that differ in capitals alone"),
    "own logging": (write("configs/logging.conf", b"[loggers]\n"), "logging", "logging.conf differs"),
    "own LICENSE": (write("LICENSE", b"Apache License\n"), "LICENSE", "LICENSE differs"),
    "no command": (replace("docs/README.md", "evaluate.json", "other.json"), "README", "no command"),
    "newer schema": (edit("configs/metadata.json", schema=NEWER), "schema", "is of the newer schema"),
    "old schema": (edit("configs/metadata.json", schema=OLDER), "schema", "is of the old schema"),
    "no schema": (edit("configs/metadata.json", schema=None), "schema", "must name its schema"),
    "no authors": (edit("configs/metadata.json", authors=None), "schema", "'authors' is a required property"),
    "no changelog": (edit("configs/metadata.json", version="9.0.0"), "version", "no entry for version 9.0.0"),
    "short version": (edit("configs/metadata.json", version="1.0"), "version", "must be x.y.z"),
    "path": (write("docs/note.txt", b"see /home/me/scans\n"), "names", "points out of the bundle: /home/me/scans"),
    "other torch": (edit("configs/metadata.json", pytorch_version="1.0.0"), "packages", "torch 1.0.0, here"),
    "bare licence": (write("docs/data_license.txt", b"Free.\n"), "data licence", "must have 'Weights (models/FILE"),
    "odd licence": (
        replace("docs/data_license.txt", "Training data: Apache-2.0", "Training data: ask us"),
        "data licence",
        "no known licence of training data: 'ask us'",
    ),
    "file without licence": (
        replace("docs/data_license.txt", ", models/reference.npz", ""),
        "data licence",
        "says nothing of models/reference.npz",
    ),
    "licence without file": (
        replace("docs/data_license.txt", "models/reference.npz", "models/reference.npz, models/old.pt"),
        "data licence",
        "speaks of models/old.pt, which the bundle has not",
    ),
    "no licence in metadata": (
        edit("configs/metadata.json", data_source="phantoms"),
        "metadata licence",
        "data_source in metadata.json must name Apache-2.0, got 'phantoms'",
    ),
    "no inferer": (edit("configs/inference.json", inferer=None), "keys", "inference.json lacks inferer"),
    "unknown class": (
        edit("configs/inference.json", network_def={"_target_": "medsynth_ext.networks.Lost"}),
        "weights",
        "medsynth_ext.networks.Lost",
    ),
    "cut weights": (cut("models/model.pt"), "weights", "is damaged or is not a file of tensors"),
    "other network": (other_network, "weights", "is for another network than"),
    "pickled network": (object_weights, "weights", "is damaged or is not a file of tensors"),
    "cut reference": (cut("models/reference.npz"), "other models", "models/reference.npz is damaged"),
    "stray model": (
        lambda bundle: torch.save({"a": torch.zeros(1)}, bundle / "models/stray.pt"),
        "other models",
        "no config names models/stray.pt",
    ),
}


@pytest.mark.parametrize("case", list(CASES))
def test_a_broken_bundle_is_refused_with_the_reason(broken: Path, case: str) -> None:
    damage, check, sentence = CASES[case]
    damage(broken)
    outcome, note = check_bundles.run_check(check_bundles.CHECKS[check], check_bundles.Bundle(broken))
    assert outcome == "FAIL"
    assert sentence in note
    assert "\n" not in note


def test_the_copy_itself_is_sound(broken: Path) -> None:
    for name in ("files", "readable", "text format", "README", "schema", "data licence", "metadata licence", "weights"):
        outcome, note = check_bundles.run_check(check_bundles.CHECKS[name], check_bundles.Bundle(broken))
        assert outcome == "pass", note


def test_a_missing_file_is_said_once_and_the_status_is_one(broken: Path, capsys: pytest.CaptureFixture) -> None:
    (broken / "configs/metadata.json").unlink()
    assert check_bundles.main([str(broken)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "missing: configs/metadata.json" in lines[0]
    assert "left out" in lines[1]
    assert lines[2:] == [f"{broken.name} failed: files", "0 of 1 bundles pass"]


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as ended:
        check_bundles.main([str(tmp_path / "lost")])
    assert ended.value.code == 2
    assert "lost is no bundle: it must be a folder with configs/" in capsys.readouterr().err


def test_a_released_version_is_refused(broken: Path, tmp_path: Path) -> None:
    version = json.loads((broken / "configs/metadata.json").read_text())["version"]
    released = tmp_path / "model_info.json"
    released.write_text(json.dumps({f"{broken.name}_v{version}": {}}))
    outcome, note = check_bundles.run_check(check_bundles.not_released(released), check_bundles.Bundle(broken))
    assert (outcome, note.endswith("a change needs a new version")) == ("FAIL", True)


def test_checks_of_a_network_do_not_apply_where_the_metadata_declare_none(broken: Path) -> None:
    edit("configs/metadata.json", network_data_format={"inputs": {}, "outputs": {}})(broken)
    bundle = check_bundles.Bundle(broken)
    for name in ("network", "TorchScript"):
        outcome, note = check_bundles.run_check(check_bundles.CHECKS[name], bundle)
        assert (outcome, note) == ("n/a", "metadata.json declares no input and output of a network")
    assert check_bundles.run_check(check_bundles.CHECKS["names"], bundle)[0] == "pass"
