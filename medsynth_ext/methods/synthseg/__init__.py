"""SynthSeg: segmentation of any contrast and resolution, trained on synthetic images (Billot et al., MedIA 2023)."""

from medsynth_ext.methods.synthseg.labels import LabelTable
from medsynth_ext.methods.synthseg.network import SynthSegUNet

__all__ = ["LabelTable", "SynthSegUNet"]
