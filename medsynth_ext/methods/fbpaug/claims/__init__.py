"""FBPAug's claims: networks trained on soft reconstructions, tested on pairs of soft and sharp ones."""

from medsynth_ext.methods.fbpaug.claims.study import FBPAugStudy

__all__ = ["FBPAugStudy"]
