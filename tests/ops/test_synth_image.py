"""synth_image: equal to its steps one by one, exact zeros, range, reproducibility and refusals."""

from __future__ import annotations

import pytest
import torch

from medsynth_ext import ops
from medsynth_ext._extension import has_operators, use_instruction_set
from medsynth_ext.ops import reference

needs_kernels = pytest.mark.skipif(not has_operators(), reason="operators are not built")


def problem(shape=(2, 9, 11, 37), classes=6, channels=2, dtype=torch.float32, device="cpu"):
    """All arguments; class 0 is an empty background."""
    g = torch.Generator().manual_seed(1)
    labels = torch.randint(0, classes, (shape[0], 1, *shape[1:]), generator=g)
    means = torch.rand(shape[0], classes, channels, generator=g, dtype=dtype) * 250
    stds = torch.rand(shape[0], classes, channels, generator=g, dtype=dtype) * 30
    means[:, 0], stds[:, 0] = 0, 0
    bias = torch.randn(shape[0], channels, *[4, 3, 5][: len(shape) - 1], generator=g, dtype=dtype) * 0.7
    gamma = torch.randn(shape[0], channels, generator=g, dtype=dtype) * 0.5
    options = {"bias_grid": bias.to(device), "gamma": gamma.to(device), "seed": 11, "sample_offset": 4}
    return (labels.to(device), means.to(device), stds.to(device)), options


@pytest.mark.parametrize("isa", ["base", "avx2", "avx512"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(2, 9, 11, 37), (1, 33, 70), (2, 300), (1, 1, 5, 1), (0, 3, 4), (1, 3, 0)])
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"bias_grid": None},
        {"gamma": None},
        {"clip": None},
        {"clip": (20.0, 120.0)},
        {"gamma": None, "normalise": False},
    ],
)
def test_kernel_equals_twin(device, isa, dtype, shape, change):
    inputs, options = problem(shape, dtype=dtype, device=device)
    options |= change
    with use_instruction_set(isa):
        got = ops.synth_image(*inputs, **options)
    want = reference.synth_image(*inputs, **options)
    scale = 300 if options.get("normalise") is False else 1
    torch.testing.assert_close(got, want, rtol=0, atol=scale * (2e-5 if dtype == torch.float32 else 1e-12))


def test_worked_example(device):
    labels = torch.tensor([[[0, 1, 2, 1]]], device=device)
    means, stds = torch.tensor([-10.0, 75.0, 900.0], device=device), torch.zeros(3, device=device)
    gamma = torch.tensor([[2.0]], device=device).log()
    y = ops.synth_image(labels, means, stds, gamma=gamma, seed=0)  # clipped to 0, 75, 300; 0, 1/4, 1; squared
    assert y.flatten().tolist() == pytest.approx([0.0, 0.0625, 1.0, 0.0625], abs=1e-6)


def test_bias_follows_the_corner_rule(device):
    labels = torch.zeros(1, 1, 6, dtype=torch.uint8, device=device)
    one = torch.ones(1, device=device)
    grid = torch.tensor([[[0.0, 3.0, 6.0]]], device=device)  # read at i * 3 / 6, cut at node 2
    y = ops.synth_image(labels, one, 0 * one, bias_grid=grid, clip=None, normalise=False, seed=0)
    assert y.log().flatten().tolist() == pytest.approx([0.0, 1.5, 3.0, 4.5, 6.0, 6.0], abs=1e-6)


def test_empty_background_stays_exactly_zero_and_range_is_unit(device):
    inputs, options = problem(device=device)
    y = ops.synth_image(*inputs, **options)
    assert (y[(inputs[0] == 0).expand_as(y)] == 0).all()
    assert y.min() == 0
    assert 0.999999 < y.amax() <= 1


def test_constant_image_is_finite(device):
    labels = torch.zeros(1, 1, 4, 4, dtype=torch.uint8, device=device)
    y = ops.synth_image(labels, torch.full((1,), 7.0, device=device), torch.zeros(1, device=device), seed=0)
    assert (y == 0).all()


def test_crop_without_normalisation_repeats_the_whole(device):
    (labels, means, stds), options = problem(device=device)
    options |= {"normalise": False, "gamma": None}
    whole = ops.synth_image(labels, means, stds, **options)
    crop = labels[:, :, 2:7, 1:10, 3:30]
    part = ops.synth_image(crop, means, stds, **options, index_shape=(9, 11, 37), index_origin=(2, 1, 3))
    assert torch.equal(part, whole[:, :, 2:7, 1:10, 3:30])


@needs_kernels
def test_bits_do_not_depend_on_threads_or_batch_split():
    (labels, means, stds), options = problem((2, 30, 40, 50))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = ops.synth_image(labels, means, stds, **options)
        torch.set_num_threads(2)
        two = ops.synth_image(labels, means, stds, **options)
    finally:
        torch.set_num_threads(before)
    options |= {"sample_offset": 5, "bias_grid": options["bias_grid"][1:], "gamma": options["gamma"][1:]}
    assert torch.equal(one, two)
    assert torch.equal(ops.synth_image(labels[1:], means[1:], stds[1:], **options), one[1:])


def test_out_is_written_and_returned(device):
    inputs, options = problem(device=device)
    out = torch.empty(2, 2, 9, 11, 37, device=device)
    assert ops.synth_image(*inputs, **options, out=out) is out
    assert torch.equal(out, ops.synth_image(*inputs, **options))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"clip": (3.0, 1.0)}, ValueError, "clip"),
        ({"clip": None, "normalise": False}, ValueError, "gamma"),
        ({"gamma": torch.zeros(2)}, ValueError, "gamma"),
        ({"bias_grid": torch.zeros(2, 2, 4, 4)}, ValueError, "bias_grid"),
        ({"bias_grid": torch.zeros(2, 2, 4, 4, 4).double()}, TypeError, "bias_grid"),
        ({"eps": -1.0}, ValueError, "eps"),
        ({"gamma": torch.zeros(2, 2, requires_grad=True)}, NotImplementedError, "gamma"),
    ],
)
def test_bad_arguments_are_refused(change, error, message):
    inputs, options = problem()
    with pytest.raises(error, match=message):
        ops.synth_image(*inputs, **(options | change))


def test_gradient_and_unknown_labels_are_refused():
    (labels, means, stds), options = problem()
    with pytest.raises(NotImplementedError, match="gmm_sample"):
        ops.synth_image(labels, means.requires_grad_(), stds, **options)
    with pytest.raises(ValueError, match="has no class"):
        ops.synth_image(labels + 1, means.detach(), stds, **options)


@needs_kernels
def test_operators_pass_opcheck():
    (labels, means, stds), options = problem()
    args = (
        labels[:, 0],
        means,
        stds,
        None,
        options["bias_grid"],
        options["gamma"].exp(),
        [0.0, 300.0],
        True,
        1e-7,
        5,
        0,
        0,
        [],
        [],
        True,
    )
    torch.library.opcheck(torch.ops.medsynth_ext.synth_image.default, args)
    torch.library.opcheck(torch.ops.medsynth_ext.synth_image_out.default, (*args, torch.empty(2, 2, 9, 11, 37)))
