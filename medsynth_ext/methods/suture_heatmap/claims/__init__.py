"""The claims about suture detection: the method against the challenge's baseline on phantom recordings."""

from medsynth_ext.methods.suture_heatmap.claims.study import SutureHeatmapStudy

__all__ = ["SutureHeatmapStudy"]
