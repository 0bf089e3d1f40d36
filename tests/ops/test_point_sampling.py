"""sample_at_points: values, borders, gradients and refusals."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.ndimage import map_coordinates

from medsynth_ext import ops
from medsynth_ext._extension import use_instruction_set
from medsynth_ext.ops import reference


def problem(size, dtype=torch.float64, device="cpu"):
    """Features (2, 3, *size) and points inside and outside (2, 6, D)."""
    g = torch.Generator().manual_seed(len(size))
    feat = torch.rand(2, 3, *size, generator=g, dtype=dtype)
    pts = torch.rand(2, 6, len(size), generator=g, dtype=dtype) * (torch.tensor(size, dtype=dtype) + 4) - 2
    return feat.to(device), pts.to(device)


def test_worked_values(device):
    feat = torch.tensor([[[[0.0, 10.0], [20.0, 40.0]]]], device=device)
    pts = torch.tensor([[[0.5, 0.5], [0.0, 0.25], [1.0, 1.0], [-3.0, 9.0], [math.nan, 0.0]]], device=device)
    found = ops.sample_at_points(feat, pts)
    assert found.shape == (1, 5, 1)
    assert found[0, :4, 0].tolist() == [17.5, 2.5, 40.0, 10.0]
    assert found[0, 4, 0].isnan()


@pytest.mark.parametrize("isa", ["base", "avx2", "avx512"])
@pytest.mark.parametrize("size", [(9,), (7, 8), (5, 6, 7), (1, 4)])
def test_values_are_those_of_scipy_and_gradients_those_of_the_twin(device, isa, size):
    for dtype, tolerance in ((torch.float32, 2e-5), (torch.float64, 1e-12)):
        feat, pts = (t.requires_grad_() for t in problem(size, dtype, device))
        with use_instruction_set(isa):
            found = ops.sample_at_points(feat, pts)
            g = torch.linspace(-1, 1, found.numel(), dtype=dtype, device=device).reshape(found.shape)
            grads = torch.autograd.grad(found, (feat, pts), g)
        want = torch.autograd.grad(reference.sample_at_points(feat, pts), (feat, pts), g)
        for a, b in zip(grads, want, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=tolerance * 10)
        for b in range(2):
            for c in range(3):
                at = pts[b].detach().cpu().double().numpy().T
                value = map_coordinates(feat[b, c].detach().cpu().double().numpy(), at, order=1, mode="nearest")
                assert found[b, :, c].tolist() == pytest.approx(value.tolist(), abs=tolerance)


@pytest.mark.parametrize("size", [(9,), (5, 6), (4, 5, 4)])
def test_gradients_pass_gradcheck(size):
    feat, pts = (t.requires_grad_() for t in problem(size))
    assert torch.autograd.gradcheck(ops.sample_at_points, (feat, pts))


def test_one_map_serves_all_points_and_nothing_is_fine(device):
    feat, pts = problem((7, 8), torch.float32, device)
    both = ops.sample_at_points(feat[:1], pts)
    assert torch.equal(both[1], ops.sample_at_points(feat[:1], pts[1:])[0])
    assert ops.sample_at_points(feat, pts[:, :0]).shape == (2, 0, 3)
    assert ops.sample_at_points(feat[:0], pts[:0]).shape == (0, 6, 3)


def test_out_is_written_and_returned(device):
    feat, pts = problem((7, 8), torch.float32, device)
    out = torch.empty(2, 6, 3, device=device)
    assert ops.sample_at_points(feat, pts, out=out) is out
    assert torch.equal(out, ops.sample_at_points(feat, pts))


def test_stride_four_rule_hits_the_means_of_blocks():
    image = torch.rand(1, 1, 32, 32, dtype=torch.float64)
    coarse = torch.nn.functional.avg_pool2d(image, 4)
    centre = torch.tensor([[[9.5, 21.5]]], dtype=torch.float64)  # the middle of block (2, 5)
    found = ops.sample_at_points(coarse, (centre + 0.5) / 4 - 0.5)
    assert found.item() == pytest.approx(coarse[0, 0, 2, 5].item())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"feat": torch.zeros(1, 1, 4, 4).int()}, TypeError, "feat must"),
        ({"feat": torch.zeros(1, 1)}, ValueError, "feat must"),
        ({"feat": torch.zeros(1, 1, 0, 4)}, ValueError, "feat must"),
        ({"pts": torch.zeros(1, 2, 3)}, ValueError, "pts must"),
        ({"pts": torch.zeros(1, 2, 2).double()}, TypeError, "pts"),
        ({"feat": torch.zeros(2, 1, 4, 4), "pts": torch.zeros(3, 1, 2)}, ValueError, "batch 1 or 3"),
        ({"out": torch.zeros(1, 1, 1)}, ValueError, "out"),
    ],
)
def test_bad_arguments_are_refused(change, error, message):
    with pytest.raises(error, match=message):
        ops.sample_at_points(**({"feat": torch.zeros(1, 1, 4, 4), "pts": torch.zeros(1, 2, 2)} | change))
