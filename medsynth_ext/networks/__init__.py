"""Networks that more than one method uses."""

from medsynth_ext.networks.hrnet import HRNet
from medsynth_ext.networks.initialisation import xavier_init
from medsynth_ext.networks.patch_discriminator import MultiScaleDiscriminator, PatchDiscriminator
from medsynth_ext.networks.resnet_generator import ResnetGenerator
from medsynth_ext.networks.unet_generator import UNetGenerator
from medsynth_ext.networks.vgg_features import VGG_LAYERS, VGGFeatures

__all__ = [
    "VGG_LAYERS",
    "HRNet",
    "MultiScaleDiscriminator",
    "PatchDiscriminator",
    "ResnetGenerator",
    "UNetGenerator",
    "VGGFeatures",
    "xavier_init",
]
