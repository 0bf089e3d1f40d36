"""FBPAug: CT segmentation that does not depend on the reconstruction kernel (Saparov et al., DALI 2021)."""

from medsynth_ext.methods.fbpaug.network import ResidualUNet2D

__all__ = ["ResidualUNet2D"]
