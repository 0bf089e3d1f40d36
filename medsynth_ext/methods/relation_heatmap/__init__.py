"""Points of unknown number in video frames of two domains, by high-resolution heatmaps (Wang et al., AdaptOR 2021)."""

from medsynth_ext.methods.relation_heatmap.network import PointHeatmapNet

__all__ = ["PointHeatmapNet"]
