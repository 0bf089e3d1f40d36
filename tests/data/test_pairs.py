from __future__ import annotations

import pytest

from medsynth_ext.data.pairs import find_pairs, require_pairs


def test_images_are_paired_with_labels_by_name(tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
        for name in ("b.nii.gz", "a.nii"):
            (tmp_path / folder / name).touch()
    (tmp_path / "labels/unused.nii.gz").touch()
    (tmp_path / "images/._a.nii").touch()  # what macOS leaves beside a file
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


def test_other_folders_hold_other_things(tmp_path):
    for kind in ("mr", "ct"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "a.nii").touch()
    assert find_pairs(tmp_path, images="mr", labels="ct") == [
        {"image": str(tmp_path / "mr/a.nii"), "label": str(tmp_path / "ct/a.nii")}
    ]
    (tmp_path / "mr/b.nii").touch()
    with pytest.raises(ValueError, match=r"mr/b.nii has no partner .*ct/b.nii \(1 missing in all\)"):
        find_pairs(tmp_path, images="mr", labels="ct")
    assert find_pairs(tmp_path, images="mr", labels="ct", unlabelled=True)[1] == {"image": str(tmp_path / "mr/b.nii")}


def test_too_few_pairs_are_refused_with_the_folders_names(tmp_path):
    with pytest.raises(ValueError, match=r"/mr and .*/ct hold 1 pairs .* wanted at least 2"):
        require_pairs([{"image": "a", "label": "b"}], tmp_path, least=2, images="mr", labels="ct")
    require_pairs([{"image": "a", "label": "b"}], tmp_path)


def test_images_without_a_label_map_come_without_the_entry_where_they_are_welcome(tmp_path):
    for name in ("images/a.nii.gz", "images/b.nii.gz", "labels/b.nii.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [sorted(pair) for pair in find_pairs(tmp_path, unlabelled=True)] == [["image"], ["image", "label"]]
