"""Ignite handlers that MONAI lacks."""

from medsynth_ext.handlers.checkpoint import Checkpoint
from medsynth_ext.handlers.detection_writer import DetectionWriter
from medsynth_ext.handlers.early_stop import EarlyStop
from medsynth_ext.handlers.ema import EMA, EMAHandler
from medsynth_ext.handlers.loss_log import LossLog
from medsynth_ext.handlers.map_pictures import MapPictures
from medsynth_ext.handlers.nifti_writer import NiftiWriter
from medsynth_ext.handlers.plateau_stop import PlateauStop
from medsynth_ext.handlers.progress import ProgressBar
from medsynth_ext.handlers.rate_schedule import RateSchedule
from medsynth_ext.handlers.sample_pictures import SamplePictures
from medsynth_ext.handlers.scalars import scalars
from medsynth_ext.handlers.time_limit import TimeLimit
from medsynth_ext.handlers.translation_pictures import TranslationPictures
from medsynth_ext.handlers.weights import WeightsError, load_weights
from medsynth_ext.handlers.weights_writer import WeightsWriter, half_state_dict

__all__ = [
    "EMA",
    "Checkpoint",
    "DetectionWriter",
    "EMAHandler",
    "EarlyStop",
    "LossLog",
    "MapPictures",
    "NiftiWriter",
    "PlateauStop",
    "ProgressBar",
    "RateSchedule",
    "SamplePictures",
    "TimeLimit",
    "TranslationPictures",
    "WeightsError",
    "WeightsWriter",
    "half_state_dict",
    "load_weights",
    "scalars",
]
