"""What the network is trained to give, and the loss."""

from __future__ import annotations

import math

import pytest
import torch

from medsynth_ext.methods.relation_heatmap.links import nearest_neighbours, render_links
from medsynth_ext.methods.relation_heatmap.losses import HeatmapLoss, distillation, mean_where
from medsynth_ext.methods.relation_heatmap.targets import PointTarget

NAN = math.nan


def test_target_of_the_paper_is_the_conformance_vector_of_the_card() -> None:
    points = torch.tensor([[[20.9, 30.2], [NAN, NAN], [20.0, 36.0]]])
    heatmap = PointTarget(sigma=5.0, window=24, center="trunc")(points, (48, 64))
    assert heatmap.shape == (1, 1, 48, 64)
    for (y, x), want in {(20, 30): 1.0, (20, 28): 0.923116, (20, 33): 0.835270, (44, 30): 9.9295e-6}.items():
        assert heatmap[0, 0, y, x].item() == pytest.approx(want, rel=5e-5)
    assert heatmap.count_nonzero().item() == 2475


def test_frames_without_points_have_empty_targets() -> None:
    nothing = torch.full((2, 3, 2), NAN)
    for relation, channels in (("none", 1), ("adaptive", 1), ("links", 2)):
        target = PointTarget(relation=relation)(nothing, (32, 64))
        assert target.shape == (2, channels, 32, 64)
        assert target.abs().max() == 0
    assert PointTarget(relation="links")(torch.zeros(1, 0, 2), (32, 32)).abs().max() == 0


def test_adaptive_width_is_a_share_of_the_distance_within_its_limits() -> None:
    points = torch.tensor([[[50.0, 20.0], [50.0, 32.0], [50.0, 100.0], [NAN, NAN]]])
    options = {"sigma": 5.0, "share": 0.25, "smallest_sigma": 2.0, "window": 24}
    heatmap = PointTarget(relation="adaptive", **options)(points, (64, 128))[0, 0]
    # Distances 12, 12 and 68: widths 3, 3 and 5.
    assert heatmap[47, 20].item() == pytest.approx(math.exp(-0.5), rel=1e-5)
    assert heatmap[45, 100].item() == pytest.approx(math.exp(-0.5), rel=1e-5)
    single = PointTarget(relation="adaptive", **options)(points[:, 2:], (64, 128))[0, 0]
    assert single[45, 100].item() == pytest.approx(math.exp(-0.5), rel=1e-5)
    close = torch.tensor([[[50.0, 20.0], [50.0, 22.0]]])
    assert PointTarget(relation="adaptive", **options)(close, (64, 128))[0, 0, 48, 20].item() == pytest.approx(
        math.exp(-0.5), rel=1e-5
    )


def test_links_join_nearest_neighbours_only() -> None:
    points = torch.tensor([[[4.0, 2.0], [4.0, 6.0], [4.0, 30.0]]])
    valid = torch.ones(1, 3, dtype=torch.bool)
    least, index = nearest_neighbours(points, valid)
    assert least.tolist() == [[4.0, 4.0, 24.0]]
    assert index.tolist() == [[1, 0, 1]]
    drawn = render_links(points, valid, (9, 40), 2.0)[0, 0]
    assert torch.equal(drawn[4, 2:31], torch.ones(29))  # the third point's neighbour is the second
    assert drawn[6, 10].item() == pytest.approx(math.exp(-0.5))
    assert drawn[4, 34].item() == pytest.approx(math.exp(-2.0))
    without = render_links(points, torch.tensor([[True, True, False]]), (9, 40), 2.0)[0, 0]
    assert without[4, 18].item() < 1e-6
    assert render_links(points, torch.tensor([[True, False, False]]), (9, 40), 2.0).abs().max() == 0


