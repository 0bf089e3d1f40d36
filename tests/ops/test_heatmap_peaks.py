"""Peaks of heatmaps: brute-force oracles, ties, borders, NaN, refinement, reproducibility and refusals."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from medsynth_ext import ops
from medsynth_ext._extension import has_operators, use_instruction_set
from medsynth_ext.ops import reference

needs_kernels = pytest.mark.skipif(not has_operators(), reason="operators are not built")
SIZES = [(41,), (23, 37), (9, 11, 35), (1, 1), (3, 1, 80)]
REFINE = ("none", "parabola", "log_parabola", "dark", "com")


def hard_maps(size, dtype=torch.float32, device="cpu"):
    """Noise; noise with NaN; few levels, so plateaus and ties; all NaN; all -inf; a +inf in noise; (2, 3, *size)."""
    g = torch.Generator().manual_seed(sum(size))
    h = torch.rand(2, 3, *size, generator=g, dtype=dtype)
    h[0, 1].view(-1)[::3] = math.nan
    h[0, 2] = (h[0, 2] * 4).floor() / 4
    h[1, 0] = math.nan
    h[1, 1] = -math.inf
    h[1, 2].view(-1)[-1] = math.inf
    return h.to(device)


def gaussian(at, size, matrix):
    """A noiseless Gaussian with the given inverse covariance; float64, (1, 1, *size)."""
    axes = torch.meshgrid(*[torch.arange(n, dtype=torch.float64) for n in size], indexing="ij")
    v = torch.stack(axes, -1) - torch.tensor(at, dtype=torch.float64)
    return torch.exp(-0.5 * torch.einsum("...a,ab,...b->...", v, torch.tensor(matrix, dtype=torch.float64), v))[
        None, None
    ]


def test_worked_parabola_and_logarithm(device):
    h = torch.tensor([[[0.0, 1.0, 3.0, 2.0]]], dtype=torch.float64, device=device)
    assert ops.heatmap_peak(h)[0].item() == 2.0
    assert ops.heatmap_peak(h, refine="parabola")[0].item() == pytest.approx(2 + 0.5 * (1 - 2) / (1 - 6 + 2))
    logs = [math.log(v) for v in (1.0, 3.0, 2.0)]
    want = 2 + 0.5 * (logs[0] - logs[2]) / (logs[0] - 2 * logs[1] + logs[2])
    assert ops.heatmap_peak(h, refine="log_parabola")[0].item() == pytest.approx(want)
    assert ops.heatmap_peak(h, refine="com", window=1)[0].item() == pytest.approx((1 * 1 + 2 * 3 + 3 * 2) / 6)


@pytest.mark.parametrize("isa", ["base", "avx2", "avx512"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernels_equal_the_twins_on_hard_maps(device, isa, size, dtype):
    h = hard_maps(size, dtype, device)
    spacing = [1.0, 2.0, 0.5][: len(size)]
    forms = (
        {},
        {"window": 2, "radius": 0.0},
        {"radius": 3.0, "max_peaks": 200, "exclude_border": 2},
        {"ties": "all", "radius": 0.0, "max_peaks": 300, "threshold": 0.5},
        {"spacing": spacing, "radius": 4.0, "threshold": -1.0, "max_peaks": 3},
    )
    with use_instruction_set(isa):
        for refine in REFINE:
            for sigma in (0.0, 1.0) if refine == "dark" else (0.0,):
                found = ops.heatmap_peak(h, refine=refine, sigma=sigma, threshold=0.2)
                want = reference.heatmap_peak(h, refine=refine, sigma=sigma, threshold=0.2)
                for a, b in zip(found, want, strict=True):
                    torch.testing.assert_close(a, b, rtol=0, atol=1e-5, equal_nan=True)
        for form, refine in zip(forms, REFINE, strict=True):
            found = ops.heatmap_peaks_nms(h, refine=refine, **form)
            want = reference.heatmap_peaks_nms(h, refine=refine, **form)
            for a, b in zip(found, want, strict=True):
                torch.testing.assert_close(a, b, rtol=0, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("size", [(300,), (60, 83), (20, 24, 31)])
def test_local_maxima_are_those_of_a_maximum_filter(device, size):
    """Without ties all definitions agree."""
    h = torch.rand(1, 2, *size, generator=torch.Generator().manual_seed(3))
    coords, value, count = ops.heatmap_peaks_nms(h.to(device), threshold=0.3, radius=0.0, max_peaks=h[0, 0].numel())
    for c in range(2):
        image = h[0, c].numpy()
        top = (ndimage.maximum_filter(image, 3, mode="constant", cval=-1) == image) & (image > 0.3)
        assert count[0, c].item() == top.sum()
        found = coords[0, c, : count[0, c]].long().cpu().numpy()
        assert {tuple(i) for i in found} == {tuple(i) for i in np.argwhere(top)}
        assert value[0, c, : count[0, c]].tolist() == sorted(image[top].tolist(), reverse=True)


@pytest.mark.parametrize("size", [(17,), (16, 15)])
@pytest.mark.parametrize("radius", [0.0, 1.5, 4.0])
def test_suppression_equals_brute_force(device, size, radius):
    h = (torch.rand(3, 2, *size, generator=torch.Generator().manual_seed(1)) * 12).floor().to(device)
    coords, value, count = ops.heatmap_peaks_nms(h, radius=radius, max_peaks=h[0, 0].numel(), window=1)
    for b, c in itertools.product(range(3), range(2)):
        image = h[b, c].cpu().numpy()
        peaks = []
        for at in np.ndindex(*size):
            near = itertools.product(*[range(max(i - 1, 0), min(i + 2, n)) for i, n in zip(at, size, strict=True)])
            before, after = [], []
            for other in near:
                (before if other < at else after).append(image[other])
            if image[at] > 0 and all(image[at] > v for v in before) and all(image[at] >= v for v in after):
                peaks.append(at)
        kept = []
        for at in sorted(peaks, key=lambda i: (-image[i], i)):
            if radius == 0 or all(math.dist(at, k) > radius for k in kept):
                kept.append(at)
        found = [tuple(int(v) for v in p) for p in coords[b, c, : count[b, c]].tolist()]
        assert found == kept
        assert value[b, c, count[b, c] :].eq(-math.inf).all()
        assert coords[b, c, count[b, c] :].isnan().all()


def test_top_k_is_the_beginning_of_all_peaks(device):
    h = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(2)).to(device)
    every, values, count = ops.heatmap_peaks_nms(h, radius=2.0, max_peaks=2000)
    assert 100 < count.item() < 2000
    few, few_values, few_count = ops.heatmap_peaks_nms(h, radius=2.0, max_peaks=7)
    assert few_count.item() == 7
    assert torch.equal(few[0, 0], every[0, 0, :7])
    assert torch.equal(few_values[0, 0], values[0, 0, :7])


def test_first_voxel_of_a_plateau_is_its_peak(device):
    h = torch.zeros(1, 1, 7, 7, device=device)
    h[0, 0, 3, 3] = h[0, 0, 3, 4] = h[0, 0, 4, 3] = 0.5
    coords, _, count = ops.heatmap_peaks_nms(h)
    assert count.item() == 1
    assert coords[0, 0, 0].tolist() == [3.0, 3.0]
    assert ops.heatmap_peak(torch.full((1, 1, 4, 5), 2.0, device=device))[0].tolist() == [[[0.0, 0.0]]]
    flat = ops.heatmap_peaks_nms(torch.full((1, 1, 40, 50), 2.0, device=device), max_peaks=3)
    assert flat[2].item() == 1
    assert flat[0][0, 0, 0].tolist() == [0.0, 0.0]


def test_maps_without_a_number_have_no_peak(device):
    h = torch.full((1, 2, 4, 5), math.nan, device=device)
    h[0, 1] = -math.inf
    coords, value, valid = ops.heatmap_peak(h)
    assert coords[0, 0].isnan().all()
    assert coords[0, 1].tolist() == [0.0, 0.0]
    assert value[0, 0].isnan()
    assert valid.tolist() == [[False, True]]
    assert ops.heatmap_peak(h, threshold=0.0)[2].tolist() == [[False, False]]
    assert ops.heatmap_peaks_nms(h)[2].tolist() == [[0, 0]]


@pytest.mark.parametrize("refine", ["log_parabola", "dark"])
@pytest.mark.parametrize("size", [(15,), (15, 14), (13, 14, 15)])
def test_noiseless_gaussian_is_found_to_a_thousandth_of_a_voxel(device, refine, size):
    steps = torch.linspace(-0.49, 0.49, 4, dtype=torch.float64).tolist()
    for offset in itertools.product(steps, repeat=len(size)):
        at = [6 + o for o in offset]
        h = gaussian(at, size, np.diag([0.25, 0.4, 0.3][: len(size)]))
        for dtype, tolerance in ((torch.float32, 1e-3), (torch.float64, 1e-9)):
            found = ops.heatmap_peak(h.to(device, dtype), refine=refine)[0][0, 0]
            assert found.tolist() == pytest.approx(at, abs=tolerance)


def test_dark_is_exact_for_a_rotated_gaussian_and_the_parabola_is_not(device):
    h = gaussian((7.3, 6.8), (15, 15), [[0.3, 0.15], [0.15, 0.25]]).to(device)
    found = ops.heatmap_peak(h, refine="dark")[0][0, 0]
    assert found.tolist() == pytest.approx((7.3, 6.8), abs=1e-9)
    along = ops.heatmap_peak(h, refine="log_parabola")[0][0, 0]
    assert abs(along[0].item() - 7.3) > 0.01


def test_smoothing_before_dark_steadies_it_in_noise(device):
    g = torch.Generator().manual_seed(0)
    truth = torch.rand(1, 200, 2, generator=g) * 20 + 10
    h = ops.render_gaussian_heatmaps(truth, 3.0, (40, 40)) + 0.05 * torch.randn(1, 200, 40, 40, generator=g)
    plain, smooth = (ops.heatmap_peak(h.to(device), refine="dark", sigma=s)[0].cpu() for s in (0.0, 2.0))
    assert (smooth - truth).norm(dim=-1).mean() < 0.5 * (plain - truth).norm(dim=-1).mean()


def test_axes_on_the_border_stay(device):
    h = torch.zeros(1, 1, 5, 6, dtype=torch.float64, device=device) + 0.01
    h[0, 0, 0, 3], h[0, 0, 0, 2] = 1.0, 0.6
    for refine in ("parabola", "log_parabola", "dark"):
        y, x = ops.heatmap_peak(h, refine=refine)[0][0, 0].tolist()
        assert y == 0.0
        assert 2.5 <= x < 3.0


def test_results_carry_no_gradient():
    h = torch.rand(1, 1, 5, 5, requires_grad=True)
    for result in (ops.heatmap_peak(h), ops.heatmap_peaks_nms(h), ops.heatmap_peaks_maxpool(h)):
        assert not any(t.requires_grad for t in result)


# The vectors of the method card of the relation heatmaps, without smoothing.


def test_plateau_of_the_card(device):
    h = torch.zeros(1, 1, 7, 7, device=device)
    h[0, 0, 3, 3] = h[0, 0, 3, 4] = 0.5
    options = {"presmooth_sigma": 0.0, "rule": "score"}
    points, _, count = ops.heatmap_peaks_maxpool(h, ties="all", **options)
    assert count.item() == 2
    assert points[0, :2].tolist() == [[3.0, 3.0], [3.0, 4.0]]
    points, _, count = ops.heatmap_peaks_maxpool(h, **options)
    assert count.item() == 1
    assert points[0, 0].tolist() == [3.0, 3.0]


def test_border_of_the_card(device):
    h = torch.zeros(1, 1, 5, 5, device=device)
    h[0, 0, 0, 0], h[0, 0, 0, 1], h[0, 0, 4, 4] = 0.9, 0.8, 0.3
    points, score, count = ops.heatmap_peaks_maxpool(h, presmooth_sigma=0.0)
    assert count.item() == 2
    assert points[0, :2].tolist() == [[0.0, 0.0], [4.0, 4.0]]
    assert score[0, :2].tolist() == pytest.approx([0.9, 0.3])
    assert points[0, 2:].isnan().all()


@pytest.mark.parametrize(
    ("scores", "v1", "v2", "score"),
    [
        ([0.9, 0.8, 0.05, 0.04, 0.03], 5, 4, 2),
        ([0.5] * 12, 12, 10, 12),
        ([0.5] * 7 + [0.05] * 10, 10, 7, 7),
        ([0.5, 0.05], 2, 2, 1),
    ],
)
def test_count_rules_of_the_card(device, scores, v1, v2, score):
    h = torch.zeros(1, 1, 1, 2 * len(scores), device=device)
    h[0, 0, 0, ::2] = torch.tensor(scores)
    for rule, want in (("v1", v1), ("v2", v2), ("score", score)):
        assert ops.heatmap_peaks_maxpool(h, presmooth_sigma=0.0, rule=rule)[2].item() == want
    assert ops.heatmap_peaks_maxpool(h, presmooth_sigma=0.0, lower=1, upper=1)[2].item() == 1


def test_smoothing_is_that_of_scipy(device):
    h = torch.rand(1, 1, 30, 33, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    smooth = ndimage.gaussian_filter(h[0, 0].numpy(), 1.0, truncate=4.0, mode="constant")
    _, score, count = ops.heatmap_peaks_maxpool(h.to(device), rule="score", topk=500)
    top = (ndimage.maximum_filter(smooth, 3, mode="constant") == smooth) & (smooth >= 0.1)
    assert count.item() == top.sum()
    assert score[0, : count.item()].tolist() == pytest.approx(sorted(smooth[top], reverse=True), abs=1e-12)


@needs_kernels
def test_bits_do_not_depend_on_threads_or_batch():
    h = torch.rand(1, 1, 20, 120, 130, generator=torch.Generator().manual_seed(4))
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            both = h.expand(2, 2, -1, -1, -1).contiguous()
            for image in (h, both):
                peaks = (*ops.heatmap_peak(image, refine="dark"), *ops.heatmap_peaks_nms(image, refine="parabola"))
                results.append([t[:1, :1] for t in peaks])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_non_contiguous_and_empty_batches(device):
    h = torch.rand(2, 1, 9, 8, device=device)
    turned = h.mT.contiguous().mT
    assert torch.equal(ops.heatmap_peak(turned)[0], ops.heatmap_peak(h)[0])
    assert torch.equal(ops.heatmap_peaks_nms(turned)[1], ops.heatmap_peaks_nms(h)[1])
    coords, value, valid = ops.heatmap_peak(h[:0])
    assert (coords.shape, value.shape, valid.shape) == ((0, 1, 2), (0, 1), (0, 1))
    assert ops.heatmap_peaks_nms(h[:, :0], max_peaks=5)[0].shape == (2, 0, 5, 2)
    assert ops.heatmap_peaks_maxpool(h[:0])[0].shape == (0, 30, 2)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"h": torch.zeros(1, 1, 4).int()}, TypeError, "h must"),
        ({"h": torch.zeros(1, 4)}, ValueError, "h must"),
        ({"h": torch.zeros(1, 1, 4, 0)}, ValueError, "h must"),
        ({"threshold": math.nan}, ValueError, "threshold"),
        ({"radius": -1.0}, ValueError, "radius"),
        ({"max_peaks": 0}, ValueError, "max_peaks"),
        ({"window": 0}, ValueError, "window"),
        ({"refine": "spline"}, ValueError, "refine"),
        ({"exclude_border": -1}, ValueError, "exclude_border"),
        ({"spacing": [1.0, 1.0]}, ValueError, "spacing"),
        ({"sigma": 21.0}, ValueError, "sigma"),
        ({"ties": "last"}, ValueError, "ties"),
    ],
)
def test_bad_arguments_are_refused(change, error, message):
    with pytest.raises(error, match=message):
        ops.heatmap_peaks_nms(**({"h": torch.zeros(1, 1, 4)} | change))


def test_bad_arguments_of_the_max_pool_form_are_refused():
    for change, message in (
        ({"h": torch.zeros(1, 2, 4)}, "one channel"),
        ({"kernel": 4}, "kernel"),
        ({"rule": "v3"}, "rule"),
        ({"lower": 5, "upper": 3}, "lower and upper"),
        ({"presmooth_sigma": -1.0}, "presmooth_sigma"),
    ):
        with pytest.raises(ValueError, match=message):
            ops.heatmap_peaks_maxpool(**({"h": torch.zeros(1, 1, 4)} | change))


@needs_kernels
def test_operators_pass_opcheck():
    h = torch.rand(3, 6, 7)
    op = torch.ops.medsynth_ext
    torch.library.opcheck(op.heatmap_peak.default, (h, 3, 2, 1.0))
    torch.library.opcheck(op.heatmap_peaks_nms.default, (h, 0.1, 1.0, 4, 1, 1, 0.0, 0, [1.0, 1.0], False))


def test_compiles_without_graph_break():
    h = torch.rand(1, 2, 8, 9)

    def call(x):
        return (*ops.heatmap_peak(x, refine="dark"), *ops.heatmap_peaks_nms(x, max_peaks=2))

    found = torch.compile(call, fullgraph=True, backend="aot_eager")(h)
    assert all(torch.equal(a, b) for a, b in zip(found, call(h), strict=True))


def test_meta_device_gives_shapes():
    h = torch.empty(2, 3, 4, 5, device="meta")
    assert ops.heatmap_peak(h)[0].shape == (2, 3, 2)
    assert ops.heatmap_peaks_nms(h, max_peaks=6)[0].shape == (2, 3, 6, 2)
