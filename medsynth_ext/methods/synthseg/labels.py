"""The label table: which values a label map holds, how they are drawn and what is predicted."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

__all__ = ["LabelTable"]

_LISTS = ("generation_labels", "generation_classes", "segmentation_labels")


@dataclass(frozen=True)
class LabelTable:
    """Labels of a generator and of the network that it trains.

    ``generation_labels`` are ordered: ``n_neutral`` labels without a side (background first), then the left ones, then
    the right ones in the order of the left. Without sides (a heart) all labels are neutral.

    Args:
        generation_labels: values that may occur in a label map.
        n_neutral: how many of them have no side.
        generation_classes: for every generation label the class whose Gaussian it is drawn from, 0..n_classes-1.
        segmentation_labels: for every generation label the value to predict, 0 for background.
        names: name of a value.
        topological_classes: for a predicted value the group of values that form one connected piece; values that are
            missing or 0 are left as they are by the clean-up.
        lesion_labels: for a lesion label the label of the tissue around it, whose look it takes where lesions are off.
        extra_cerebral_labels: generation labels that skull stripping turns into background.
        csf_label: the fluid around the brain, which half of the stripped images lose too.

    Raises:
        ValueError: with what was wanted and what came.
    """

    generation_labels: list[int]
    n_neutral: int
    generation_classes: list[int]
    segmentation_labels: list[int]
    names: dict[int, str] = field(default_factory=dict)
    topological_classes: dict[int, int] = field(default_factory=dict)
    lesion_labels: dict[int, int] = field(default_factory=dict)
    extra_cerebral_labels: list[int] = field(default_factory=list)
    csf_label: int | None = None

    def __post_init__(self) -> None:
        for name in _LISTS:
            values = getattr(self, name)
            wrong = [v for v in values if isinstance(v, bool) or not isinstance(v, int) or v < 0]
            if wrong:
                raise ValueError(f"{name} must hold integers from 0 on, got {wrong[0]!r}")
        n = len(self.generation_labels)
        for name in _LISTS[1:]:
            if len(getattr(self, name)) != n:
                raise ValueError(
                    f"{name} must have one entry per generation label ({n}), got {len(getattr(self, name))}"
                )
        repeated = sorted({v for v in self.generation_labels if self.generation_labels.count(v) > 1})
        if repeated:
            raise ValueError(f"generation_labels must differ from each other, got {repeated[0]} more than once")
        if not 1 <= self.n_neutral <= n or (n - self.n_neutral) % 2:
            raise ValueError(
                f"n_neutral must be 1 to {n} and leave an even number of left and right labels, got {self.n_neutral}"
            )
        if self.generation_labels[0] != 0 or self.segmentation_labels[0] != 0:
            raise ValueError(
                "the first generation label must be background, 0 predicted as 0, got "
                f"{self.generation_labels[0]} predicted as {self.segmentation_labels[0]}"
            )
        absent = sorted(set(range(max(self.generation_classes) + 1)) - set(self.generation_classes))
        if absent:
            raise ValueError(f"generation_classes must use every number from 0 to its largest, {absent[0]} is missing")
        self._check_sides()
        unknown = sorted(set(self.topological_classes) - set(self.segmentation_labels))
        if unknown:
            raise ValueError(f"topological_classes name {unknown[0]}, which is not among the segmentation_labels")
        self._check_edits()

    def _check_edits(self) -> None:
        named = {
            "lesion_labels": [*self.lesion_labels, *self.lesion_labels.values()],
            "extra_cerebral_labels": self.extra_cerebral_labels,
            "csf_label": [] if self.csf_label is None else [self.csf_label],
        }
        for name, values in named.items():
            unknown = sorted(set(values) - set(self.generation_labels))
            if unknown:
                raise ValueError(f"{name} names {unknown[0]}, which is not among the generation_labels")

    def _check_sides(self) -> None:
        """Neutral labels are predicted as themselves mirrored, left ones as the mirror of the right ones."""
        mirror: dict[int, int] = {}
        for i, j in enumerate(self._flip_order()):
            a, b = self.segmentation_labels[i], self.segmentation_labels[j]
            if mirror.setdefault(a, b) != b:
                raise ValueError(
                    f"segmentation_labels: value {a} is mirrored to {mirror[a]} by one generation label and to {b} by "
                    f"{self.generation_labels[i]}; left and right labels must be predicted in pairs"
                )

    def _flip_order(self) -> list[int]:
        n, neutral = len(self.generation_labels), self.n_neutral
        half = (n - neutral) // 2
        return [*range(neutral), *range(neutral + half, n), *range(neutral, neutral + half)]

    @classmethod
    def from_json(cls, path: str | os.PathLike) -> LabelTable:
        """Read a table from a JSON file with the names of the arguments as keys.

        Raises:
            FileNotFoundError: when there is no such file.
            ValueError: when it is not JSON, has missing or unknown keys, or a wrong entry.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"the label table {path} does not exist")
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"the label table {path} is not JSON: {error}") from error
        try:
            return cls.from_dict(data)
        except ValueError as error:
            raise ValueError(f"the label table {path}: {error}") from error

    @classmethod
    def from_dict(cls, data: Any) -> LabelTable:
        """A table from an object with the names of the arguments as keys, as JSON gives it.

        Raises:
            ValueError: when it has missing or unknown keys, or a wrong entry.
        """
        return cls(**_arguments(data))

    @cached_property
    def n_classes(self) -> int:
        """Number of Gaussians."""
        return max(self.generation_classes) + 1

    @cached_property
    def target_values(self) -> list[int]:
        """Predicted values in the order of the network's channels."""
        return sorted(set(self.segmentation_labels))

    @property
    def n_targets(self) -> int:
        """Number of the network's channels K', background included."""
        return len(self.target_values)

    @cached_property
    def target_names(self) -> list[str]:
        """Name of every channel."""
        return ["background" if v == 0 else self.names.get(v, f"label {v}") for v in self.target_values]

    @cached_property
    def lut(self) -> Tensor:  # (max label + 1,) int32
        """Generation index of every label value; -1 where the value is not a generation label."""
        table = torch.full((max(self.generation_labels) + 1,), -1, dtype=torch.int32)
        table[torch.tensor(self.generation_labels)] = torch.arange(len(self.generation_labels), dtype=torch.int32)
        return table

    @cached_property
    def class_of(self) -> Tensor:  # (n labels,) int32
        """Class of every generation index."""
        return torch.tensor(self.generation_classes, dtype=torch.int32)

    @cached_property
    def target_of(self) -> Tensor:  # (n labels,) int32
        """Channel of every generation index."""
        return torch.tensor([self.target_values.index(v) for v in self.segmentation_labels], dtype=torch.int32)

    @cached_property
    def flip(self) -> Tensor:  # (n labels,) int32
        """Generation index of the mirrored label."""
        return torch.tensor(self._flip_order(), dtype=torch.int32)

    @cached_property
    def lesion_source(self) -> Tensor:  # (n labels,) int32
        """Generation index whose look each generation index takes where lesions are off: itself unless a lesion."""
        tissue = [self.lesion_labels.get(v, v) for v in self.generation_labels]
        return torch.tensor([self.generation_labels.index(v) for v in tissue], dtype=torch.int32)

    @cached_property
    def is_extra_cerebral(self) -> Tensor:  # (n labels,) bool
        """Which generation indices skull stripping removes."""
        return torch.tensor([v in self.extra_cerebral_labels for v in self.generation_labels])

    @cached_property
    def is_csf(self) -> Tensor:  # (n labels,) bool
        """Which generation index is the fluid around the brain."""
        return torch.tensor([v == self.csf_label for v in self.generation_labels])

    @cached_property
    def target_flip(self) -> list[int]:
        """Mirrored channel of every channel."""
        mirror = {self.segmentation_labels[i]: self.segmentation_labels[j] for i, j in enumerate(self._flip_order())}
        return [self.target_values.index(mirror[v]) for v in self.target_values]

    @cached_property
    def target_topology(self) -> list[int]:
        """Topological class of every channel, 0 for none."""
        return [self.topological_classes.get(v, 0) for v in self.target_values]


