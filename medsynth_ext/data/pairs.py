"""Images and what belongs to them, label maps or other images, in two folders."""

from __future__ import annotations

from pathlib import Path

from medsynth_ext.data.scans import SCAN_SUFFIXES, is_scan

__all__ = ["find_pairs", "partner", "require_pairs"]


def partner(scan: Path, folder: Path) -> Path:
    """The file or folder of the same name in another folder; for a DICOM series also a file ``NAME.nii.gz`` or such."""
    same = folder / scan.name
    if same.exists() or not scan.is_dir():
        return same
    files = [folder / f"{scan.name}{suffix}" for suffix in SCAN_SUFFIXES]
    return next((file for file in files if file.is_file()), files[0])


def find_pairs(
    folder: str | Path, *, images: str = "images", labels: str = "labels", unlabelled: bool = False
) -> list[dict[str, str]]:
    """Pairs of ``folder/images/NAME`` and ``folder/labels/NAME`` by name, as ``[{"image": ..., "label": ...}, ...]``.

    An image can be a folder of DICOM files; its label is then ``NAME.nii.gz`` or another file of that name. Hidden
    files are left out. An empty list when there is no image, so that a workflow can be built before the data are there.

    Args:
        folder: holds the two folders.
        images: name of the first.
        labels: name of the second.
        unlabelled: images without a partner are welcome; they come without the entry ``label``.

    Raises:
        ValueError: for an image without a file of the same name in the other folder, unless these are welcome.
    """
    first, second = Path(folder) / images, Path(folder) / labels
    scans = sorted(first.iterdir()) if first.is_dir() else []
    pairs = {scan: partner(scan, second) for scan in scans if scan.name[0] != "." and is_scan(scan)}
    missing = [scan for scan, other in pairs.items() if not other.exists()]
    if missing and not unlabelled:
        what = "label map" if labels == "labels" else "partner"
        raise ValueError(f"{missing[0]} has no {what} {pairs[missing[0]]} ({len(missing)} missing in all)")
    return [{"image": str(scan), **({} if scan in missing else {"label": str(other)})} for scan, other in pairs.items()]


def require_pairs(
    pairs: list[dict[str, str]], folder: str | Path, *, least: int = 1, images: str = "images", labels: str = "labels"
) -> None:
    """Refuse to work on fewer pairs than ``least``, with a sentence that says where they were looked for.

    Raises:
        ValueError: when there are fewer.
    """
    if len(pairs) < least:
        raise ValueError(
            f"{Path(folder) / images} and {Path(folder) / labels} hold {len(pairs)} pairs of NIfTI or MGZ files of one "
            f"name, wanted at least {least}"
        )
