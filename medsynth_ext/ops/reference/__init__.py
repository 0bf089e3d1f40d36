"""Plain PyTorch twins of the operators: what each computes, in the fewest words; slow, and right in float64."""

from medsynth_ext.ops.reference.blur import gaussian_blur
from medsynth_ext.ops.reference.ct_kernel import kernel_augment, rotate_project
from medsynth_ext.ops.reference.ct_reconstruction import ct_filter, fbp, fdk
from medsynth_ext.ops.reference.diffeo import compose, integrate_svf, jacobian_determinant, warp_points
from medsynth_ext.ops.reference.gmm import gmm_sample, synth_image
from medsynth_ext.ops.reference.heatmap_moments import heatmap_moments, in_millimetres, mean_and_cov, soft_argmax
from medsynth_ext.ops.reference.heatmap_peaks import heatmap_peak, heatmap_peaks_nms
from medsynth_ext.ops.reference.heatmap_render import (
    render_gaussian_heatmaps,
    render_gaussian_heatmaps_ragged,
    render_plan,
    render_point_map,
)
from medsynth_ext.ops.reference.labels import map_labels_out
from medsynth_ext.ops.reference.mesh import voxelize_mesh
from medsynth_ext.ops.reference.point_sampling import points_as_field, sample_at_points
from medsynth_ext.ops.reference.projector import ct_adjoint, ct_backproject, ct_forward
from medsynth_ext.ops.reference.random import philox_raw, rand_int, rand_normal, rand_uniform
from medsynth_ext.ops.reference.regions import connected_components, region_sums
from medsynth_ext.ops.reference.resampling import resample, resize_field, simulate_resolution
from medsynth_ext.ops.reference.slice_product import ortho_slice_product
from medsynth_ext.ops.reference.warping import affine_svf_warp, lab2im_matrix, warp, warp_labels

__all__ = [
    "affine_svf_warp",
    "compose",
    "connected_components",
    "ct_adjoint",
    "ct_backproject",
    "ct_filter",
    "ct_forward",
    "fbp",
    "fdk",
    "gaussian_blur",
    "gmm_sample",
    "heatmap_moments",
    "heatmap_peak",
    "heatmap_peaks_nms",
    "in_millimetres",
    "integrate_svf",
    "jacobian_determinant",
    "kernel_augment",
    "lab2im_matrix",
    "map_labels_out",
    "mean_and_cov",
    "ortho_slice_product",
    "philox_raw",
    "points_as_field",
    "rand_int",
    "rand_normal",
    "rand_uniform",
    "region_sums",
    "render_gaussian_heatmaps",
    "render_gaussian_heatmaps_ragged",
    "render_plan",
    "render_point_map",
    "resample",
    "resize_field",
    "rotate_project",
    "sample_at_points",
    "simulate_resolution",
    "soft_argmax",
    "synth_image",
    "voxelize_mesh",
    "warp",
    "warp_labels",
    "warp_points",
]
