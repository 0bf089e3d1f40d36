from __future__ import annotations

import re
import warnings
from pathlib import Path

import bundle_workflows  # noqa: F401 - puts tools/ on the path
import numpy as np
import pytest
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, Orientationd
from nibabel.affines import apply_affine

from medsynth_ext.data import Correction, ScanDataset, ScanError, ScanReader, find_scans, read_series, scan_name

pydicom = pytest.importorskip("pydicom")
from nifti_to_dicom import write_series  # noqa: E402 - needs pydicom

SPACING = (0.8, 1.1, 2.5)


def smooth(points: np.ndarray) -> np.ndarray:  # (..., 3) RAS mm to HU
    """A volume known everywhere; linear, so that linear interpolation has no error."""
    return np.round(points @ [3.0, -5.0, 7.0] - 200)


def rotation(name: str) -> np.ndarray:
    """Directions of the voxel axes in RAS, as columns."""
    if name == "oblique":
        a, b = np.radians([25.0, -13.0])
        x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
        z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
        return z @ x @ rotation("axial")
    rows = {"axial": (0, 1, 2), "sagittal": (1, 2, 0), "coronal": (0, 2, 1)}[name]
    signs = {"axial": (-1, -1, 1), "sagittal": (-1, -1, 1), "coronal": (-1, -1, 1)}[name]
    matrix = np.zeros((3, 3))
    for column, (axis, sign) in enumerate(zip(rows, signs, strict=True)):
        matrix[axis, column] = sign
    return matrix


def grid(name: str = "axial", spacing: tuple[float, ...] = SPACING) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = rotation(name) * spacing
    affine[:3, 3] = (31.25, -17.5, 4.125)
    return affine


def values(affine: np.ndarray, shape: tuple[int, int, int] = (12, 9, 7)) -> np.ndarray:
    return smooth(apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1)))


def edit(path: Path, **tags) -> None:
    dataset = pydicom.dcmread(path)
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.save_as(path)


def in_ras(source: Path | str):
    load = Compose(
        [
            LoadImaged("image", reader=ScanReader),
            EnsureChannelFirstd("image"),
            Orientationd("image", "RAS", labels=None),
        ]
    )
    return load({"image": str(source)})["image"]


@pytest.mark.parametrize("name", ["axial", "sagittal", "coronal", "oblique"])
@pytest.mark.parametrize("backwards", [False, True])
def test_a_series_is_the_nifti_of_the_same_volume(tmp_path, name, backwards):
    import nibabel as nib

    affine = grid(name)
    voxels = values(affine)
    nib.save(nib.Nifti1Image(voxels.astype(np.int16), affine), tmp_path / "a.nii.gz")
    names = [f"{100 - k if backwards else k:03d}" for k in range(voxels.shape[2])]  # no ending, order of no meaning
    write_series(tmp_path / "a", voxels, affine, slope=0.5, intercept=-1024, names=names)
    expected, found = in_ras(tmp_path / "a.nii.gz"), in_ras(tmp_path / "a")
    assert found.shape == expected.shape
    assert np.allclose(found.affine, expected.affine, atol=1e-3)
    assert np.array_equal(found.numpy(), expected.numpy())
    assert found.dtype == expected.dtype
    assert found.meta["filename_or_obj"] == str(tmp_path / "a")
    assert set(found.meta) >= {"original_affine", "spatial_shape", "space"}


def test_every_slice_has_its_own_slope_and_intercept(tmp_path):
    affine = grid()
    voxels = values(affine)
    for k, path in enumerate(write_series(tmp_path, voxels, affine)):
        stored = pydicom.dcmread(path).pixel_array.astype(float)
        edit(path, RescaleSlope=0.25 * (k + 1), RescaleIntercept=-k)
        voxels[:, :, k] = (stored * 0.25 * (k + 1) - k).T
    assert np.allclose(read_series(tmp_path).voxels, voxels, atol=1e-3)


def test_numbers_without_a_sign_and_with_12_bits_are_right(tmp_path):
    affine = grid()
    voxels = np.abs(values(affine)) % 4096
    for path in write_series(tmp_path, voxels - 1024, affine, intercept=-1024):
        edit(path, PixelRepresentation=0, BitsStored=12, HighBit=11)
    assert np.array_equal(read_series(tmp_path).voxels, voxels - 1024)


def test_sixteen_bits_without_a_sign_are_written_and_read_and_more_are_refused(tmp_path):
    voxels = np.arange(24.0).reshape(2, 3, 4) * 65535 / 23
    write_series(tmp_path / "a", voxels.round(), np.eye(4))
    assert np.array_equal(read_series(tmp_path / "a").voxels, voxels.round())
    with pytest.raises(ValueError, match="must fit into 16 bits, got 0 to 131070"):
        write_series(tmp_path / "b", 2 * voxels, np.eye(4))