def _arguments(data: Any) -> dict[str, Any]:
    if not isinstance(data, Mapping):
        raise ValueError(f"wanted an object with keys {', '.join(_LISTS)}, got {type(data).__name__}")
    required = {*_LISTS, "n_neutral"}
    optional = {"names", "topological_classes", "lesion_labels", "extra_cerebral_labels", "csf_label"}
    if missing := sorted(required - set(data)):
        raise ValueError(f"the key {missing[0]} is missing")
    if unknown := sorted(set(data) - required - optional):
        raise ValueError(f"the key {unknown[0]} is unknown")
    for name in _LISTS:
        if not isinstance(data[name], Sequence) or isinstance(data[name], str):
            raise ValueError(f"{name} must be a list, got {type(data[name]).__name__}")
    if isinstance(data["n_neutral"], bool) or not isinstance(data["n_neutral"], int):
        raise ValueError(f"n_neutral must be an integer, got {data['n_neutral']!r}")
    arguments = dict(data)
    for name, kind in (("names", str), ("topological_classes", int), ("lesion_labels", int)):
        table = data.get(name, {})
        if not isinstance(table, Mapping):
            raise ValueError(f"{name} must be an object, got {type(table).__name__}")
        try:
            arguments[name] = {int(key): kind(value) for key, value in table.items()}
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name} must map label values to {kind.__name__}: {error}") from error
    return arguments
