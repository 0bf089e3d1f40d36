"""Networks that more than one method uses."""

from medsynth_ext.networks.adain import adain, channel_statistics
from medsynth_ext.networks.feature_network import FeatureClassifier, FeatureNetwork
from medsynth_ext.networks.gaussian_codes import draw_codes
from medsynth_ext.networks.hrnet import HRNet
from medsynth_ext.networks.initialisation import xavier_init
from medsynth_ext.networks.join_processes import join_processes
from medsynth_ext.networks.patch_discriminator import MultiScaleDiscriminator, PatchDiscriminator
from medsynth_ext.networks.resnet_generator import ResnetGenerator
from medsynth_ext.networks.unet_generator import UNetGenerator
from medsynth_ext.networks.vgg_features import VGG_LAYERS, VGGFeatures

__all__ = [
    "VGG_LAYERS",
    "FeatureClassifier",
    "FeatureNetwork",
    "HRNet",
    "MultiScaleDiscriminator",
    "PatchDiscriminator",
    "ResnetGenerator",
    "UNetGenerator",
    "VGGFeatures",
    "adain",
    "channel_statistics",
    "draw_codes",
    "join_processes",
    "xavier_init",
]
