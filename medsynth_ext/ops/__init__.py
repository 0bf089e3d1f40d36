"""The operators, one module per family.

All compute in float32 or float64. With float16 or bfloat16 arguments they compute in float32 and return the arguments'
type; under ``torch.autocast`` such arguments count as float32 and the result is float32.
"""

from medsynth_ext.ops.blur import gaussian_blur
from medsynth_ext.ops.diffeo import compose, integrate_svf, jacobian_determinant, warp_points
from medsynth_ext.ops.gmm import gmm_sample, synth_image
from medsynth_ext.ops.labels import map_labels
from medsynth_ext.ops.random import philox_raw, rand_int, rand_normal, rand_uniform, seed_from_torch
from medsynth_ext.ops.resampling import resample, resize_field, simulate_resolution
from medsynth_ext.ops.warping import affine_svf_warp, lab2im_matrix, warp, warp_labels

__all__ = [
    "affine_svf_warp",
    "compose",
    "gaussian_blur",
    "gmm_sample",
    "integrate_svf",
    "jacobian_determinant",
    "lab2im_matrix",
    "map_labels",
    "philox_raw",
    "rand_int",
    "rand_normal",
    "rand_uniform",
    "resample",
    "resize_field",
    "seed_from_torch",
    "simulate_resolution",
    "synth_image",
    "warp",
    "warp_labels",
    "warp_points",
]
