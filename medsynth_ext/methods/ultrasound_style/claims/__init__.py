"""The claims of the ultrasound style transfer."""

from medsynth_ext.methods.ultrasound_style.claims.study import UltrasoundStyleStudy

__all__ = ["UltrasoundStyleStudy"]
