"""resize_field: fields on another grid."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from medsynth_ext import ops
from medsynth_ext.ops import reference

RULES = ["corner", "half_pixel", "align_corners"]


@pytest.mark.parametrize("rule", RULES)
def test_constant_field_keeps_its_physical_length(rule: str, device: torch.device) -> None:
    v = torch.tensor([1.0, 2.0, 3.0], device=device).reshape(1, 3, 1, 1, 1).expand(1, 3, 4, 5, 6)
    got = ops.resize_field(v, (8, 10, 3), rule=rule)
    want = torch.tensor([2.0, 4.0, 1.5], device=device).reshape(1, 3, 1, 1, 1).expand_as(got)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(
        ops.resize_field(v, (8, 10, 3), rule=rule, rescale=False)[0, :, 0, 0, 0], v[0, :, 0, 0, 0]
    )


@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("border", ["clamp", "zeros", "reflect"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("size", "out_size"), [((5, 6, 20), (10, 12, 40)), ((11, 7), (4, 33)), ((6,), (17,))])
def test_agrees_with_float64_twin(size, out_size, rule: str, border: str, rescale: bool) -> None:
    v = torch.randn(2, len(size), *size)
    options = {"rule": rule, "border": border, "rescale": rescale}
    want = reference.resize_field(v.double(), out_size, **options)
    torch.testing.assert_close(ops.resize_field(v, out_size, **options).double(), want, rtol=0, atol=5e-5)
    torch.testing.assert_close(ops.resize_field(v.double(), out_size, **options), want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_gradcheck(rule: str, device: torch.device) -> None:
    v = torch.randn(1, 2, 3, 4, dtype=torch.float64, device=device, requires_grad=True)
    assert gradcheck(lambda t: ops.resize_field(t, (5, 7), rule=rule), (v,), rtol=1e-5)


def test_out_and_errors() -> None:
    v = torch.randn(1, 2, 3, 4)
    out = torch.empty(1, 2, 5, 7)
    assert ops.resize_field(v, (5, 7), out=out) is out
    assert torch.equal(out, ops.resize_field(v, (5, 7)))
    with pytest.raises(ValueError, match=r"v must be \(B, 2"):
        ops.resize_field(v[:, :1], (5, 7))
    with pytest.raises(RuntimeError, match="out="):
        ops.resize_field(v.requires_grad_(), (5, 7), out=out)
    with pytest.raises(NotImplementedError, match="second derivatives"):
        torch.autograd.grad(ops.resize_field(v, (5, 7)).square().sum(), v, create_graph=True)
