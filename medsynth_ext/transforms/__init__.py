"""MONAI transforms, array and dictionary forms, usable in any pipeline."""

from medsynth_ext.transforms.check_ct import CheckCTd
from medsynth_ext.transforms.check_modality import CheckModalityd
from medsynth_ext.transforms.check_same_grid import CheckSameGridd
from medsynth_ext.transforms.decode_points import DecodePointsd
from medsynth_ext.transforms.detection_boxes import DetectionBoxesd, landmark_answer
from medsynth_ext.transforms.fbpaug import FBPAug, FBPAugd
from medsynth_ext.transforms.frame_landmarks import FrameLandmarksd
from medsynth_ext.transforms.heatmaps_to_landmarks import HeatmapsToLandmarks, HeatmapsToLandmarksd
from medsynth_ext.transforms.landmarks_to_heatmaps import LandmarksToHeatmaps, LandmarksToHeatmapsd
from medsynth_ext.transforms.load_point_frame import LoadPointFramed
from medsynth_ext.transforms.place_points import PlacePointsd
from medsynth_ext.transforms.point_frame_augmentation import PointFrameAugmentation
from medsynth_ext.transforms.posteriors_to_labels import PosteriorsToLabels, PosteriorsToLabelsd
from medsynth_ext.transforms.rand_fbpaug import RandFBPAug, RandFBPAugd
from medsynth_ext.transforms.rand_low_resolution import RandLowResolution, RandLowResolutiond
from medsynth_ext.transforms.rand_smooth_bias_field import RandSmoothBiasField, RandSmoothBiasFieldd
from medsynth_ext.transforms.rand_svf_affine import RandSVFAffine, RandSVFAffined
from medsynth_ext.transforms.rand_synth_from_labels import RandSynthFromLabels, RandSynthFromLabelsd
from medsynth_ext.transforms.resample_to_spacing import ResampleToSpacing, ResampleToSpacingd
from medsynth_ext.transforms.scan_spacing import ScanSpacingd

__all__ = [
    "CheckCTd",
    "CheckModalityd",
    "CheckSameGridd",
    "DecodePointsd",
    "DetectionBoxesd",
    "FBPAug",
    "FBPAugd",
    "FrameLandmarksd",
    "HeatmapsToLandmarks",
    "HeatmapsToLandmarksd",
    "LandmarksToHeatmaps",
    "LandmarksToHeatmapsd",
    "LoadPointFramed",
    "PlacePointsd",
    "PointFrameAugmentation",
    "PosteriorsToLabels",
    "PosteriorsToLabelsd",
    "RandFBPAug",
    "RandFBPAugd",
    "RandLowResolution",
    "RandLowResolutiond",
    "RandSVFAffine",
    "RandSVFAffined",
    "RandSmoothBiasField",
    "RandSmoothBiasFieldd",
    "RandSynthFromLabels",
    "RandSynthFromLabelsd",
    "ResampleToSpacing",
    "ResampleToSpacingd",
    "ScanSpacingd",
    "landmark_answer",
]
