"""Claims on domains, decoding and targets: networks trained on endoscopic phantoms, tested on other recordings."""

from medsynth_ext.methods.relation_heatmap.claims.rival import Rival
from medsynth_ext.methods.relation_heatmap.claims.study import RelationHeatmapStudy

__all__ = ["RelationHeatmapStudy", "Rival"]
