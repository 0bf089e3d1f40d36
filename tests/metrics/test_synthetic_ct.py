"""Figures of synthetic CT on volumes whose answers are known."""

from __future__ import annotations

import math

import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor

from medsynth_ext.metrics.synthetic_ct import (
    REGIONS,
    TISSUES,
    GradientRatio,
    HUError,
    LineIntegralError,
    TissueDice,
    body_mask,
    edge_band,
    region_mask,
    tissue_classes,
)


def head() -> Tensor:
    """(24, 24, 12) HU: water in air with a ring of bone and a hole of air in the middle."""
    x, y = torch.meshgrid(torch.arange(24.0) - 11.5, torch.arange(24.0) - 11.5, indexing="ij")
    r = (x**2 + y**2).sqrt()
    plane = torch.full((24, 24), -1000.0)
    plane[r < 10] = 0.0
    plane[(r < 9) & (r > 7)] = 1000.0
    plane[r < 2] = -1000.0
    return plane[:, :, None].repeat(1, 1, 12)


def batch(volume: Tensor, spacing: float | None = None) -> Tensor:
    if spacing is None:
        return volume[None, None]
    affine = torch.diag(torch.tensor([spacing, spacing, spacing, 1.0]))
    return MetaTensor(volume[None, None], affine=affine)


def test_thresholds_lie_between_air_soft_tissue_and_bone() -> None:
    assert tissue_classes(torch.tensor([-1000.0, -300.0, -299.0, 200.0, 201.0])).tolist() == [0, 0, 1, 1, 2]


def test_the_body_has_its_holes_and_not_what_floats_beside_it() -> None:
    hu = head()
    hu[0, 0, 0] = 500.0
    mask = body_mask(hu)
    assert mask[11, 11].all()
    assert not mask[0, 0, 0]
    assert torch.equal(mask[12, 12], torch.ones(12, dtype=torch.bool))


def test_regions_share_out_the_volume() -> None:
    hu = head()
    masks = {name: region_mask(hu, name, sigma=2.0) for name in REGIONS}
    assert torch.equal(masks["edges"] ^ masks["flat"], masks["whole"])
    assert torch.equal(masks["air"] | masks["soft"] | masks["bone"], masks["body"])
    assert sum(int(masks[t].sum()) for t in TISSUES) == int(masks["body"].sum())
    with pytest.raises(ValueError, match="region must be one of whole, body"):
        region_mask(hu, "skin")


def test_an_error_is_counted_where_it_lies() -> None:
    truth = head()
    found = truth.clone()
    found[truth == 1000] = 800.0
    figures = {name: float(HUError(name, sigma_mm=2.0)(batch(found), batch(truth))) for name in REGIONS}
    share = float((truth == 1000).float().mean())
    assert figures["bone"] == pytest.approx(200)
    assert figures["soft"] == figures["air"] == 0
    assert figures["whole"] == pytest.approx(200 * share, rel=1e-5)
    assert figures["edges"] > figures["flat"]
    assert float(HUError(unit_hu=1000)(batch(found), batch(truth))) == pytest.approx(0.2 * share, rel=1e-5)


def test_a_region_that_is_empty_in_one_case_is_left_out_of_the_mean() -> None:
    metric = HUError("bone")
    truth = head()
    metric(batch(truth + 10), batch(truth))
    metric(batch(torch.zeros(24, 24, 12)), batch(torch.full((24, 24, 12), -1000.0)))
    assert float(metric.aggregate()) == pytest.approx(10)
    metric.reset()
    with pytest.raises(ValueError, match="nothing was measured"):
        metric.aggregate()


def test_dice_of_hand_worked_volumes() -> None:
    truth, found = torch.full((2, 4, 4), -1000.0), torch.full((2, 4, 4), -1000.0)
    truth[0, 0, :2] = 1000.0
    found[0, 0, 1:3] = 700.0
    assert float(TissueDice("bone")(batch(found), batch(truth))) == pytest.approx(0.5)
    assert math.isnan(float(TissueDice("soft")(batch(found), batch(truth))))
    assert float(TissueDice("soft")(batch(torch.zeros(2, 4, 4)), batch(truth))) == 0
    assert float(TissueDice("air")(batch(found), batch(truth))) == pytest.approx(2 * 29 / 60)


def test_a_blurred_ct_has_a_gradient_ratio_below_one() -> None:
    truth = head()
    metric = GradientRatio(sigma_mm=3.0)
    assert float(metric(batch(truth), batch(truth))) == pytest.approx(1)
    blurred = torch.nn.functional.avg_pool3d(truth[None, None], 3, stride=1, padding=1)[0, 0]
    assert float(metric(batch(blurred), batch(truth))) < 0.9
    assert math.isnan(float(metric(batch(torch.zeros(8, 8, 8)), batch(torch.zeros(8, 8, 8)))))


def test_the_width_of_the_edge_band_is_in_millimetres() -> None:
    truth = head()
    found = truth + 100 * edge_band(truth, sigma=2.0)
    fine = HUError("edges", sigma_mm=4.0)(batch(found, 2.0), batch(truth, 2.0))
    assert float(fine) == pytest.approx(100)


def test_line_integrals_of_scaled_attenuation_are_off_by_the_scale() -> None:
    truth = head()
    found = (truth + 1000) * 1.05 - 1000
    metric = LineIntegralError(views=12)
    assert float(metric(batch(found, 2.0), batch(truth, 2.0))) == pytest.approx(5, rel=1e-3)
    assert float(metric(batch(truth, 2.0), batch(truth, 2.0))) == 0


def test_errors_that_cancel_along_a_ray_are_not_counted_by_it() -> None:
    truth = torch.zeros(16, 16, 2)
    up, pair = truth.clone(), truth.clone()
    up[8, 8], up[8, 9] = 100.0, 100.0
    pair[8, 8], pair[8, 9] = 100.0, -100.0
    metric = LineIntegralError(views=12)
    assert float(metric(batch(pair), batch(truth))) < 0.8 * float(metric(batch(up), batch(truth)))


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"must both be \(B, 1, D, H, W\) in HU, got \(1, 1, 4, 4, 4\) and None"):
        HUError()(torch.zeros(1, 1, 4, 4, 4))
    with pytest.raises(ValueError, match="tissue must be one of air, soft, bone, got 'fat'"):
        TissueDice("fat")
    with pytest.raises(ValueError, match="views must be at least 1"):
        LineIntegralError(views=0)
