"""Images and what belongs to them, label maps or other images, in two folders."""

from __future__ import annotations

from pathlib import Path

__all__ = ["find_pairs", "require_pairs"]

_SUFFIXES = (".nii", ".nii.gz", ".mgz", ".mgh")


def find_pairs(
    folder: str | Path, *, images: str = "images", labels: str = "labels", unlabelled: bool = False
) -> list[dict[str, str]]:
    """Pairs of ``folder/images/NAME`` and ``folder/labels/NAME`` by name, as ``[{"image": ..., "label": ...}, ...]``.

    An empty list when there is no image, so that a workflow can be built before the data are there.

    Args:
        folder: holds the two folders.
        images: name of the first.
        labels: name of the second.
        unlabelled: images without a partner are welcome; they come without the entry ``label``.

    Raises:
        ValueError: for an image without a file of the same name in the other folder, unless these are welcome.
    """
    first, second = Path(folder) / images, Path(folder) / labels
    names = [f.name for f in sorted(first.iterdir()) if f.name.endswith(_SUFFIXES)] if first.is_dir() else []
    missing = [name for name in names if not (second / name).is_file()]
    if missing and not unlabelled:
        what = "label map" if labels == "labels" else "partner"
        raise ValueError(f"{first / missing[0]} has no {what} {second / missing[0]} ({len(missing)} missing in all)")
    return [
        {"image": str(first / name), **({} if name in missing else {"label": str(second / name)})} for name in names
    ]


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
