"""Shards come whole and once, and a run goes on where it stopped."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from folders import contents, job, made

from medsynth_ext.bulk import JobError, generate, generated_samples, shards
from medsynth_ext.data import OutputError


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """Seven samples in three shards."""
    out = tmp_path_factory.mktemp("bulk") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        generate(job(out))
    return out


def test_every_file_stands_in_the_manifest_with_what_it_is(whole):
    manifest = json.loads((whole / "manifest.json").read_text())
    assert [sample["index"] for sample in manifest["samples"]] == list(range(7))
    assert {key: manifest[key] for key in ("seed", "count", "shard_size", "threads")} == {
        "seed": 5,
        "count": 7,
        "shard_size": 3,
        "threads": 1,
    }
    assert manifest["source"] == {"kind": "counted", "size": 6}
    assert {"python", "torch", "numpy", "medsynth_ext"} <= set(manifest["software"])
    named = set()
    for sample in manifest["samples"]:
        assert sample["seed"] == 5
        assert sample["facts"] == {"twice": 2 * sample["index"]}
        for record in sample["files"]:
            path = whole / record["path"]
            image = nib.load(path)
            assert hashlib.sha256(path.read_bytes()).hexdigest() == record["sha256"]
            assert list(image.shape) == record["shape"] == [6, 6, 6]
            assert record["spacing_mm"] == [2.0, 2.0, 2.0]
            assert image.get_data_dtype() == np.dtype(record["dtype"])
            named.add(record["path"])
    assert named == {name for name in contents(whole) if name.endswith(".nii.gz")}
    assert not list(whole.glob(".part-*"))


def test_a_finished_run_is_a_list_for_monai(whole):
    samples = generated_samples(whole)
    assert len(samples) == 7
    image, label = (np.asarray(nib.load(samples[4][key]).dataobj) for key in ("image", "label"))
    assert np.array_equal(label, image > 0) or np.mean(label == (image > 0)) > 0.9  # values round to 0


def test_shard_size_says_where_files_lie_but_not_what_is_in_them(whole, tmp_path):
    generate(job(tmp_path, shard_size=7))
    assert sorted(p.name for p in tmp_path.glob("shard_*")) == ["shard_00000"]
    one = {Path(k).name: v for k, v in contents(whole).items() if k.endswith(".nii.gz")}
    two = {Path(k).name: v for k, v in contents(tmp_path).items() if k.endswith(".nii.gz")}
    assert one == two


class Killed(BaseException):
    """Ends a program at once, as a signal does; unlike one it still runs what is to be cleaned up."""


@pytest.mark.parametrize("call", [1, 2, 6, 9, 14])
def test_a_run_that_ends_at_any_file_goes_on_to_the_same_folder(whole, tmp_path, monkeypatch, call):
    out, log = tmp_path / "out", tmp_path / "log"
    save, calls = nib.save, []

    def dying(image, path):
        calls.append(path)
        if len(calls) == call:
            save(image, path)
            os.truncate(path, 10)  # half of it was on the disk
            raise Killed
        save(image, path)

    with monkeypatch.context() as patch:
        patch.setattr(nib, "save", dying)
        # A killed program cleans nothing up.
        patch.setattr(shards.shutil, "rmtree", lambda *a, **k: None)
        with pytest.raises(Killed):
            generate(job(out, log=str(log)))
    assert list(out.glob(".part-*"))
    assert not (out / "manifest.json").exists()
    begun = len(made(log))
    generate(job(out, log=str(log)))
    assert contents(out) == contents(whole)
    complete = (call - 1) // 6 * 3  # samples of the shards that were complete
    assert [index for _, index in made(log)[begun:]] == list(range(complete, 7))


def test_of_two_processes_that_make_one_shard_one_wins(whole, tmp_path, monkeypatch):
    first = job(tmp_path)
    generate(first)
    second, rename = job(tmp_path), os.rename
    rename(tmp_path / "shard_00001", tmp_path / "aside")
    monkeypatch.setattr(shards.os, "rename", lambda a, b: (rename(tmp_path / "aside", b), rename(a, b)))
    shards.write_shard(second, 1)  # the other one's shard appears just before this one's
    assert contents(tmp_path) == contents(whole)
    assert not list(tmp_path.glob(".part-*"))


@pytest.mark.parametrize("sample", [1, 4])
def test_what_was_cleaned_away_under_a_living_process_does_not_come_back(tmp_path, sample):
    calls: list[None] = []

    def made_one() -> None:
        calls.append(None)
        if len(calls) == sample:  # another run begins, which takes this one for dead
            shards.clean(tmp_path)

    with pytest.raises(OutputError, match="shard_00000 cannot be written"):
        shards.write_shard(job(tmp_path, count=4, shard_size=4), 0, made=made_one)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 6}, "seed is 5 there and 6 here"),
        ({"count": 8}, "count is 7 there and 8 here"),
        ({"size": 8}, "source.size is 6 there and 8 here"),
        ({"threads": 2}, "threads is 1 there and 2 here"),
    ],
)
def test_a_folder_of_another_configuration_is_left_alone(whole, change, message):
    before = contents(whole)
    with pytest.raises(JobError, match=message):
        generate(job(whole, **change))
    assert contents(whole) == before


def test_other_software_is_another_configuration(whole, monkeypatch):
    monkeypatch.setattr("medsynth_ext.bulk.job.version_record", lambda: {"torch": "1.0"})
    with pytest.raises(JobError, match=r"software\.medsynth_ext is"):
        generate(job(whole))


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(JobError, match=r"holds other files \(thesis.txt\)"):
        generate(job(tmp_path))
    (tmp_path / "plan.json").write_text("[]")
    with pytest.raises(JobError, match="no plan of generated volumes"):
        generate(job(tmp_path))
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != ".lock") == ["plan.json", "thesis.txt"]


def test_a_run_that_has_made_nothing_yet_may_be_changed(whole, tmp_path):
    with pytest.raises(ValueError, match="size"):
        generate(job(tmp_path, size=-1))
    generate(job(tmp_path))
    assert contents(tmp_path) == contents(whole)


@pytest.mark.parametrize(
    ("name", "value"), [("count", 0), ("count", -3), ("shard_size", 0), ("seed", -1), ("threads", 0), ("count", 2.5)]
)
def test_numbers_out_of_range_are_named(tmp_path, name, value):
    with pytest.raises(JobError, match=f"{name} must be a whole number from"):
        job(tmp_path, **{name: value})


def test_a_full_disk_ends_the_run_and_leaves_whole_shards(whole, tmp_path, monkeypatch):
    save, calls = nib.save, []

    def full(image, path):
        calls.append(path)
        if len(calls) == 9:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(image, path)

    with monkeypatch.context() as patch:
        patch.setattr(nib, "save", full)
        with pytest.raises(OutputError, match="shard_00001 cannot be written: No space left on device"):
            generate(job(tmp_path))
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != ".lock") == ["plan.json", "shard_00000"]
    generate(job(tmp_path))
    assert contents(tmp_path) == contents(whole)


def test_a_damaged_file_is_named(whole, tmp_path):
    generate(job(tmp_path))
    path = tmp_path / "shard_00001/000004_label.nii.gz"
    data = path.read_bytes()
    path.write_bytes(data[:-4] + b"abcd")
    generate(job(tmp_path))  # sizes alone are compared
    with pytest.raises(JobError, match=r"000004_label\.nii\.gz is not what was written"):
        generate(job(tmp_path), verify=True)
    path.write_bytes(data[:-4])
    with pytest.raises(JobError, match=f"has {len(data) - 4} bytes, {len(data)} were written; remove the shard's"):
        generate(job(tmp_path))
    path.unlink()
    with pytest.raises(JobError, match=r"000004_label\.nii\.gz is missing"):
        generate(job(tmp_path))


def test_two_runs_do_not_share_a_folder(tmp_path):
    with shards.alone(tmp_path), pytest.raises(JobError, match="another run is writing to"):
        generate(job(tmp_path))


def test_an_unfinished_run_is_no_list(tmp_path):
    with pytest.raises(JobError, match="the run is not finished"):
        generated_samples(tmp_path)
