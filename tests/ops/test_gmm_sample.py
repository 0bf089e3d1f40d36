"""gmm_sample: values, classes, gradients, reproducibility and refusals."""

from __future__ import annotations

import pytest
import torch

from medsynth_ext import ops
from medsynth_ext._extension import has_operators, use_instruction_set
from medsynth_ext.ops import reference

needs_kernels = pytest.mark.skipif(not has_operators(), reason="operators are not built")
LABEL_TYPES = (torch.bool, torch.uint8, torch.int16, torch.int32, torch.int64)


def problem(shape, classes, channels=1, dtype=torch.float32, label_type=torch.int64, device="cpu"):
    """Labels (B, 1, *S) and per-sample means and stds (B, K, C)."""
    g = torch.Generator().manual_seed(1)
    labels = torch.randint(0, classes, (shape[0], 1, *shape[1:]), generator=g).to(label_type)
    means = torch.rand(shape[0], classes, channels, generator=g, dtype=dtype) * 200
    stds = torch.rand(shape[0], classes, channels, generator=g, dtype=dtype) * 30
    return labels.to(device), means.to(device), stds.to(device)


def test_zero_std_gives_the_exact_means_of_a_worked_table(device):
    labels = torch.tensor([[[[0, 507], [24, 0]]]], device=device)
    lut = torch.full((508,), -1, dtype=torch.int32, device=device)
    lut[0], lut[24], lut[507] = 2, 0, 1
    means = torch.tensor([10.0, 20.5, 0.25], device=device)
    y = ops.gmm_sample(labels, means, torch.zeros(3, device=device), lut=lut, seed=1)
    assert y.tolist() == [[[[0.25, 20.5], [10.0, 0.25]]]]


def test_unit_gaussian_is_rand_normal(device):
    labels = torch.zeros(2, 1, 5, 6, 7, dtype=torch.uint8, device=device)
    one = torch.ones(1, 2, device=device)
    y = ops.gmm_sample(labels, 0 * one, one, seed=9, sample_offset=3, stream=2)
    assert torch.equal(y, ops.rand_normal((2, 2, 5, 6, 7), 9, sample_offset=3, stream=2, device=device))


@pytest.mark.parametrize("isa", ["base", "avx2", "avx512"])
@pytest.mark.parametrize("label_type", LABEL_TYPES)
@pytest.mark.parametrize("classes", [1, 5, 31, 32, 63, 64, 120])
def test_kernel_equals_twin_for_every_label_type_and_table_size(device, isa, label_type, classes):
    if label_type == torch.bool:
        classes = min(classes, 2)
    labels, means, stds = problem((2, 7, 3, 41), classes, 2, label_type=label_type, device=device)
    with use_instruction_set(isa):
        y = ops.gmm_sample(labels, means, stds, seed=-3, sample_offset=1)
    want = reference.gmm_sample(labels, means.double(), stds.double(), seed=-3, sample_offset=1)
    noise = ops.rand_normal(y.shape, -3, sample_offset=1, device=device)
    assert want.dtype == torch.float64  # another stream: only the means can be compared with it
    m, s = (torch.stack([p[b, labels[b, 0].long()].movedim(-1, 0) for b in range(2)]).double() for p in (means, stds))
    assert ((y - (m + s * noise)).abs() <= 4e-6 * 30).all()
    twin = reference.gmm_sample(labels, means, stds, seed=-3, sample_offset=1)
    assert (y - twin).abs().max() <= 4e-6 * 30


