"""SynthSeg's claims: the arms that are compared on head and heart phantoms, and how each claim is judged."""

from medsynth_ext.methods.synthseg.claims.heart_study import HeartStudy
from medsynth_ext.methods.synthseg.claims.study import SynthSegStudy

__all__ = ["HeartStudy", "SynthSegStudy"]
