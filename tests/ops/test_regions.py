"""Region operators: the suture card's vectors, SciPy, scikit-image and brute force as oracles, and refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.filters import threshold_otsu

from medsynth_ext import ops
from medsynth_ext._extension import has_operators, use_instruction_set
from medsynth_ext.ops import reference

needs_kernels = pytest.mark.skipif(not has_operators(), reason="operators are not built")
CARD_POINTS = torch.tensor([[[12.0, 14.0], [12.0, 23.0], [30.5, 40.25], [36.0, 12.0], [24.0, 54.0]]])


def noise(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def card_map(device, merge="max"):
    valid = torch.ones(1, 5, dtype=torch.bool, device=device)
    return ops.render_point_map(CARD_POINTS.to(device), valid, (48, 64), 3.0, merge=merge)


@pytest.mark.parametrize(
    ("merge", "threshold", "above", "opened", "first_area", "cut"),
    [("max", 76, 344, 340, 138, (14.0, 23.0)), ("sum_clip", 78, 348, 344, 142, (14.1127, 22.8873))],
)
def test_whole_chain_of_the_card(device, merge, threshold, above, opened, first_area, cut):
    h = card_map(device, merge)
    q = ops.quantize_probability(h)
    t, mask = ops.otsu_threshold(h)
    assert t.tolist() == [threshold]
    assert mask.sum().item() == above
    mask = ops.binary_opening(mask)
    assert mask.sum().item() == opened
    labels = ops.connected_components(mask, connectivity=8)
    stats = ops.region_stats(labels, q, max_regions=5)
    assert stats.area[0, 0].item() == first_area
    if merge == "max":
        assert stats.area.tolist() == [[138, 69, 64, 69, 0]]
        centroids = torch.stack([stats.sum_y, stats.sum_x], -1)[0, :4].double() / stats.area[0, :4, None]
        assert centroids.tolist() == [[12.0, 18.5], [24.0, 54.0], [30.5, 40.21875], [36.0, 12.0]]
        assert stats.bbox[0, 0].tolist() == [8, 10, 17, 28]
    for kappa in (1.0, 1.5):
        points, score, count, overflow = ops.split_regions(labels, q, kappa=kappa)
        assert count.tolist() == [5]
        assert not overflow.any()
        assert points[0, :2, 0].tolist() == [12.0, 12.0]
        assert points[0, :2, 1].tolist() == pytest.approx(cut, abs=5e-5)
        assert points[0, 5:].isnan().all()
        assert score[0, 5:].eq(-math.inf).all()
        assert ((score[0, :5] > 0) & (score[0, :5] < 1)).all()
    if merge == "max":
        pair, _ = ops.match_points(points[:, :5], CARD_POINTS.double().to(device), 6.0)
        assert sorted(pair[0].tolist()) == [0, 1, 2, 3, 4]


def test_levels_are_rounded_in_float64_and_nan_is_nothing(device):
    levels = torch.arange(256, dtype=torch.float64, device=device) / 255
    assert ops.quantize_probability(levels).tolist() == list(range(256))
    h = torch.tensor([math.nan, -1.0, 2.0, math.inf, 0.5 / 255, 0.499 / 255], device=device)
    assert ops.quantize_probability(h).tolist() == [0, 0, 255, 255, 1, 0]
    assert ops.quantize_probability(h.half()).dtype == torch.uint8


def test_threshold_equals_brute_force_and_scikit_image(device):
    h = torch.cat([noise(3, 1, 20, 30), (noise(3, 1, 20, 30, seed=1) * 5).floor() / 5]).to(device)
    found, mask = ops.otsu_threshold(h)
    q = ops.quantize_probability(h).flatten(1).long().cpu()
    for b in range(6):
        scores = []
        for t in range(255):
            low, high = q[b][q[b] <= t].tolist(), q[b][q[b] > t].tolist()
            n0, n1 = len(low), len(high)
            gap = sum(low) * (n0 + n1) - (sum(low) + sum(high)) * n0
            scores.append(gap**2 / (n0 * n1) if n0 and n1 else -1.0)
        assert found[b].item() == int(np.argmax(scores))
        assert torch.equal(mask[b].flatten().cpu(), q[b] > found[b].item())
    for b in range(3):
        image = q[b].numpy().astype(np.uint8)
        assert found[b].item() == threshold_otsu(image, nbins=256)


def test_maps_of_one_level_and_low_maps_have_empty_masks(device):
    h = torch.stack([torch.full((1, 4, 5), 0.3), torch.full((1, 4, 5), math.nan), noise(1, 4, 5) * 0.2]).to(device)
    assert ops.otsu_threshold(h)[1].sum((1, 2, 3)).gt(0).tolist() == [False, False, True]
    assert not ops.otsu_threshold(h, min_peak=0.3)[1][1:].any()


@pytest.mark.parametrize("size", [(40,), (17, 23), (7, 9, 8), (1, 5)])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_morphology_is_that_of_scipy_with_a_neutral_outside(device, size, k):
    mask = (noise(2, 2, *size) > 0.3).to(device)
    cube = np.ones((k,) * len(size), bool)
    for b in range(2):
        for c in range(2):
            m = mask[b, c].cpu().numpy()
            eroded = ndimage.binary_erosion(m, cube, border_value=1)
            assert np.array_equal(ops.binary_erosion(mask, k)[b, c].cpu().numpy(), eroded)
            assert np.array_equal(ops.binary_dilation(mask, k)[b, c].cpu().numpy(), ndimage.binary_dilation(m, cube))
            opened = ndimage.binary_dilation(eroded, cube)
            assert np.array_equal(ops.binary_opening(mask, k)[b, c].cpu().numpy(), opened)


@pytest.mark.parametrize("isa", ["base", "avx2", "avx512"])
@pytest.mark.parametrize(
    ("size", "connectivity"), [((60,), 2), ((23, 37), 4), ((23, 37), 8), ((8, 9, 17), 6), ((8, 9, 17), 26), ((1, 1), 8)]
)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.55, 0.7, 1.0])
def test_components_equal_scipys(device, isa, size, connectivity, share):
    mask = (noise(3, 2, *size) < share).to(device)
    with use_instruction_set(isa):
        found = ops.connected_components(mask, connectivity=connectivity)
    want = reference.connected_components(mask.flatten(0, 1), connectivity in (2, 8, 26)).reshape(mask.shape)
    assert found.dtype == torch.int32
    assert torch.equal(found, want)


def test_labels_follow_the_first_pixels(device):
    mask = torch.tensor([[0, 0, 1, 0, 1], [1, 0, 1, 0, 1], [1, 1, 1, 0, 0], [0, 0, 0, 0, 1]], device=device).bool()
    labels = ops.connected_components(mask[None, None], connectivity=4)[0, 0]
    assert labels.tolist() == [[0, 0, 1, 0, 2], [1, 0, 1, 0, 2], [1, 1, 1, 0, 0], [0, 0, 0, 0, 3]]


def test_spirals_and_combs_are_one_region(device):
    comb = torch.zeros(1, 1, 40, 81, dtype=torch.bool, device=device)
    comb[..., ::2] = True
    comb[..., -1, :] = True
    assert ops.connected_components(comb).amax().item() == 1
    assert ops.connected_components(comb.flip(2)).amax().item() == 1
    assert ops.connected_components(comb.mT, connectivity=4).amax().item() == 1


@needs_kernels
@pytest.mark.parametrize("isa", ["base", "avx2", "avx512"])
def test_sums_equal_the_twin_and_parts_add_up(device, isa):
    labels = ops.connected_components((noise(2, 1, 30, 41) < 0.4).to(device))
    q = (noise(2, 1, 30, 41, seed=7) * 255).to(torch.uint8).to(device)
    sums = torch.ops.medsynth_ext.region_sums
    most = int(labels.amax()) + 3
    with use_instruction_set(isa):
        table = sums(labels[:, 0], q[:, 0], None, most)
        assert torch.equal(table, reference.region_sums(labels[:, 0], q[:, 0], None, most))
        way = torch.arange(most, device=device).expand(2, -1) % 4 - 1
        cut = torch.stack([way, table[..., 0], table[..., 1], table[..., 2]], -1)
        parts = sums(labels[:, 0], q[:, 0], cut, most)
    assert torch.equal(parts, reference.region_sums(labels[:, 0], q[:, 0], cut, most))
    assert torch.equal(parts.view(2, most, 2, 11)[..., :6].sum(2), table[..., :6])
    few = ops.region_stats(labels, q, max_regions=4)
    assert torch.equal(few.area, table[:, :4, 0])


def test_tall_wide_and_square_regions_are_cut_their_ways(device):
    mask = torch.zeros(1, 1, 30, 40, dtype=torch.bool, device=device)
    mask[..., 2:5, 2:5] = True
    mask[..., 10:26, 2:4] = True  # tall
    mask[..., 2:4, 10:26] = True  # wide
    mask[..., 10:16, 20:26] = True  # as tall as wide: a line of constant x
    labels = ops.connected_components(mask)
    q = torch.full(mask.shape, 255, dtype=torch.uint8, device=device)
    points, score, count, _ = ops.split_regions(labels, q, kappa=1.0)
    want = [[3, 3], [2.5, 13.5], [2.5, 21.5], [13.5, 2.5], [21.5, 2.5], [12.5, 21], [12.5, 24]]
    expected = {0: [2.5, 13.5], 1: [2.5, 21.5], 2: [3.0, 3.0], 3: [13.5, 2.5], 4: [21.5, 2.5]}
    found = points[0, : count.item()].tolist()
    assert sorted(found) == sorted([[float(v) for v in p] for p in want])
    # In label order, which is that of the first pixels: the 3 x 3 block and the wide bar begin in the same row.
    assert found[0] == expected[2]
    assert found[1:3] == [expected[0], expected[1]]
    assert score[0, 0].item() == 1.0


def test_small_regions_give_no_point_and_too_many_are_reported(device):
    mask = torch.zeros(1, 1, 10, 40, dtype=torch.bool, device=device)
    mask[..., 1, 1] = True
    mask[..., 5:8, ::4] = True
    labels = ops.connected_components(mask)
    q = torch.full(mask.shape, 51, dtype=torch.uint8, device=device)
    _, score, count, overflow = ops.split_regions(labels, q, kappa=9.0, min_area=2)
    assert count.item() == 10
    assert score[0, 0].item() == pytest.approx(0.2)
    points, _, count, overflow = ops.split_regions(labels, q, kappa=9.0, max_points=4)
    assert (count.item(), overflow.item(), points.shape) == (4, True, (1, 4, 2))
    nothing = ops.split_regions(torch.zeros_like(labels), q)
    assert (nothing[2].item(), nothing[3].item()) == (0, False)


def test_an_area_of_one_point_cuts_where_all_regions_are_of_two(device):
    mask = torch.zeros(1, 1, 12, 30, dtype=torch.bool, device=device)
    mask[..., 2:6, 1:9] = mask[..., 2:6, 15:23] = True  # two fused pairs of 32 pixels, the mean is 32
    labels, q = ops.connected_components(mask), mask.to(torch.uint8) * 255
    assert ops.split_regions(labels, q, kappa=1.5)[2].tolist() == [2]
    points, _, count, _ = ops.split_regions(labels, q, kappa=1.5, single_area=16.0)
    assert count.tolist() == [4]
    assert points[0, :4, 1].tolist() == [2.5, 6.5, 16.5, 20.5]
    assert ops.split_regions(labels, q, kappa=2.0, single_area=16.0)[2].tolist() == [2]
    with pytest.raises(ValueError, match=r"single_area must be positive or None, got 0"):
        ops.split_regions(labels, q, single_area=0)


def test_levels_are_taken_as_they_are(device):
    p = noise(2, 1, 200, 300).to(device)
    wanted, given = ops.otsu_threshold(p), ops.otsu_threshold(ops.quantize_probability(p))
    assert all(torch.equal(a, b) for a, b in zip(wanted, given, strict=True))
    assert not ops.otsu_threshold(ops.quantize_probability(0.5 * p), min_peak=0.6)[1].any()


def test_weighted_centroids_follow_the_values(device):
    labels = torch.ones(1, 1, 1, 3, dtype=torch.int32, device=device)
    q = torch.tensor([[[[10, 0, 30]]]], dtype=torch.uint8, device=device)
    points = ops.split_regions(labels, q, weighted=True)[0]
    assert points[0, 0].tolist() == [0.0, 1.5]


@needs_kernels
def test_results_do_not_depend_on_threads_or_batch():
    h = noise(4, 1, 60, 70)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            labels = ops.connected_components(ops.otsu_threshold(h)[1])
            results.append((labels, *ops.split_regions(labels, ops.quantize_probability(h))))
    finally:
        torch.set_num_threads(before)
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
    alone = ops.connected_components(ops.otsu_threshold(h[2:3])[1])
    assert torch.equal(alone, results[0][0][2:3])


def test_non_contiguous_and_empty_batches(device):
    mask = (noise(2, 1, 20, 30) < 0.5).to(device)
    turned = mask.mT.contiguous().mT
    assert torch.equal(ops.connected_components(turned), ops.connected_components(mask))
    assert torch.equal(ops.binary_opening(turned), ops.binary_opening(mask))
    assert ops.connected_components(mask[:0]).shape == (0, 1, 20, 30)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ops.quantize_probability(torch.zeros(3).int()), TypeError, "prob must"),
        (lambda: ops.otsu_threshold(torch.zeros(1, 2, 4, 4)), ValueError, "prob must"),
        (lambda: ops.binary_dilation(torch.zeros(1, 1, 4)), TypeError, "mask must be a bool"),
        (lambda: ops.binary_erosion(torch.zeros(4, 4).bool()), ValueError, "mask must be"),
        (lambda: ops.binary_opening(torch.zeros(1, 1, 4).bool(), 2), ValueError, "k must be odd"),
        (lambda: ops.connected_components(torch.zeros(1, 1, 4, 4).bool(), connectivity=6), ValueError, "connectivity"),
        (lambda: ops.region_stats(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)), TypeError, "labels must"),
        (
            lambda: ops.region_stats(torch.zeros(1, 1, 4, 4).int(), torch.zeros(1, 1, 4, 5).byte()),
            ValueError,
            "q must",
        ),
        (
            lambda: ops.split_regions(torch.zeros(1, 1, 4, 4).int(), torch.zeros(1, 1, 4, 4).byte(), kappa=0.0),
            ValueError,
            "kappa",
        ),
    ],
)
def test_bad_arguments_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


@needs_kernels
def test_operators_pass_opcheck():
    op = torch.ops.medsynth_ext
    mask = noise(2, 6, 7) < 0.5
    torch.library.opcheck(op.connected_components.default, (mask, True))
    labels = op.connected_components(mask, True)
    q = torch.zeros(2, 6, 7, dtype=torch.uint8)
    torch.library.opcheck(op.region_sums.default, (labels, q, None, 4))
    torch.library.opcheck(op.region_sums.default, (labels, q, torch.zeros(2, 4, 4, dtype=torch.int64), 4))
