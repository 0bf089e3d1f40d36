"""Refusing to begin without data."""

from __future__ import annotations

import os
from collections.abc import Sized
from pathlib import Path

from medsynth_ext.data.scan_error import ScanError

__all__ = ["require_items"]


def require_items(items: Sized, folder: str | os.PathLike, what: str, *, least: int = 1) -> None:
    """Refuse to work on fewer items than ``least``, with a sentence that says where they were looked for.

    Args:
        items: what was found.
        folder: where.
        what: is wanted there, for example ``"labelled frames SURGERY/VIDEO/images/NAME.png"``.
        least: number of items.

    Raises:
        ScanError: when the folder is not there, or there are fewer.
    """
    if len(items) >= least:
        return
    if not Path(folder).is_dir():
        raise ScanError(f"the folder {folder} does not exist")
    raise ScanError(f"{folder} holds {len(items)} {what}, wanted at least {least}")
