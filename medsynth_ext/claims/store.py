"""Keeps the figures of finished work, one file per arm and seed, so that a killed run goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medsynth_ext.claims.study import Arm
from medsynth_ext.data.files import write_json

__all__ = ["ResultStore", "fingerprint"]


def fingerprint(settings: Mapping[str, Any]) -> str:
    """A short name of settings: equal for equal settings, whatever their order."""
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class ResultStore:
    """Figures of finished arms under a folder.

    The figures of an arm and seed are in a folder named after the arm, the seed and its settings, so results of other
    settings are never mixed up and stay usable when a setting is changed back.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def data(self) -> Path:
        """Folder of the data that arms share."""
        return self.root / "data"

    def folder(self, arm: Arm, seed: int) -> Path:
        """Folder of one arm and seed."""
        return self.root / "arms" / f"{arm.name}-{seed}-{fingerprint(arm.settings)}"

    def load(self, arm: Arm, seed: int) -> dict[str, Any] | None:
        """``{"figures", "seconds"}`` of a finished arm and seed; ``None`` when it has to be run."""
        path = self.folder(arm, seed) / "figures.json"
        if not path.is_file():
            return None
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is damaged ({error}); remove it to run {arm.name}, seed {seed}, again") from error
        return record

    def save(self, arm: Arm, seed: int, figures: Mapping[str, Any], seconds: float) -> None:
        """Keep the figures of a finished arm and seed."""
        write_json(self.folder(arm, seed) / "figures.json", {"figures": dict(figures), "seconds": round(seconds, 2)})

    def discard(self, arm: Arm, seed: int) -> None:
        """Forget the figures and everything else that was left by this arm and seed."""
        folder = self.folder(arm, seed)
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
