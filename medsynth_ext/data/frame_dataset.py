"""Every frame of a folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from medsynth_ext.data.point_frames import FrameError, find_frames
from medsynth_ext.data.scans import ScanDataset

__all__ = ["FrameDataset"]


def _check(path: str | os.PathLike) -> None:
    if Path(path).stat().st_size == 0:
        raise FrameError(f"{path} is not a PNG or JPEG picture: the file is empty (0 bytes)")


class FrameDataset(ScanDataset):
    """Loads and transforms every frame of a folder; see ``ScanDataset`` and ``find_frames``.

    Args:
        folder: where the frames are, in the AdaptOR challenge's layout or as plain files, or one file.
        transform: MONAI transform of ``{"image": path}``.
    """

    def __init__(self, folder: str | os.PathLike, transform: Callable[[dict], Any] | None = None) -> None:
        super().__init__(folder, transform, find=find_frames, check=_check, kind="PNG or JPEG picture")
