"""Translation between CT and MR that keeps the anatomy in place (Cai et al., Medical Image Analysis 2019)."""

from medsynth_ext.methods.shape_consistent.generator import ShortUNetGenerator
from medsynth_ext.methods.shape_consistent.segmenters import PSPNet, RefineNet, SegmentationUNet, make_segmenter

__all__ = ["PSPNet", "RefineNet", "SegmentationUNet", "ShortUNetGenerator", "make_segmenter"]