@pytest.mark.parametrize("shape", [(2, 33), (1, 5, 67), (3, 1, 9, 1), (0, 4, 4), (1, 0, 3), (1, 1, 1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernel_equals_twin_for_odd_shapes(device, shape, dtype):
    labels, means, stds = problem(shape, 4, 1, dtype, device=device)
    y = ops.gmm_sample(labels, means, stds, seed=3)
    want = reference.gmm_sample(labels.cpu(), means.cpu(), stds.cpu(), seed=3)
    torch.testing.assert_close(y.cpu(), want, rtol=0, atol=30 * (4e-6 if dtype == torch.float32 else 1e-13))


def test_parameter_forms_and_label_forms_agree():
    labels, means, stds = problem((2, 6, 7), 4)
    shared = ops.gmm_sample(labels, means[0, :, 0], stds[0, :, 0], seed=1)
    for mean, std in ((means[0], stds[0]), (means[:1].expand(2, -1, -1), stds[:1].expand(2, -1, -1))):
        assert torch.equal(ops.gmm_sample(labels[:, 0], mean, std, seed=1), shared)


def test_non_contiguous_inputs_give_the_same():
    labels, means, stds = problem((2, 8, 9), 4, 2)
    y = ops.gmm_sample(labels, means, stds, seed=1)
    turned = labels.transpose(-1, -2).contiguous().transpose(-1, -2)
    wide = torch.stack([means, stds], dim=-1)
    assert torch.equal(ops.gmm_sample(turned, wide[..., 0], wide[..., 1], seed=1), y)


def test_crop_and_batch_split_repeat_the_whole(device):
    labels, means, stds = problem((3, 9, 20, 37), 5, device=device)
    whole = ops.gmm_sample(labels, means, stds, seed=4)
    crop = labels[2:, :, 2:7, 3:19, 5:31].contiguous()
    options = {"sample_offset": 2, "index_shape": (9, 20, 37), "index_origin": (2, 3, 5)}
    assert torch.equal(ops.gmm_sample(crop, means[2:], stds[2:], seed=4, **options), whole[2:, :, 2:7, 3:19, 5:31])


@needs_kernels
def test_bits_do_not_depend_on_threads_or_instruction_set():
    labels, means, stds = problem((2, 12, 50, 70), 40, label_type=torch.uint8)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            for isa in ("base", "avx2", "avx512"):
                with use_instruction_set(isa):
                    results.append(ops.gmm_sample(labels, means, stds, seed=1))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(r, results[0]) for r in results)


def test_gradients_pass_gradcheck(device):
    labels, means, stds = problem((2, 2, 3, 3), 4, 2, torch.float64, device=device)
    means, stds = means.requires_grad_(), stds.requires_grad_()
    lut = torch.tensor([0, 2, 2, 3], dtype=torch.int32, device=device)
    place = {"index_shape": (6, 6, 9), "index_origin": (1, 2, 3)}
    assert torch.autograd.gradcheck(lambda m, s: ops.gmm_sample(labels, m, s, lut=lut, seed=7, **place), (means, stds))
    assert torch.autograd.gradcheck(lambda m: ops.gmm_sample(labels, m, stds.detach(), seed=7), (means[0],))
    assert torch.autograd.gradcheck(lambda s: ops.gmm_sample(labels, means.detach(), s, seed=7), (stds,))


def test_gradient_is_the_sum_over_each_class_for_any_thread_count(device):
    labels, means, stds = problem((2, 20, 50, 90), 6, device=device)
    means, stds = means.requires_grad_(), stds.requires_grad_()
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            y = ops.gmm_sample(labels, means, stds, seed=7)
            g = torch.cos(torch.arange(y.numel(), device=device, dtype=torch.float64)).float().reshape(y.shape)
            found.append(torch.autograd.grad(y, (means, stds), g))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    noise = ops.rand_normal(y.shape, 7, device=device).double()
    for b in range(2):
        where = torch.nn.functional.one_hot(labels[b, 0].flatten(), 6).double()
        torch.testing.assert_close(
            found[0][0][b, :, 0].double(), where.T @ g[b].flatten().double(), rtol=1e-6, atol=1e-4
        )
        of_std = where.T @ (g[b].flatten().double() * noise[b].flatten())
        torch.testing.assert_close(found[0][1][b, :, 0].double(), of_std, rtol=1e-6, atol=1e-4)


def test_second_derivative_is_refused():
    labels, means, stds = problem((1, 4, 4), 2, 1, torch.float64)
    means = means.requires_grad_()
    y = ops.gmm_sample(labels, means, stds, seed=0)
    upstream = torch.ones_like(y).requires_grad_()
    (g,) = torch.autograd.grad(y, means, upstream, create_graph=True)
    with pytest.raises(NotImplementedError, match="second derivative"):
        g.sum().backward()


def test_label_without_class_is_named(device):
    labels = torch.zeros(2, 1, 3, 4, 5, dtype=torch.int16, device=device)
    labels[1, 0, 2, 1, 3], labels[1, 0, 2, 3, 0] = 77, -4
    two = torch.ones(2, device=device)
    with pytest.raises(ValueError, match=r"labels holds 77 in sample 1 at position \(2, 1, 3\)"):
        ops.gmm_sample(labels, two, two, seed=0)
    y = ops.gmm_sample(labels, two, two, seed=0, validate=False)
    assert y.isnan().nonzero().tolist() == [[1, 0, 2, 1, 3], [1, 0, 2, 3, 0]]
    assert torch.equal(reference.gmm_sample(labels, two, two, seed=0, validate=False).isnan(), y.isnan())


def test_lut_entry_of_minus_one_is_not_allowed_in_labels():
    lut = torch.tensor([0, -1], dtype=torch.int32)
    with pytest.raises(ValueError, match="holds 1 in sample 0"):
        ops.gmm_sample(torch.tensor([[0, 1]]), torch.ones(1), torch.ones(1), lut=lut, seed=0)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"labels": torch.zeros(1, 1, 4)}, TypeError, "labels"),
        ({"labels": torch.zeros(4, dtype=torch.int64)}, ValueError, "labels"),
        ({"means": torch.ones(3).int()}, TypeError, "means"),
        ({"means": torch.ones(3).double()}, TypeError, "stds"),
        ({"means": torch.ones(2)}, ValueError, "agree"),
        ({"means": torch.ones(2, 3, 1)}, ValueError, "batch"),
        ({"means": torch.tensor([0.0, float("inf"), 0.0])}, ValueError, "means"),
        ({"stds": torch.tensor([0.0, -1.0, 0.0])}, ValueError, "stds"),
        ({"lut": torch.tensor([0, 3], dtype=torch.int32)}, ValueError, "lut"),
        ({"lut": torch.tensor([0, 1])}, TypeError, "lut"),
        ({"seed": -(2**63) - 1}, ValueError, "seed"),
        ({"index_shape": (3,)}, ValueError, "index_shape"),
        ({"out": torch.empty(1, 1, 5)}, ValueError, "out"),
        ({"out": torch.empty(1, 1, 4).double()}, TypeError, "out"),
        ({"means": torch.ones(3, requires_grad=True), "out": torch.empty(1, 1, 4)}, RuntimeError, "gradient"),
    ],
)
def test_bad_arguments_are_refused(change, error, message):
    arguments = {
        "labels": torch.zeros(1, 1, 4, dtype=torch.int64),
        "means": torch.ones(3),
        "stds": torch.ones(3),
        "seed": 0,
    }
    with pytest.raises(error, match=message):
        ops.gmm_sample(**(arguments | change))


