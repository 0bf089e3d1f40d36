"""Batch generators that make training data on the device of their input."""

from medsynth_ext.generators.synthseg import SynthSegGenerator
from medsynth_ext.generators.synthseg_parameters import SynthSegParameters, SynthSegRanges, draw_parameters

__all__ = ["SynthSegGenerator", "SynthSegParameters", "SynthSegRanges", "draw_parameters"]
