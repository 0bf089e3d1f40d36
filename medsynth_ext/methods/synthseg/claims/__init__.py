"""SynthSeg's claims: the arms that are compared on head phantoms, and how each claim is judged."""

from medsynth_ext.methods.synthseg.claims.study import SynthSegStudy

__all__ = ["SynthSegStudy"]
