from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch

from medsynth_ext.data.label_maps import LabelMaps, find_label_maps


def save(path, values, affine=None):
    nib.save(nib.Nifti1Image(values, np.eye(4) if affine is None else affine), path)
    return str(path)


def blocks(dtype=np.int16, largest=43):
    values = np.zeros((4, 5, 6), dtype=dtype)
    values[1:3, 2, 3:5] = 2
    values[3, 4, 5] = largest
    return values


def test_files_are_found_by_name_in_order(tmp_path):
    for name in ("b.nii.gz", "a.mgz", "c.NII", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [item["label"].rsplit("/", 1)[1] for item in find_label_maps(tmp_path)] == ["a.mgz", "b.nii.gz", "c.NII"]
    assert find_label_maps(tmp_path / "nowhere") == []


def test_maps_come_in_ras_whatever_their_orientation(tmp_path):
    values = blocks()
    straight = save(tmp_path / "ras.nii.gz", values)
    # The same volume stored as LIA: axes right-to-left, superior-to-inferior, posterior-to-anterior.
    lia = values.transpose(0, 2, 1)[::-1, ::-1]
    affine = np.array([[-1.0, 0, 0, 3], [0, 0, 1, 0], [0, -1, 0, 5], [0, 0, 0, 1]])
    turned = save(tmp_path / "lia.nii.gz", np.ascontiguousarray(lia), affine)
    maps = LabelMaps([{"label": straight}, {"label": turned}])
    assert torch.equal(maps[0]["label"], torch.from_numpy(values)[None].to(torch.uint8))
    assert torch.equal(maps[0]["label"], maps[1]["label"])


@pytest.mark.parametrize(("largest", "dtype"), [(255, torch.uint8), (530, torch.int16), (70000, torch.int32)])
@pytest.mark.parametrize("stored", [np.int32, np.float32])
def test_maps_are_kept_in_the_smallest_integer_type(tmp_path, largest, dtype, stored):
    item = LabelMaps([{"label": save(tmp_path / "map.nii.gz", blocks(stored, largest))}])[0]
    assert item["label"].dtype == dtype
    assert item["label"].max() == largest
    assert item["label"].shape == (1, 4, 5, 6)


def test_a_file_is_read_once(tmp_path, monkeypatch):
    path = save(tmp_path / "map.nii.gz", blocks())
    read = []
    monkeypatch.setattr(LabelMaps, "_read", lambda self, p: (read.append(p), torch.zeros(1, 2, 2, 2))[1])
    maps = LabelMaps([{"label": path}, {"label": path}]).load()
    assert [maps[i]["index"] for i in (0, 1, 0)] == [0, 1, 0]
    assert read == [path]


def test_the_centre_is_the_middle_of_the_box_around_the_labels(tmp_path):
    path = save(tmp_path / "map.nii.gz", blocks())
    assert LabelMaps([{"label": path}], center_labels=[2])[0]["center"].tolist() == [1.5, 2.0, 3.5]
    assert LabelMaps([{"label": path}], center_labels=[99])[0]["center"].tolist() == [1.5, 2.0, 2.5]  # none: the middle


def fails(path, message, **options):
    with pytest.raises(ValueError, match=message) as caught:
        LabelMaps([{"label": str(path)}], **options).load()
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_an_unknown_label_is_named_with_its_file_and_the_table(tmp_path):
    path = save(tmp_path / "map.nii.gz", blocks(largest=999))
    message = r"the labels \[999\] are not among the 3 allowed ones \(listed in generation_labels of labels.json\)"
    fails(path, message, allowed_labels=[0, 2, 43], allowed_from="generation_labels of labels.json")


def test_a_coarse_map_is_refused(tmp_path):
    path = save(tmp_path / "map.nii.gz", blocks(), np.diag([1.0, 1.0, 3.0, 1.0]))
    fails(path, "voxels must be 1 mm in every direction, got 1 x 1 x 3 mm")
    assert LabelMaps([{"label": path}], spacing_mm=None)[0]["label"].shape == (1, 4, 5, 6)


@pytest.mark.parametrize(("value", "shown"), [(2.5, "2.5"), (np.nan, "nan"), (np.inf, "inf")])
def test_values_that_are_no_labels_are_refused(tmp_path, value, shown):
    values = blocks(np.float32)
    values[0, 0, 0] = value
    fails(save(tmp_path / "map.nii.gz", values), f"labels must be integers, found values such as {shown}")


def test_negative_labels_are_refused(tmp_path):
    fails(save(tmp_path / "map.nii.gz", -blocks()), "labels must not be negative, found -43")


def test_a_map_must_be_3d_but_may_have_a_last_axis_of_one(tmp_path):
    fails(save(tmp_path / "4d.nii.gz", np.stack([blocks()] * 2, -1)), r"must be 3D, got the shape \(4, 5, 6, 2\)")
    item = LabelMaps([{"label": save(tmp_path / "3d1.nii.gz", blocks()[..., None])}])[0]
    assert item["label"].shape == (1, 4, 5, 6)


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "map.nii.gz"
    if content is None:  # the second half is missing
        whole = save(tmp_path / "whole.nii.gz", np.random.default_rng(0).integers(0, 9, (20, 20, 20), dtype=np.int16))
        with open(whole, "rb") as file:
            content = file.read()
        content = content[: len(content) // 2]
    path.write_bytes(content)
    fails(path, "cannot be read as a label map")


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match=rf"wanted label maps .* in {tmp_path}, found none; set labels_dir"):
        LabelMaps(find_label_maps(tmp_path), source=tmp_path).load()
