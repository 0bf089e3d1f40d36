"""The figures in an engine's output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai.utils import is_scalar

__all__ = ["scalars"]


def scalars(output: list[Mapping[str, Any]] | Mapping[str, Any]) -> dict[str, float]:
    """Every scalar of an engine's output, or of its first sample when it was decollated (they all hold the same)."""
    sample = output[0] if isinstance(output, list) else output
    return {name: float(value) for name, value in sample.items() if is_scalar(value)}
