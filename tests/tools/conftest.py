"""Puts tools/ on the path."""

from __future__ import annotations

from pathlib import Path

import pytest
from bundle_workflows import TOOLS


@pytest.fixture
def bundle() -> Path:
    """The bundle whose training reads a folder of label maps."""
    return TOOLS.parent / "bundles/synthseg_brain_segmentation"
