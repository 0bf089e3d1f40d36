"""What every operator does with float16 and bfloat16 arguments and under autocast: computed in float32, always."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from operator_cases import (
    CASES,
    IMAGE,
    LABELS,
    NO_OPERATORS,
    OF_FULL_PRECISION,
    OF_INTEGERS,
    OF_LABELS,
    OF_MAPS,
    OF_OPERATORS,
)
from torch import Tensor

from medsynth_ext import ops
from medsynth_ext.ops import reference

LOW = (torch.float16, torch.bfloat16)
WITHOUT_OUT = {"lab2im_matrix", "rotate_project"}

every_case = pytest.mark.parametrize("case", CASES, ids=str)
both_types = pytest.mark.parametrize("dtype", LOW, ids=str)
ops_and_twins = pytest.mark.parametrize("module", [ops, reference], ids=["ops", "twins"])


def test_every_operator_has_a_case():
    cases = CASES + OF_MAPS + OF_OPERATORS + OF_LABELS + OF_INTEGERS + OF_FULL_PRECISION
    assert {case.operator for case in cases} | NO_OPERATORS == set(ops.__all__)


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