@pytest.mark.parametrize("name", ["axial", "oblique"])
def test_a_tilted_gantry_is_corrected_and_said(tmp_path, name):
    affine = grid(name)
    sheared = affine.copy()
    sheared[:3, 2] += np.tan(np.radians(15)) * SPACING[2] * rotation(name)[:, 1]
    voxels = values(sheared)
    write_series(tmp_path, voxels, sheared)
    with pytest.warns(Correction, match=r"to right angles, and results lie on that grid: .*tilted by 15\.0 degrees"):
        volume = read_series(tmp_path)
    axes = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    assert np.allclose(axes.T @ axes, np.eye(3), atol=1e-6)
    assert np.allclose(np.linalg.norm(volume.affine[:3, :3], axis=0), SPACING, atol=1e-3)
    indices = np.moveaxis(np.indices(volume.voxels.shape), 0, -1)
    expected = smooth(apply_affine(volume.affine, indices))
    at = apply_affine(np.linalg.inv(sheared) @ volume.affine, indices)  # in voxels of the slices
    inside = ((at[..., :2] >= 0) & (at[..., :2] <= [11, 8])).all(-1)
    assert inside.mean() > 0.5
    assert np.abs(volume.voxels - expected)[inside].max() <= 1.0  # stored values are whole numbers


def test_uneven_distances_are_corrected_and_said(tmp_path):
    affine = grid()
    places = np.array([0.0, 2, 4, 6, 9, 12, 15])
    positions = affine[:3, 3] + places[:, None] * rotation("axial")[:, 2]
    uneven = np.stack([values(np.column_stack([affine[:, :3], [*p, 1]]), (12, 9, 1))[..., 0] for p in positions], -1)
    write_series(tmp_path, uneven, affine, positions=positions)
    with pytest.warns(Correction, match=r"to 2\.50 mm, and results lie on that grid: .* 2\.00 to 3\.00 mm apart"):
        volume = read_series(tmp_path)
    assert volume.voxels.shape == (12, 9, 7)
    assert np.allclose(volume.affine, affine, atol=1e-3)
    assert np.abs(volume.voxels - values(affine)).max() <= 1.0


def test_rounded_headers_are_no_reason_to_resample(tmp_path):
    affine = grid()
    for path in write_series(tmp_path, values(affine), affine):
        edit(path, ImagePositionPatient=[round(float(v), 2) for v in pydicom.dcmread(path).ImagePositionPatient])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(read_series(tmp_path).voxels, values(affine))


def spoil_two_series(folder: Path) -> None:
    write_series(folder / "other", values(grid()), grid(), modality="MR")
    for path in (folder / "other").iterdir():
        path.rename(folder / f"b{path.name}")
    (folder / "other").rmdir()


def spoil_document(folder: Path) -> None:
    dataset = pydicom.dcmread(folder / "0001.dcm")
    del dataset.PixelData, dataset.Rows, dataset.Columns
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    dataset.save_as(folder / "report.dcm")


def spoil_copy(folder: Path) -> None:
    dataset = pydicom.dcmread(folder / "0003.dcm")
    dataset.EchoNumbers = 2
    dataset.save_as(folder / "echo.dcm")


def spoil_frames(folder: Path) -> None:
    dataset = pydicom.dcmread(folder / "0002.dcm")
    dataset.NumberOfFrames, dataset.PixelData = 3, dataset.PixelData * 3
    dataset.save_as(folder / "0002.dcm")


SPOILED = {
    "two series": (
        spoil_two_series,
        r"must hold one series, got 2: CT CT volume \(7 files\), MR MR volume \(7 files\)",
    ),
    "a missing slice": (
        lambda f: (f / "0004.dcm").unlink(),
        r"lacks slices between 0003\.dcm and 0005\.dcm.* 5\.00 mm",
    ),
    "two missing slices": (
        lambda f: [(f / n).unlink() for n in ("0003.dcm", "0005.dcm")],
        r"lacks slices between 0002\.dcm and 0004\.dcm",
    ),
    "a document": (spoil_document, r"report\.dcm holds no image but a structured report"),
    "a second echo": (spoil_copy, r"two images at one place, (0003|echo)\.dcm and (0003|echo)\.dcm"),
    "many frames": (spoil_frames, r"0002\.dcm must be one slice, got 3 frames"),
    "an early end": (
        lambda f: (f / "0002.dcm").write_bytes((f / "0002.dcm").read_bytes()[:-40]),
        r"0002\.dcm cannot be read as a DICOM image: it is damaged or ends early \(\d+ bytes\)",
    ),
    "an empty file": (lambda f: (f / "0002.dcm").write_bytes(b""), r"0002\.dcm is not a DICOM image: .* empty"),
    "text": (
        lambda f: (f / "0002.dcm").write_bytes(b"text" * 99),
        r"0002\.dcm cannot be read as a DICOM image: it does",
    ),
    "no position": (
        lambda f: edit(f / "0002.dcm", ImagePositionPatient=None),
        r"0002\.dcm does not tell its position \(ImagePositionPatient\)",
    ),
    "other directions": (
        lambda f: edit(f / "0002.dcm", ImageOrientationPatient=[0, 1, 0, 0, 0, -1]),
        r"must have the same directions: 0001\.dcm has .*, 0002\.dcm has .* a localiser",
    ),
    "other pixels": (lambda f: edit(f / "0002.dcm", PixelSpacing=[2, 2]), r"must have the same distances of pixels"),
    "no direction": (
        lambda f: edit(f / "0002.dcm", ImageOrientationPatient=[1, 0, 0, 1, 0, 0]),
        r"0002\.dcm must have two directions of length 1 at right angles",
    ),
}


