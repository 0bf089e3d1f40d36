from __future__ import annotations

import pytest

from medsynth_ext.data.pairs import find_pairs


def test_images_are_paired_with_labels_by_name(tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
        for name in ("b.nii.gz", "a.nii"):
            (tmp_path / folder / name).touch()
    (tmp_path / "labels/unused.nii.gz").touch()
    root = str(tmp_path)
    assert find_pairs(tmp_path) == [
        {"image": f"{root}/images/a.nii", "label": f"{root}/labels/a.nii"},
        {"image": f"{root}/images/b.nii.gz", "label": f"{root}/labels/b.nii.gz"},
    ]


def test_a_missing_label_map_is_named(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.nii.gz").touch()
    with pytest.raises(ValueError, match=r"images/a.nii.gz has no label map .*labels/a.nii.gz \(1 missing in all\)"):
        find_pairs(tmp_path)


def test_a_folder_without_images_gives_nothing(tmp_path):
    assert find_pairs(tmp_path) == []
