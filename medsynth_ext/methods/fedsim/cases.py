"""Finding a site's scans and generated patients in folders."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from medsynth_ext.data.pairs import partner
from medsynth_ext.data.scans import ScanError, check_header, find_scans

__all__ = ["find_site_cases", "find_training_pairs", "read_case"]


def find_site_cases(folder: str | Path) -> list[dict[str, str]]:
    """``images/NAME`` of a folder, with ``labels/NAME`` where there is one; labelled cases come first, then by name.

    An empty list when there is no image, so that a workflow can be built before the data are there.
    """
    images, labels = Path(folder) / "images", Path(folder) / "labels"
    if not images.is_dir():
        return []
    cases = [
        {"image": str(path), **({"label": str(label)} if (label := partner(path, labels)).is_file() else {})}
        for path in find_scans(images)
    ]
    return sorted(cases, key=lambda case: ("label" not in case, case["image"]))


def find_training_pairs(folder: str | Path) -> list[dict[str, str]]:
    """Labelled volumes of a folder: ``images/NAME`` with ``labels/NAME``, or the cases of a ``manifest.json``.

    Scans without a label are left out; the segmenter has no use for them.
    """
    manifest = Path(folder) / "manifest.json"
    if manifest.is_file():
        names = json.loads(manifest.read_text())["cases"]
        pairs = [{key: str(Path(folder) / f"{name}_{end}.nii.gz") for key, end in _ENDS} for name in sorted(names)]
        return [pair for pair in pairs if all(Path(path).is_file() for path in pair.values())]
    return [case for case in find_site_cases(folder) if "label" in case]


def read_case(
    case: Mapping[str, str], transform: Callable[[Mapping[str, str]], Mapping[str, Any]]
) -> Mapping[str, Any]:
    """A case's transformed ``image`` and, when it has one, ``label``.

    Raises:
        ScanError: for files that cannot be read or used; names them.
    """
    files = [case[key] for key in ("image", "label") if key in case]
    for path in files:
        check_header(path)
    try:
        return transform(dict(case))
    except (OSError, EOFError, RuntimeError, zlib.error) as error:  # MONAI wraps what a transform raises
        root: BaseException = error
        while not isinstance(root, ScanError) and root.__cause__ is not None:
            root = root.__cause__
        if isinstance(root, ScanError):
            raise root from error
        if isinstance(root, OSError | EOFError | zlib.error):
            raise ScanError(f"{' and '.join(files)} cannot be read: {root}") from error
        raise


_ENDS = (("image", "ct"), ("label", "label"))