def test_oblique_links_have_the_distance_to_the_segment() -> None:
    points = torch.tensor([[[3.0, 4.0], [11.0, 10.0]]])
    drawn = render_links(points, torch.ones(1, 2, dtype=torch.bool), (16, 16), 1.5)[0, 0]
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    along = torch.linspace(0, 1, 20001)
    line = points[0, 0] + along[:, None] * (points[0, 1] - points[0, 0])
    least = torch.cdist(torch.stack([y, x], -1).reshape(-1, 2), line).amin(1).reshape(16, 16)
    assert torch.allclose(drawn, torch.exp(-(least**2) / (2 * 1.5**2)), atol=1e-4)


def test_twins_in_one_place_are_linked_by_a_dot() -> None:
    points = torch.tensor([[[5.0, 5.0], [5.0, 5.0]]])
    drawn = render_links(points, torch.ones(1, 2, dtype=torch.bool), (11, 11), 1.0)[0, 0]
    assert drawn.isfinite().all()
    assert drawn[5, 5] == 1
    assert drawn[5, 8].item() == pytest.approx(math.exp(-4.5))


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match="relation must be one of none, adaptive, links, got 'graph'"):
        PointTarget(relation="graph")
    with pytest.raises(ValueError, match="must be positive"):
        PointTarget(sigma=0)
    with pytest.raises(ValueError, match="smallest_sigma must not exceed sigma"):
        PointTarget(relation="adaptive", sigma=1.0, smallest_sigma=2.0)
    with pytest.raises(ValueError, match="reduction must be one of"):
        HeatmapLoss("sum")
    with pytest.raises(ValueError, match="kind must be one of"):
        distillation(torch.zeros(1, 1), torch.zeros(1, 1), "kl")


def test_reductions_are_the_sum_and_the_scaled_mean_of_squares_per_frame() -> None:
    torch.manual_seed(0)
    pred, target = torch.randn(2, 2, 3, 5), torch.randn(2, 2, 3, 5)
    square = (pred - target) ** 2
    want = square[:, 0].sum((1, 2)) + 0.25 * square[:, 1].sum((1, 2))
    assert torch.allclose(HeatmapLoss("pixel_sum", link_weight=0.25)(pred, target), want)
    mean = HeatmapLoss("pixel_mean", scale=100.0, link_weight=0.25)(pred, target)
    assert torch.allclose(mean, 100 * want / 15)
    with pytest.raises(ValueError, match="'links' needs a network with two channels"):
        HeatmapLoss()(pred[:, :1], target)


def test_distillations_are_those_of_two_coins() -> None:
    torch.manual_seed(0)
    teacher, student = torch.randn(3, 1, 4, 4, dtype=torch.float64), torch.randn(3, 1, 4, 4, dtype=torch.float64)
    p, q = teacher.sigmoid(), student.sigmoid()
    half = (p * (p / q).log()).flatten(1).mean(1)
    assert torch.allclose(distillation(teacher, student), half)
    full = half + ((1 - p) * ((1 - p) / (1 - q)).log()).flatten(1).mean(1)
    assert torch.allclose(distillation(teacher, student, "full"), full)
    assert (full > 0).all()
    assert torch.allclose(distillation(teacher, student, "mse"), ((teacher - student) ** 2).flatten(1).mean(1))


@pytest.mark.parametrize(("kind", "rests"), [("half", False), ("full", True), ("mse", True)])
def test_only_whole_divergences_are_at_rest_when_the_networks_agree(kind: str, rests: bool) -> None:
    teacher = torch.tensor([[[[0.3, -1.0]]]], requires_grad=True)
    student = teacher.detach().clone().requires_grad_()
    distillation(teacher, student, kind).sum().backward()
    assert teacher.grad is None
    assert student.grad is not None
    if rests:
        assert student.grad.abs().max() < 1e-7
    else:
        assert (student.grad < -0.05).all()  # upwards, although nothing is wrong


def test_mean_over_no_frame_is_zero_and_carries_no_gradient() -> None:
    values = torch.ones(2, 3, requires_grad=True)
    mean_where(values, torch.tensor([False, False])).backward()
    assert values.grad is not None
    assert values.grad.abs().max() == 0
