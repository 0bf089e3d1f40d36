"""Ways to run a network that MONAI lacks."""

from medsynth_ext.inferers.detector import InfererDetector
from medsynth_ext.inferers.volume import SeamSteps, VolumeInferer, seam_steps

__all__ = ["InfererDetector", "SeamSteps", "VolumeInferer", "seam_steps"]
