"""Metrics that MONAI lacks."""

from medsynth_ext.metrics.fid import DistributionDistance, feature_vectors, fid, kid
from medsynth_ext.metrics.label_surface_distance import LabelSurfaceDistance
from medsynth_ext.metrics.landmark_error import LandmarkError
from medsynth_ext.metrics.landmark_tables import detection_rows, error_rows, write_rows, write_summary
from medsynth_ext.metrics.point_detection import PointDetection, detection_scores
from medsynth_ext.metrics.synthetic_ct import GradientRatio, HUError, LineIntegralError, TissueDice

__all__ = [
    "DistributionDistance",
    "GradientRatio",
    "HUError",
    "LabelSurfaceDistance",
    "LandmarkError",
    "LineIntegralError",
    "PointDetection",
    "TissueDice",
    "detection_rows",
    "detection_scores",
    "error_rows",
    "feature_vectors",
    "fid",
    "kid",
    "write_rows",
    "write_summary",
]
