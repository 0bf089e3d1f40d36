"""A bundle's folder and what the checks read of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow

TEXTS = (".json", ".md", ".txt", ".conf")


class CheckError(Exception):
    """A bundle that breaks a rule; the message says which file, what was wanted and what is there."""


class NotApplicable(Exception):  # noqa: N818 - an outcome, no error
    """A check that says nothing about this bundle; the message is the reason that its metadata gives."""


class Bundle:
    """A bundle's folder."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root).resolve()
        self.configs = self.root / "configs"

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """The content of metadata.json."""
        return read_json(self.configs / "metadata.json")

    @property
    def ports(self) -> dict[str, Any]:
        """Inputs and outputs of the network.

        Raises:
            NotApplicable: when the metadata declare none: the bundle's result is not what a network gives.
        """
        ports = self.metadata["network_data_format"]
        if not ports["inputs"] and not ports["outputs"]:
            raise NotApplicable("metadata.json declares no input and output of a network")
        return ports

    def files(self) -> Iterator[Path]:
        """The bundle's files, without what runs leave behind (eval/, data/, caches, hidden files)."""
        for path in sorted(self.root.rglob("*")):
            parts = path.relative_to(self.root).parts
            if path.is_file() and parts[0] not in ("eval", "data", "runs") and not any(p[0] in "._" for p in parts):
                yield path

    def name(self, path: Path) -> str:
        """A file's name inside the bundle."""
        return path.relative_to(self.root).as_posix()

    def workflow(self, *names: str, kind: str, **overrides: Any) -> ConfigWorkflow:
        """A workflow of the named configs that was parsed but not initialised: nothing is loaded."""
        workflow = ConfigWorkflow(
            config_file=[str(self.configs / name) for name in names],
            meta_file=str(self.configs / "metadata.json"),
            logging_file=False,  # type: ignore[arg-type]
            workflow_type=kind,
            bundle_root=str(self.root),
            device="cpu",
            initialize=[],
            **overrides,
        )
        workflow.initialize()
        return workflow


def read_text(path: Path) -> str:
    """The content of a text file."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckError(f"{path.name} cannot be read as text: {error}") from error


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise CheckError(f"{path.name} is no JSON: {error}") from error


def require(condition: object, message: str) -> None:
    """Fail with ``message`` unless ``condition`` holds."""
    if not condition:
        raise CheckError(message)
