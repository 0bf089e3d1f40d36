"""The operators, one module per family.

All compute in float32 or float64. With float16 or bfloat16 arguments they compute in float32 and return the arguments'
type; under ``torch.autocast`` such arguments count as float32 and the result is float32.
"""

from medsynth_ext.ops._ct_formats import (
    projections_from_astra,
    projections_to_astra,
    volume_from_astra,
    volume_to_astra,
)
from medsynth_ext.ops.blur import gaussian_blur
from medsynth_ext.ops.ct_geometry import CTGeometry
from medsynth_ext.ops.ct_iterative import cgls, poisson_counts, poisson_noise, sirt
from medsynth_ext.ops.ct_kernel import AIR_ZERO_HU, WATER_AIR_HU, kernel_augment, kernel_gain, rotate_project
from medsynth_ext.ops.ct_orbit import CircularOrbit
from medsynth_ext.ops.ct_reconstruction import ct_filter, fbp, fdk, short_scan_weights
from medsynth_ext.ops.diffeo import compose, integrate_svf, jacobian_determinant, warp_points
from medsynth_ext.ops.gmm import gmm_sample, synth_image
from medsynth_ext.ops.heatmap_moments import heatmap_moments, soft_argmax
from medsynth_ext.ops.heatmap_peaks import heatmap_peak, heatmap_peaks_maxpool, heatmap_peaks_nms
from medsynth_ext.ops.heatmap_render import (
    render_gaussian_heatmaps,
    render_gaussian_heatmaps_ragged,
    render_point_map,
)
from medsynth_ext.ops.labels import map_labels
from medsynth_ext.ops.mesh import finite_difference_shape_grad, voxelize_mesh
from medsynth_ext.ops.point_matching import match_points
from medsynth_ext.ops.point_sampling import sample_at_points
from medsynth_ext.ops.projector import ct_adjoint, ct_backproject, ct_forward
from medsynth_ext.ops.random import philox_raw, rand_int, rand_normal, rand_uniform, seed_from_torch
from medsynth_ext.ops.regions import (
    RegionStats,
    binary_dilation,
    binary_erosion,
    binary_opening,
    connected_components,
    otsu_threshold,
    quantize_probability,
    region_stats,
    split_regions,
)
from medsynth_ext.ops.resampling import resample, resize_field, simulate_resolution
from medsynth_ext.ops.slice_product import ortho_slice_product
from medsynth_ext.ops.warping import affine_svf_warp, lab2im_matrix, warp, warp_labels

__all__ = [
    "AIR_ZERO_HU",
    "WATER_AIR_HU",
    "CTGeometry",
    "CircularOrbit",
    "RegionStats",
    "affine_svf_warp",
    "binary_dilation",
    "binary_erosion",
    "binary_opening",
    "cgls",
    "compose",
    "connected_components",
    "ct_adjoint",
    "ct_backproject",
    "ct_filter",
    "ct_forward",
    "fbp",
    "fdk",
    "finite_difference_shape_grad",
    "gaussian_blur",
    "gmm_sample",
    "heatmap_moments",
    "heatmap_peak",
    "heatmap_peaks_maxpool",
    "heatmap_peaks_nms",
    "integrate_svf",
    "jacobian_determinant",
    "kernel_augment",
    "kernel_gain",
    "lab2im_matrix",
    "map_labels",
    "match_points",
    "ortho_slice_product",
    "otsu_threshold",
    "philox_raw",
    "poisson_counts",
    "poisson_noise",
    "projections_from_astra",
    "projections_to_astra",
    "quantize_probability",
    "rand_int",
    "rand_normal",
    "rand_uniform",
    "region_stats",
    "render_gaussian_heatmaps",
    "render_gaussian_heatmaps_ragged",
    "render_point_map",
    "resample",
    "resize_field",
    "rotate_project",
    "sample_at_points",
    "seed_from_torch",
    "short_scan_weights",
    "simulate_resolution",
    "sirt",
    "soft_argmax",
    "split_regions",
    "synth_image",
    "volume_from_astra",
    "volume_to_astra",
    "voxelize_mesh",
    "warp",
    "warp_labels",
    "warp_points",
]
