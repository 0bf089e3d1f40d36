"""Plain PyTorch twins of the operators: what each computes, in the fewest words; slow, and right in float64."""

from medsynth_ext.ops.reference.blur import gaussian_blur
from medsynth_ext.ops.reference.ct_kernel import kernel_augment, rotate_project
from medsynth_ext.ops.reference.ct_reconstruction import ct_filter, fbp, fdk
from medsynth_ext.ops.reference.diffeo import compose, integrate_svf, jacobian_determinant, warp_points
from medsynth_ext.ops.reference.gmm import gmm_sample, synth_image
from medsynth_ext.ops.reference.labels import map_labels_out
from medsynth_ext.ops.reference.mesh import voxelize_mesh
from medsynth_ext.ops.reference.projector import ct_adjoint, ct_backproject, ct_forward
from medsynth_ext.ops.reference.random import philox_raw, rand_int, rand_normal, rand_uniform
from medsynth_ext.ops.reference.resampling import resample, resize_field, simulate_resolution
from medsynth_ext.ops.reference.warping import affine_svf_warp, lab2im_matrix, warp, warp_labels

__all__ = [
    "affine_svf_warp",
    "compose",
    "ct_adjoint",
    "ct_backproject",
    "ct_filter",
    "ct_forward",
    "fbp",
    "fdk",
    "gaussian_blur",
    "gmm_sample",
    "integrate_svf",
    "jacobian_determinant",
    "kernel_augment",
    "lab2im_matrix",
    "map_labels_out",
    "philox_raw",
    "rand_int",
    "rand_normal",
    "rand_uniform",
    "resample",
    "resize_field",
    "rotate_project",
    "simulate_resolution",
    "synth_image",
    "voxelize_mesh",
    "warp",
    "warp_labels",
    "warp_points",
]