@pytest.mark.parametrize("spoiled", SPOILED)
def test_a_series_that_is_no_volume_is_refused_in_one_sentence(tmp_path, spoiled):
    spoil, said = SPOILED[spoiled]
    good, bad = tmp_path / "good", tmp_path / "bad"
    for folder in (good, bad):
        write_series(folder, values(grid()), grid())
    spoil(bad)
    dataset = ScanDataset(tmp_path, LoadImaged("image", reader="medsynth_ext.data.ScanReader"))
    sentences = []
    dataset.on_failure = lambda path, sentence: sentences.append(sentence)
    assert [scan_name(item["image"].meta["filename_or_obj"]) for item in dataset] == ["good"]
    assert len(sentences) == 1
    assert re.search(said, sentences[0]), sentences[0]
    assert str(bad) in sentences[0]
    assert "\n" not in sentences[0]


def test_folders_of_slices_are_scans_and_a_folder_of_slices_is_one(tmp_path, monkeypatch):
    affine = grid()
    for name in ("case.01", "1.2.840.99"):
        write_series(tmp_path / name, values(affine), affine)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/readme.txt").touch()
    assert [scan_name(p) for p in find_scans(tmp_path)] == ["1.2.840.99", "case.01"]
    assert [scan_name(p) for p in find_scans(tmp_path / "case.01")] == ["case.01"]
    monkeypatch.chdir(tmp_path / "case.01")
    assert [scan_name(p) for p in find_scans(".")] == ["case.01"]


def test_slices_beside_other_scans_are_refused(tmp_path):
    write_series(tmp_path, values(grid()), grid())
    (tmp_path / "a.nii.gz").touch()
    with pytest.raises(ScanError, match=r"holds DICOM files \(0001\.dcm\) and other scans \(a\.nii\.gz\)"):
        find_scans(tmp_path)


def test_training_data_can_be_dicom(tmp_path):
    from medsynth_ext.data.pairs import find_pairs
    from medsynth_ext.methods.fedsim.cases import find_site_cases
    from medsynth_ext.methods.oneshot.cases import find_annotated
    from medsynth_ext.methods.semipaired.slices import find_ct

    for name in ("images/a", "labels/b", "ct/c", "reference/image"):
        write_series(tmp_path / name, values(grid()), grid())
    for name in ("labels/a.nii.gz", "images/b.nii.gz", "reference/mask.nii.gz"):
        (tmp_path / name).touch()
    pairs = [{"image": str(tmp_path / "images/a"), "label": str(tmp_path / "labels/a.nii.gz")}]
    assert find_pairs(tmp_path, unlabelled=True)[:1] == pairs
    assert find_site_cases(tmp_path)[:1] == pairs
    assert find_ct(tmp_path) == [{"ct": str(tmp_path / "ct/c")}]
    reference = {"image": str(tmp_path / "reference/image"), "label": str(tmp_path / "reference/mask.nii.gz")}
    assert find_annotated(tmp_path, "reference") == [reference]


def test_a_bundle_gives_the_same_for_dicom_as_for_nifti_on_the_same_grid(tmp_path):
    import nibabel as nib
    from bundle_workflows import load_tiny, run_workflow
    from check_bundles import REPOSITORY

    name = "fbpaug_ct_segmentation"
    bundle = REPOSITORY / "bundles" / name
    scans = Path(load_tiny(name).infer(tmp_path / "data", bundle / "models/model.pt")["dataset_dir"])
    (scan,) = scans.iterdir()
    image = nib.load(scan)
    voxels = np.round(np.asarray(image.dataobj)).astype(np.int16)  # as DICOM stores them
    nib.save(nib.Nifti1Image(voxels, image.affine), scan)
    write_series(scans / "series.1", voxels, image.affine)
    run_workflow(bundle, "inference.json", kind="infer", dataset_dir=str(scans), output_dir=str(tmp_path / "out"))
    expected, found = (nib.load(tmp_path / "out" / f"{n}_seg.nii.gz") for n in (scan_name(scan), "series.1"))
    assert found.shape == expected.shape
    assert np.allclose(found.affine, expected.affine, atol=1e-3)
    assert np.array_equal(np.asarray(found.dataobj), np.asarray(expected.dataobj))
    assert np.asarray(found.dataobj).any()
