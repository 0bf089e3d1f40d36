"""One call of every public operator, small: what tests that go over all of them share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from medsynth_ext import ops

LABELS = torch.arange(42).reshape(1, 1, 6, 7) % 3
MATRIX = torch.tensor([[[0.75, 0.25, 0.5], [-0.25, 1.0, 1.0]]])


def values(*shape: int, scale: float = 1.0) -> Tensor:
    """Numbers that float16 and bfloat16 hold exactly."""
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randint(-16, 17, shape, generator=generator) * (scale / 16)


@dataclass(frozen=True)
class Case:
    """One call of an operator: the float arguments by name, in order, and all else."""

    operator: str
    floats: dict[str, Tensor]
    options: dict[str, Any]
    before: tuple[Any, ...] = ()  # positional arguments that come first
    gradient: bool = True

    def __str__(self) -> str:
        return "-".join([self.operator, *(str(v) for v in self.options.values() if isinstance(v, str))])

    def call(self, module: Any = ops, *, floats: dict[str, Tensor] | None = None, **more: Any) -> Any:
        """Call with these float arguments; the first result where there are several."""
        given = self.floats if floats is None else floats
        result = getattr(module, self.operator)(*self.before, **given, **self.options, **more)
        return result[0] if isinstance(result, tuple) else result

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors that :meth:`run` takes: those that come first, then the float arguments."""
        return (*(value for value in self.before if isinstance(value, Tensor)), *self.floats.values())

    def run(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Call with these in place of :attr:`tensors`; all results."""
        given = iter(tensors)
        before = [next(given) if isinstance(value, Tensor) else value for value in self.before]
        result = getattr(ops, self.operator)(*before, **dict(zip(self.floats, given, strict=True)), **self.options)
        return tuple(result) if isinstance(result, tuple) else (result,)

    def cast(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """The float arguments in another type."""
        return {name: value.to(dtype, copy=True) for name, value in self.floats.items()}


IMAGE, FIELD = values(1, 2, 6, 7), values(1, 2, 6, 7, scale=2.0)
GAUSSIANS = {"means": values(3, 2) + 4, "stds": values(3, 2).abs()}
POINTS = {"points": values(1, 9, 2) * 2 + 3, "displacement": FIELD / 8}
ANGLES = torch.arange(6) * math.pi / 6
SCAN = ops.CTGeometry.parallel2d(ANGLES, 9, 1.0, (6, 7))
CONE = ops.CTGeometry.cone3d(2 * ANGLES, (3, 9), (1.0, 1.0), (2, 6, 7), source_origin_mm=60.0, source_detector_mm=90.0)
LINES = values(1, 2, 6, 9)
WINDOW = {"out_shape": (4, 5), "out_origin": (1, 1)}
CASES = [
    Case("gaussian_blur", {"x": IMAGE}, {"sigma": (0.8, 1.5)}),
    Case("resample", {"x": IMAGE}, {"size": (4, 9), "rule": "half_pixel"}),
    Case("resize_field", {"v": FIELD}, {"size": (9, 5)}),
    Case("simulate_resolution", {"x": IMAGE}, {"low_size": torch.tensor([[3, 4]])}),
    Case("gmm_sample", GAUSSIANS, {"seed": 5}, (LABELS,)),
    Case(
        "synth_image",
        {**GAUSSIANS, "bias_grid": values(1, 2, 3, 3), "gamma": values(1, 2)},
        {"seed": 5},
        (LABELS,),
        gradient=False,
    ),
    Case("integrate_svf", {"velocity": FIELD}, {}),
    Case("compose", {"u1": FIELD, "u2": FIELD.flip(2)}, {}),
    Case("jacobian_determinant", {"displacement": FIELD}, {}),
    Case("warp_points", POINTS, {"direction": "forward"}),
    Case("warp_points", POINTS, {"direction": "inverse", "max_iterations": 2}),
    Case("lab2im_matrix", {"linear": MATRIX[:, :, :2]}, {"size": (6, 7)}),
    Case("warp", {"img": IMAGE, "disp": FIELD}, {}),
    Case("warp", {"img": IMAGE, "disp": FIELD}, {"mode": "nearest"}, gradient=False),
    Case("affine_svf_warp", {"src": IMAGE, "matrix": MATRIX, "disp": FIELD[..., :4, :5]}, {"mode": "linear", **WINDOW}),
    Case(
        "affine_svf_warp",
        {"src": IMAGE, "matrix": MATRIX, "disp": FIELD[..., :4, :5]},
        {"mode": "nearest", **WINDOW},
        gradient=False,
    ),
]
CASES += [
    Case("ct_forward", {"vol": IMAGE}, {"geometry": SCAN}),
    Case("ct_adjoint", {"proj": LINES}, {"geometry": SCAN}),
    Case("ct_backproject", {"proj": LINES}, {"geometry": SCAN}),
    Case("ct_filter", {"proj": LINES}, {"tau": 1.0}),
    Case("rotate_project", {"image": values(1, 2, 6, 6)}, {"views": 4}),
]
TETRAHEDRON = torch.tensor([[[0.5, 0.5, 0.75], [6.5, 1.5, 0.25], [1.5, 5.5, 0.5], [2.5, 2.5, 4.25]]])
FACES = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
CASES += [Case("voxelize_mesh", {"verts": TETRAHEDRON}, {"faces": FACES, "shape": (7, 6, 5)})]
LANDMARKS = {"points": values(2, 3, 2).abs() * 4, "sigma": values(2, 3, 2).abs() + 1}
SHOWN = torch.tensor([[True, False, True], [True, True, True]])
INDEX = torch.tensor([0, 1, 1])
CASES += [
    Case("render_gaussian_heatmaps", LANDMARKS, {"size": (6, 7), "amplitude": "density", "visible": SHOWN}),
    Case(
        "render_gaussian_heatmaps_ragged",
        {k: v[0] for k, v in LANDMARKS.items()},
        {
            "size": (6, 7),
            "batch_index": INDEX,
            "channel_index": INDEX.flip(0),
            "batch": 2,
            "n_channels": 2,
        },
    ),
    Case("render_point_map", {"points": LANDMARKS["points"]}, {"valid": SHOWN, "size": (6, 7), "sigma": 1.5}),
    Case("sample_at_points", {"feat": IMAGE, "pts": LANDMARKS["points"][:1]}, {}),
    Case("ortho_slice_product", {"z": values(1, 5, 3, 4), "y": values(1, 4, 5, 3), "x": values(1, 3, 4, 5)}, {}),
]
OF_MAPS = [  # half precision is read exactly; coordinates and counts, which it does not hold, are those of float32
    Case("heatmap_peak", {"h": IMAGE}, {"refine": "com"}),
    Case("heatmap_peaks_nms", {"h": IMAGE}, {"max_peaks": 2}),
    Case("heatmap_peaks_maxpool", {"h": IMAGE[:, :1]}, {"topk": 3, "lower": 3}),
    Case("soft_argmax", {"h": IMAGE}, {"beta": 3.0}),
    Case("heatmap_moments", {"p": IMAGE[0].abs()}, {"spacing": 0.5}),
    Case("quantize_probability", {"prob": IMAGE}, {}),
    Case("otsu_threshold", {"prob": IMAGE[:, :1]}, {}),
    Case("match_points", {"predictions": LANDMARKS["points"], "labels": LANDMARKS["points"] + 0.5}, {"radius": 2.0}),
]
OF_OPERATORS = [  # written in terms of operators; they have no twins
    Case("fbp", {"proj": LINES}, {"geometry": SCAN}),
    Case("fdk", {"proj": values(1, 6, 3, 9)}, {"geometry": CONE}),
    Case("sirt", {"proj": LINES, "start": IMAGE}, {"geometry": SCAN, "iterations": 2, "progress": False}),
    Case("cgls", {"proj": LINES, "start": IMAGE}, {"geometry": SCAN, "iterations": 2, "progress": False}),
    Case("kernel_augment", {"image": values(2, 8, 8) * 99, "a": values(2), "b": values(2) / 4 + 1}, {"views": 6}),
    Case(
        "finite_difference_shape_grad",
        {"parameters": values(1, 3) * 2, "grad": values(1, 9)},
        {"eps": 0.75},
        (lambda t: (torch.arange(9) < t.sum(-1, keepdim=True)).byte(),),
    ),
    Case("poisson_noise", {"proj": LINES.abs()}, {"photons": 100.0, "seed": 3}, gradient=False),
]
OF_LABELS = [
    Case("warp_labels", {"disp": FIELD}, {}, (LABELS,), gradient=False),
    Case("warp_labels", {"disp": FIELD}, {"mode": "vote"}, (LABELS,), gradient=False),
    Case("affine_svf_warp", {"matrix": MATRIX}, {"mode": "nearest", **WINDOW}, (LABELS,), gradient=False),
]
BLOBS = (IMAGE[:, :1] > 0.25) | (IMAGE[:, :1] < -0.75)
REGIONS = (LABELS.int(), (LABELS * 80).to(torch.uint8))
OF_INTEGERS = [
    Case("map_labels", {}, {}, (LABELS, torch.tensor([3.0, 5.0, 4.0]))),
    Case("philox_raw", {}, {"key": (1, 2)}, (LABELS.view(-1, 1).repeat(1, 4),)),
    Case("rand_int", {}, {"n": 7}, ((1, 2, 5), 3)),
    Case("rand_normal", {}, {"stream": 1}, ((1, 2, 5), 3)),
    Case("rand_uniform", {}, {"low": -1.0}, ((1, 2, 5), 3)),
    Case("binary_dilation", {}, {}, (BLOBS,)),
    Case("binary_erosion", {}, {}, (BLOBS,)),
    Case("binary_opening", {}, {}, (BLOBS,)),
    Case("connected_components", {}, {"connectivity": 4}, (BLOBS,)),
    Case("region_stats", {}, {"max_regions": 3}, REGIONS),
    Case("split_regions", {}, {"kappa": 1.0, "max_points": 4}, REGIONS),
]
# Half precision does not hold counts beyond 256 or 2048; the gain of a kernel and ASTRA's order are torch's own calls.
OF_FULL_PRECISION = [
    Case("poisson_counts", {"mean": LINES.abs() * 1500}, {"seed": 3}, gradient=False),
    Case("kernel_gain", {"w": values(5).abs(), "a": values(2), "b": values(2) / 4 + 1}, {"preserve_hu": True}),
    *(
        Case(f"{what}_{way}_astra", {what: values(2, 3, 4)}, {})
        for what in ("projections", "volume")
        for way in ("from", "to")
    ),
]
# Classes, constants, and what is made before tensors flow.
NO_OPERATORS = {"CTGeometry", "CircularOrbit", "RegionStats", "AIR_ZERO_HU", "WATER_AIR_HU"}
NO_OPERATORS |= {"seed_from_torch", "short_scan_weights"}
