from __future__ import annotations

import gzip
import re
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.transforms import LoadImaged

from medsynth_ext.data import (
    OutputError,
    ScanDataset,
    ScanError,
    check_header,
    check_writable,
    find_scans,
    replacing,
    require_items,
    scan_name,
)


def save(path: Path, shape=(4, 5, 6), affine=None, dtype=np.float32) -> Path:
    data = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    kind = nib.MGHImage if path.suffix in (".mgz", ".mgh") else nib.Nifti1Image
    nib.save(kind(data, np.diag([2.0, 2, 2, 1]) if affine is None else affine), path)
    return path


def with_header(path: Path, offset: int, values: bytes) -> Path:
    """The uncompressed NIfTI file with some bytes of its header replaced."""
    raw = bytearray(path.read_bytes())
    raw[offset : offset + len(values)] = values
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mgz", "a.mgh", "A.NII.GZ"])
def test_case_name_has_no_image_suffix(name):
    assert scan_name(Path("/x.nii") / name).lower() == "a"


def test_all_formats_are_found_in_order_of_name(tmp_path):
    for name in ("c.mgz", "a.nii.gz", "b.nii", ".hidden.nii", "notes.txt"):
        (tmp_path / name).touch()
    assert [p.name for p in find_scans(tmp_path)] == ["a.nii.gz", "b.nii", "c.mgz"]


def test_results_beside_their_scan_are_not_scans(tmp_path):
    for name in ("a.nii.gz", "a_seg.nii.gz", "a_post.nii.gz", "a_resampled.nii.gz", "a_smr.nii.gz", "b_seg.nii.gz"):
        (tmp_path / name).touch()
    assert [p.name for p in find_scans(tmp_path)] == ["a.nii.gz", "b_seg.nii.gz"]


def test_one_file_is_a_folder_of_one(tmp_path):
    assert find_scans(save(tmp_path / "a.nii")) == [tmp_path / "a.nii"]


def test_missing_empty_and_ambiguous_folders_are_refused(tmp_path):
    with pytest.raises(ScanError, match="does not exist"):
        find_scans(tmp_path / "nowhere")
    with pytest.raises(ScanError, match="no scan in"):
        find_scans(tmp_path)
    (tmp_path / "a.nii").touch()
    (tmp_path / "a.mgz").touch()
    with pytest.raises(ScanError, match=r"a\.mgz and a\.nii"):
        find_scans(tmp_path)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mgz", "a.mgh"])
def test_good_headers_pass(tmp_path, name):
    check_header(save(tmp_path / name))


def test_fourth_axis_of_one_voxel_passes(tmp_path):
    check_header(save(tmp_path / "a.nii.gz", (4, 5, 6, 1)))


def test_four_axes_are_refused(tmp_path):
    with pytest.raises(ScanError, match=r"a\.nii\.gz must be one 3-D scan, got 4 axes of sizes \(4, 5, 6, 3\)"):
        check_header(save(tmp_path / "a.nii.gz", (4, 5, 6, 3)))


def test_two_axes_are_refused(tmp_path):
    with pytest.raises(ScanError, match="must be one 3-D scan, got 2 axes"):
        check_header(save(tmp_path / "a.nii", (4, 5)))


@pytest.mark.parametrize("spacing", [0.0, float("nan"), float("inf")])
def test_spacing_that_is_no_length_is_refused(tmp_path, spacing):
    path = with_header(save(tmp_path / "a.nii"), 76 + 2 * 4, struct.pack("<f", spacing))
    with pytest.raises(ScanError, match=r"voxel spacing of \(2\.0, (0\.0|nan|inf), 2\.0\) mm: wanted positive"):
        check_header(path)


def test_spacing_in_a_compressed_file_is_seen_too(tmp_path):
    path = with_header(save(tmp_path / "a.nii"), 76 + 4, struct.pack("<f", 0.0))
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(ScanError, match=r"b\.nii\.gz has a voxel spacing of \(0\.0"):
        check_header(tmp_path / "b.nii.gz")


