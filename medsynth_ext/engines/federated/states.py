"""Numbered states in a folder, from which a killed server or site goes on."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from medsynth_ext.data.files import replacing

__all__ = ["StateFolder"]

logger = logging.getLogger(__name__)


class StateFolder:
    """Files ``state=N.pt``, written whole or not at all.

    Args:
        folder: where they are.
        keep: number of newest files to keep; with two there is always one that a server and its sites have in common.
    """

    def __init__(self, folder: str | Path, *, keep: int = 2) -> None:
        if keep < 2:
            raise ValueError(f"keep must be at least 2, got {keep}")
        self.folder, self.keep = Path(folder), keep

    def files(self) -> list[Path]:
        """The folder's files, oldest first."""
        return sorted(self.folder.glob("state=*.pt"), key=_number)

    def save(self, number: int, state: Mapping[str, Any]) -> None:
        """Write state ``number``, and delete those that are too old or, after a step back, ahead of it."""
        path = self.folder / f"state={number:08d}.pt"
        with replacing(path) as temporary:
            torch.save(dict(state), temporary)
        ahead = [file for file in self.files() if _number(file) > number]
        for old in [*ahead, *[file for file in self.files() if file not in ahead][: -self.keep]]:
            old.unlink(missing_ok=True)

    def newest(self, *, at_most: int | None = None) -> tuple[int, dict[str, Any]] | None:
        """Number and content of the newest readable state; one that cannot be read is skipped with a warning.

        Args:
            at_most: leave out states of a higher number.
        """
        for path in reversed(self.files()):
            if at_most is not None and _number(path) > at_most:
                continue
            try:
                return _number(path), torch.load(path, map_location="cpu", weights_only=True)
            except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
                reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
                logger.warning("%s cannot be read and is skipped: %s", path, reason)
        return None


def _number(path: Path) -> int:
    return int(path.stem.split("=")[1])
