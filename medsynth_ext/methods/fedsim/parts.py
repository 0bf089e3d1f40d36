"""The seven parts of the heart, and which of two overlapping parts has a voxel."""

from __future__ import annotations

__all__ = ["PART_NAMES", "WITH_POOL"]

PART_NAMES = (
    "left ventricle",
    "left myocardium",
    "right ventricle",
    "left atrium",
    "right atrium",
    "ascending aorta",
    "pulmonary artery",
)

# Parts whose surface is taken around another part as well: the myocardium is a cup, closed as a mesh by its cavity.
WITH_POOL = {2: (1,)}
