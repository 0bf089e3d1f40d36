"""Suture points in endoscopy: one heatmap, Dice loss, points from its regions (Yao et al., AdaptOR at MICCAI 2021)."""

from medsynth_ext.methods.suture_heatmap.decoding import RegionPoints, ThresholdPoints
from medsynth_ext.methods.suture_heatmap.plain_unet import PlainUNet
from medsynth_ext.methods.suture_heatmap.resnext_unet import ResNeXtUNet

__all__ = ["PlainUNet", "RegionPoints", "ResNeXtUNet", "ThresholdPoints"]
