"""Reading a study's settings from its config."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any, TypeVar

__all__ = ["StudySettings", "read_settings"]

T = TypeVar("T")
S = TypeVar("S", bound="StudySettings")


def read_settings(kind: type[T], config: Mapping[str, Any], *, what: str, optional: Collection[str] = ()) -> T:
    """A dataclass from the entries of a config; lists become tuples.

    Args:
        kind: the dataclass.
        config: an entry for each of its fields.
        what: what the error calls them.
        optional: fields that may be missing, since they have a default.

    Raises:
        ValueError: for missing or unknown entries.
    """
    names = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    wrong = sorted((set(config) - names) | (names - set(config) - set(optional)))
    if wrong:
        raise ValueError(f"{what} of the claims must have the entries {sorted(names)}; look at {wrong[0]}")
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in config.items()})


class StudySettings:
    """Base of the dataclass that holds the numbers of one scale."""

    @classmethod
    def from_config(cls: type[S], config: Mapping[str, Any]) -> S:
        """Read one scale of the config; ``workers`` and ``data_workers`` in it belong to the machinery.

        Raises:
            ValueError: for missing or unknown entries.
        """
        given = {key: value for key, value in config.items() if key not in ("workers", "data_workers")}
        return read_settings(cls, given, what="the settings")
