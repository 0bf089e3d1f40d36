"""Procedural anatomy: heads that are pure functions of a seed, and an independent renderer."""

from medsynth_ext.phantoms.head import (
    HeadParameters,
    HeadPhantom,
    head_label_table,
    head_phantom,
    with_boundary_noise,
)
from medsynth_ext.phantoms.head_mr_ct import HeadPair, head_mr_ct
from medsynth_ext.phantoms.rendering import RENDER_CONTRASTS, Contrast, render_head, resample_to_phantom

__all__ = [
    "RENDER_CONTRASTS",
    "Contrast",
    "HeadPair",
    "HeadParameters",
    "HeadPhantom",
    "head_label_table",
    "head_mr_ct",
    "head_phantom",
    "render_head",
    "resample_to_phantom",
    "with_boundary_noise",
]