@needs_kernels
def test_operators_pass_opcheck():
    labels, means, stds = problem((2, 3, 4, 5), 4, 2)
    lut = torch.arange(4, dtype=torch.int32)
    tail = (lut, 5, 1, 0, [], [], True)
    op = torch.ops.medsynth_ext
    torch.library.opcheck(op.gmm_sample.default, (labels[:, 0], means, stds, *tail))
    torch.library.opcheck(op.gmm_sample.default, (labels[:, 0], means.requires_grad_(), stds.requires_grad_(), *tail))
    out = torch.ones(2, 2, 3, 4, 5)
    torch.library.opcheck(op.gmm_sample_out.default, (labels[:, 0], means.detach(), stds.detach(), *tail, out))
    torch.library.opcheck(op.gmm_sample_backward.default, (out, labels[:, 0], lut, 4, True, False, 5, 1, 0, [], []))


def test_compiles_without_graph_break():
    labels, means, stds = problem((1, 8, 8), 4)
    compiled = torch.compile(
        lambda m: ops.gmm_sample(labels, m, stds, seed=5).square().mean(), fullgraph=True, backend="aot_eager"
    )
    assert compiled(means) == ops.gmm_sample(labels, means, stds, seed=5).square().mean()


def test_meta_device_gives_shapes():
    labels = torch.zeros(2, 1, 4, 5, dtype=torch.int64, device="meta")
    assert ops.gmm_sample(labels, torch.ones(3, 2, device="meta"), torch.ones(3, 2, device="meta"), seed=0).shape == (
        2,
        2,
        4,
        5,
    )
