"""What every operator does with float16 and bfloat16 arguments and under autocast: computed in float32, always."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from medsynth_ext import ops
from medsynth_ext.ops import reference

LOW = (torch.float16, torch.bfloat16)
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
    Case("poisson_noise", {"proj": LINES.abs()}, {"photons": 100.0, "seed": 3}),
]
OF_LABELS = [
    Case("warp_labels", {"disp": FIELD}, {}, (LABELS,), gradient=False),
    Case("warp_labels", {"disp": FIELD}, {"mode": "vote"}, (LABELS,), gradient=False),
    Case("affine_svf_warp", {"matrix": MATRIX}, {"mode": "nearest", **WINDOW}, (LABELS,), gradient=False),
]
WITHOUT_FLOATS = {"map_labels", "philox_raw", "rand_int", "rand_normal", "rand_uniform", "seed_from_torch"}
WITHOUT_FLOATS |= {"CTGeometry", "CircularOrbit", "short_scan_weights"}
WITHOUT_FLOATS |= {f"{what}_{way}_astra" for what in ("projections", "volume") for way in ("from", "to")}
WITHOUT_FLOATS |= {"AIR_ZERO_HU", "WATER_AIR_HU", "kernel_gain"}
WITHOUT_FLOATS |= {"poisson_counts"}  # half precision does not hold counts beyond 256 or 2048

WITHOUT_FLOATS |= {"RegionStats", "binary_dilation", "binary_erosion", "binary_opening", "connected_components"}
WITHOUT_FLOATS |= {"region_stats", "split_regions"}

WITHOUT_OUT = {"lab2im_matrix", "rotate_project"}

every_case = pytest.mark.parametrize("case", CASES, ids=str)
both_types = pytest.mark.parametrize("dtype", LOW, ids=str)
ops_and_twins = pytest.mark.parametrize("module", [ops, reference], ids=["ops", "twins"])


def test_every_operator_has_a_case():
    assert {case.operator for case in CASES + OF_MAPS + OF_OPERATORS + OF_LABELS} | WITHOUT_FLOATS == set(ops.__all__)


@every_case
@both_types
@ops_and_twins
def test_result_is_that_of_float32_rounded_once(case, dtype, module):
    low = case.cast(dtype)
    result = case.call(module, floats=low)
    assert result.dtype == dtype
    assert torch.equal(result, case.call(module, floats={k: v.float() for k, v in low.items()}).to(dtype))


@pytest.mark.parametrize("case", OF_OPERATORS, ids=str)
@both_types
def test_result_of_what_is_built_on_operators_is_that_of_float32(case, dtype):
    low = case.cast(dtype)
    wanted = case.call(floats={name: value.float() for name, value in low.items()})
    assert torch.equal(case.call(floats=low), wanted.to(dtype))
    with torch.autocast("cpu", dtype):
        assert torch.equal(case.call(floats=low), wanted)


@pytest.mark.parametrize("case", OF_MAPS, ids=str)
@both_types
def test_what_is_read_from_maps_is_that_of_float32(case, dtype):
    low = case.cast(dtype)
    wanted = case.call(floats={name: value.float() for name, value in low.items()})
    with torch.autocast("cpu", dtype):
        mixed = case.call(floats=low)
    for result in (case.call(floats=low), mixed):
        torch.testing.assert_close(result, wanted, rtol=0, atol=0, equal_nan=True)


@both_types
@ops_and_twins
def test_gradient_of_a_mean_place_has_the_type_of_the_map(dtype, module):
    low, full = IMAGE.to(dtype).requires_grad_(), IMAGE.clone().requires_grad_()
    grads = [torch.autograd.grad(module.soft_argmax(h).sum(), h)[0] for h in (low, full)]
    assert grads[0].dtype == dtype
    assert torch.equal(grads[0], grads[1].to(dtype))


@pytest.mark.parametrize("case", OF_LABELS, ids=str)
@both_types
@ops_and_twins
def test_labels_keep_their_type_beside_half_precision_geometry(case, dtype, module):
    result = case.call(module, floats=case.cast(dtype))
    assert result.dtype == LABELS.dtype
    assert torch.equal(result, case.call(module))


@pytest.mark.parametrize("case", [case for case in CASES if case.gradient], ids=str)
@both_types
@ops_and_twins
def test_gradient_is_that_of_float32_rounded_once(case, dtype, module):
    def gradients(floats: dict[str, Tensor]) -> tuple[Tensor, ...]:
        leaves = {name: value.requires_grad_() for name, value in floats.items()}
        result = case.call(module, floats=leaves)
        return torch.autograd.grad(result, list(leaves.values()), torch.ones_like(result))

    low = gradients(case.cast(dtype))
    full = gradients(case.cast(torch.float32))
    assert all(a.dtype == dtype and torch.equal(a, b.to(dtype)) for a, b in zip(low, full, strict=True))
    assert any(bool(a.abs().max() > 0) for a in low)


@every_case
@both_types
@ops_and_twins
def test_autocast_gives_float32(case, dtype, module):
    mixed = case.cast(torch.float32) | {name: value.to(dtype) for name, value in list(case.floats.items())[:1]}
    with torch.autocast("cpu", torch.bfloat16):
        results = [case.call(module, floats=f) for f in (case.cast(dtype), mixed, case.cast(torch.float32))]
    for result in results:
        assert result.dtype == torch.float32
        assert torch.equal(result, case.call(module, floats=case.cast(torch.float32)))


@every_case
def test_autocast_leaves_float64_alone(case):
    double = case.cast(torch.float64)
    with torch.autocast("cpu", torch.bfloat16):
        result = case.call(floats=double)
    assert result.dtype == torch.float64
    assert torch.equal(result, case.call(floats=double))


def test_gradient_under_autocast_reaches_a_half_precision_leaf():
    image = IMAGE.bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        ops.gaussian_blur(image, 1.0).sum().backward()
    assert image.grad is not None
    assert image.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("case", [case for case in CASES if case.operator not in WITHOUT_OUT], ids=str)
def test_out_has_the_type_of_the_result(case):
    low = case.cast(torch.float16)
    want = case.call(floats=low)
    out = torch.empty_like(want)
    assert case.call(floats=low, out=out) is out
    assert torch.equal(out, want)
    with pytest.raises(TypeError, match=r"out must be torch\.float16, got torch\.float32"):
        case.call(floats=low, out=out.float())
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(TypeError, match=r"out must be torch\.float32"):
        case.call(floats=low, out=out)


def test_out_is_refused_where_a_gradient_is_wanted_or_the_shape_is_wrong():
    image = IMAGE.half()
    with pytest.raises(ValueError, match=r"out must have shape \(1, 2, 6, 7\)"):
        ops.gaussian_blur(image, 1.0, out=torch.empty(1, 2, 6, 6, dtype=torch.float16))
    with pytest.raises(ValueError, match="out must be contiguous"):
        ops.gaussian_blur(image, 1.0, out=torch.empty_like(image).transpose(2, 3))
    with pytest.raises(RuntimeError, match="gradient is required"):
        ops.gaussian_blur(image.requires_grad_(), 1.0, out=torch.empty_like(image))


@pytest.mark.parametrize("case", [case for case in CASES if len(case.floats) > 1], ids=str)
@ops_and_twins
def test_mixture_with_another_float_type_is_refused(case, module):
    name, other = list(case.floats)[:2]
    with pytest.raises(TypeError, match=rf"{other} must have the dtype of {name} \(torch\.float16\), got .*32"):
        case.call(module, floats=case.cast(torch.float32) | {name: case.floats[name].half()})
    with pytest.raises(TypeError, match=rf"{other} must have the dtype of {name} \(torch\.float32\), got .*bfloat16"):
        case.call(module, floats=case.cast(torch.float32) | {other: case.floats[other].bfloat16()})


@every_case
@pytest.mark.parametrize("dtype", [torch.int32, torch.complex64, torch.float8_e4m3fn], ids=str)
def test_other_types_are_named_and_refused(case, dtype):
    name = next(iter(case.floats))
    if case.operator == "affine_svf_warp" and case.options["mode"] == "nearest" and dtype == torch.int32:
        pytest.skip("labels")
    message = rf"{name} must be .*got {str(dtype).replace('.', '[.]')}"
    with pytest.raises(TypeError, match=message):
        case.call(floats=case.floats | {name: torch.zeros(case.floats[name].shape, dtype=dtype)})


@every_case
def test_compiles_without_graph_break(case):
    def compiled(call: Callable[..., Tensor]) -> Callable[..., Tensor]:
        torch._dynamo.reset()
        return torch.compile(call, fullgraph=True, backend="aot_eager")

    low = case.cast(torch.bfloat16)
    call = partial(case.call)
    assert torch.equal(compiled(lambda floats: call(floats=floats))(low), case.call(floats=low))

    def mixed_precision(floats: dict[str, Tensor]) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return call(floats=floats)

    assert torch.equal(compiled(mixed_precision)(low), mixed_precision(low))


def test_meta_tensors_keep_their_type():
    field = torch.empty(1, 2, 5, 6, dtype=torch.bfloat16, device="meta")
    assert ops.integrate_svf(field).dtype == torch.bfloat16


def test_random_numbers_in_half_precision_are_refused():
    with pytest.raises(TypeError, match=r"dtype must be float32 or float64, got torch\.float16"):
        ops.rand_normal((1, 1, 4), 0, dtype=torch.float16)


def test_table_of_half_precision_is_looked_up_as_it_is():
    table = torch.tensor([0.5, 1.5, 2.5], dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        mapped = ops.map_labels(LABELS, table)
    assert mapped.dtype == torch.bfloat16
    assert torch.equal(mapped, table[LABELS])
