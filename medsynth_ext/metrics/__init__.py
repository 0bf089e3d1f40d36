"""Metrics that MONAI lacks."""

from medsynth_ext.metrics.label_surface_distance import LabelSurfaceDistance

__all__ = ["LabelSurfaceDistance"]
