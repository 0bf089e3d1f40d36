"""Ultrasound in another look: variational style transfer (Hung and Galeotti, DGM4MICCAI at MICCAI 2021)."""

from medsynth_ext.methods.ultrasound_style.network import ContentUNet, StyleTransferNetwork, StyleVAE
from medsynth_ext.methods.ultrasound_style.transform import RandUltrasoundStyled

__all__ = ["ContentUNet", "RandUltrasoundStyled", "StyleTransferNetwork", "StyleVAE"]
