"""Frequency-supervised MR-to-CT synthesis (Shi et al., DGM4MICCAI 2021)."""

from medsynth_ext.methods.frequency_supervised.backbones import FCNet, ResNet, UNet
from medsynth_ext.methods.frequency_supervised.network import BoundaryRefined, FrequencySupervised, Regression

__all__ = ["BoundaryRefined", "FCNet", "FrequencySupervised", "Regression", "ResNet", "UNet"]