@pytest.mark.parametrize("row", [struct.pack("<4f", 0, 0, 0, 0), struct.pack("<4f", float("nan"), 0, 0, 0)])
def test_affine_that_is_no_grid_is_refused(tmp_path, row):
    path = with_header(save(tmp_path / "a.nii"), 280, row)
    with pytest.raises(ScanError, match="affine"):
        check_header(path)


def test_singular_affine_is_refused(tmp_path):
    path = save(tmp_path / "a.nii")
    with_header(path, 280, struct.pack("<4f", 2, 2, 0, 0))
    with_header(path, 296, struct.pack("<4f", 2, 2, 0, 0))
    with pytest.raises(ScanError, match="not a grid in space"):
        check_header(path)


def test_empty_file_garbage_and_complex_values_are_refused(tmp_path):
    (tmp_path / "zero.nii.gz").touch()
    with pytest.raises(ScanError, match="empty"):
        check_header(tmp_path / "zero.nii.gz")
    for name in ("noise.nii", "noise.nii.gz", "noise.mgz"):
        (tmp_path / name).write_bytes(b"this is not an image " * 50)
        with pytest.raises(ScanError, match="cannot be read as a NIfTI or MGZ scan"):
            check_header(tmp_path / name)
    with pytest.raises(ScanError, match="real number per voxel"):
        check_header(save(tmp_path / "complex.nii", dtype=np.complex64))


@pytest.mark.parametrize("name", ["b.nii", "b.nii.gz", "b.mgz"])
def test_truncated_scan_is_left_out_and_named(tmp_path, name):
    rng = np.random.default_rng(0)
    for case in ("a.nii.gz", name, "c.nii.gz"):
        kind = nib.MGHImage if case.endswith("mgz") else nib.Nifti1Image
        nib.save(kind(rng.random((20, 20, 20), dtype=np.float32), np.eye(4)), tmp_path / case)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    dataset = ScanDataset(tmp_path, LoadImaged(keys="image", reader="NibabelReader"))
    met = []
    dataset.on_failure = lambda path, sentence: met.append(sentence)
    loaded = [scan_name(item["image"].meta["filename_or_obj"]) for item in dataset]
    assert loaded == ["a", "c"]
    assert [path.name for path, _ in dataset.failures] == [name]
    assert met == [dataset.failures[0][1]]
    assert str(tmp_path / name) in met[0]
    assert "cannot be read" in met[0]
    assert "\n" not in met[0]


def test_programming_errors_are_not_taken_for_bad_scans(tmp_path):
    save(tmp_path / "a.nii")

    def broken(item):
        raise TypeError("a bug")

    with pytest.raises(TypeError, match="a bug"):
        list(ScanDataset(tmp_path, broken))


def test_folder_is_looked_at_only_when_needed(tmp_path):
    dataset = ScanDataset(tmp_path / "later")
    (tmp_path / "later").mkdir()
    save(tmp_path / "later" / "a.nii")
    assert len(dataset.files) == 1


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "table.csv"
    target.write_text("old")

    def write():
        with replacing(target) as temporary:
            temporary.write_text("half of the ne")
            raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match=r"table\.csv cannot be written: No space left on device"):
        write()
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]
    assert target.read_text() == "old"


def test_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        check_writable(tmp_path / "file" / "results")


@pytest.mark.parametrize("keep", [0, 40, 3000])
@pytest.mark.parametrize("name", ["b.nii", "b.nii.gz", "b.mgz"])
def test_a_scan_that_training_cannot_read_is_named(tmp_path, name, keep):
    path = save(tmp_path / name, shape=(20, 20, 20))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ScanError, match=rf"^{re.escape(str(path))} cannot be read as a NIfTI or MGZ scan: \S"):
        LoadImaged(keys="image", reader="medsynth_ext.data.ScanReader")({"image": str(path)})


def test_items_that_are_missing_are_refused_with_their_folder(tmp_path):
    require_items(["a"], tmp_path / "nowhere", "frames")
    with pytest.raises(ScanError, match=r"the folder .*nowhere does not exist"):
        require_items([], tmp_path / "nowhere", "frames")
    with pytest.raises(ScanError, match="holds 1 frames, wanted at least 2"):
        require_items(["a"], tmp_path, "frames", least=2)
