"""Images and their label maps in two folders."""

from __future__ import annotations

from pathlib import Path

__all__ = ["find_pairs"]

_SUFFIXES = (".nii", ".nii.gz", ".mgz", ".mgh")


def find_pairs(folder: str | Path) -> list[dict[str, str]]:
    """Pairs of ``folder/images/NAME`` and ``folder/labels/NAME`` by name, as ``[{"image": ..., "label": ...}, ...]``.

    An empty list when there is no image, so that a workflow can be built before the data are there.

    Raises:
        ValueError: for an image without a label map of the same name.
    """
    images = Path(folder) / "images"
    names = [f.name for f in sorted(images.iterdir()) if f.name.endswith(_SUFFIXES)] if images.is_dir() else []
    labels = Path(folder) / "labels"
    missing = [name for name in names if not (labels / name).is_file()]
    if missing:
        raise ValueError(
            f"{images / missing[0]} has no label map {labels / missing[0]} ({len(missing)} missing in all)"
        )
    return [{"image": str(images / name), "label": str(labels / name)} for name in names]
