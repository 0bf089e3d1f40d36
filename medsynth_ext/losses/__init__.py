"""Losses that MONAI lacks and more than one method uses."""

from medsynth_ext.losses.adversarial import (
    AdversarialLoss,
    decisions,
    feature_matching,
    hinge_discriminator,
    hinge_generator,
    scales_of,
)
from medsynth_ext.losses.conditional_adversarial import ConditionalAdversarialLoss
from medsynth_ext.losses.feature_distance import FeatureDistance
from medsynth_ext.losses.gaussian_kl import gaussian_kl
from medsynth_ext.losses.jensen_shannon import jensen_shannon
from medsynth_ext.losses.relativistic import relativistic_discriminator, relativistic_generator
from medsynth_ext.losses.whole_batch import WholeBatchLoss

__all__ = [
    "AdversarialLoss",
    "ConditionalAdversarialLoss",
    "FeatureDistance",
    "WholeBatchLoss",
    "decisions",
    "feature_matching",
    "gaussian_kl",
    "hinge_discriminator",
    "hinge_generator",
    "jensen_shannon",
    "relativistic_discriminator",
    "relativistic_generator",
    "scales_of",
]
