"""The operators, one module per family."""

from medsynth_ext.ops.blur import gaussian_blur
from medsynth_ext.ops.diffeo import compose, integrate_svf, jacobian_determinant, warp_points
from medsynth_ext.ops.gmm import gmm_sample, synth_image
from medsynth_ext.ops.labels import map_labels
from medsynth_ext.ops.random import philox_raw, rand_int, rand_normal, rand_uniform, seed_from_torch

__all__ = [
    "compose",
    "gaussian_blur",
    "gmm_sample",
    "integrate_svf",
    "jacobian_determinant",
    "map_labels",
    "philox_raw",
    "rand_int",
    "rand_normal",
    "rand_uniform",
    "seed_from_torch",
    "synth_image",
    "warp_points",
]
