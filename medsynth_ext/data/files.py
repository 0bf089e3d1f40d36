"""Writing files so that nobody ever finds half of one."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = ["OutputError", "check_writable", "replacing", "write_json"]


class OutputError(RuntimeError):
    """A result cannot be written; the message is one sentence that names the file and the reason."""


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path beside ``path`` to write to, and rename it to ``path`` when the block ends well.

    The temporary file has the same ending, so writers that look at it work; it is removed when the block fails.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "table.csv"
    >>> with replacing(target) as temporary:
    ...     _ = temporary.write_text("a,b")
    >>> [p.name for p in target.parent.iterdir()]
    ['table.csv']

    Raises:
        OutputError: when the folder or the file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".part-{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # it was renamed, or never made
            temporary.unlink()


def check_writable(folder: str | os.PathLike, *, make: bool = True) -> None:
    """Try to write in a folder.

    Args:
        folder: where results will go.
        make: make it when it is not there; else the nearest folder above it that is there is tried.

    Raises:
        OutputError: when that fails.
    """
    folder = Path(folder)
    try:
        there = folder
        if make:
            folder.mkdir(parents=True, exist_ok=True)
        else:
            there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"\0" * 4096)
    except OSError as error:
        raise OutputError(f"the folder {folder} cannot be written: {error.strerror or error}") from error


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write JSON whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=4, allow_nan=False) + "\n", encoding="utf-8")
