"""The claims of semi-paired translation, arm by arm, on pelvis phantoms."""

from medsynth_ext.methods.semipaired.claims.study import SemiPairedStudy

__all__ = ["SemiPairedStudy"]
