"""Counting noise, SIRT and CGLS."""

from __future__ import annotations

import math

import pytest
import torch
from ct_scans import make, scans, turn

from medsynth_ext import ops
from medsynth_ext.ops import CTGeometry

SMALL = CTGeometry.fan2d(turn(24), 25, 1.5, (9, 10), source_origin_mm=60.0, source_detector_mm=90.0)


@pytest.mark.parametrize("mean", [0.01, 0.7, 5.0, 60.0, 999.0, 1001.0, 1e5])
def test_counts_have_the_mean_and_variance_of_poissons_law(mean: float, device: torch.device) -> None:
    n = 100_000
    counts = ops.poisson_counts(torch.full((1, 1, n), mean, dtype=torch.float64, device=device), seed=3)
    assert torch.equal(counts, counts.round())
    assert counts.min() >= 0
    spread = math.sqrt(mean / n)
    assert abs(counts.mean().item() - mean) < 5 * spread
    assert counts.var().item() == pytest.approx(mean, rel=5 * math.sqrt((2 + 1 / mean) / n))


def test_few_counts_follow_poissons_law() -> None:
    n, mean = 200_000, 3.5
    counts = ops.poisson_counts(torch.full((1, 1, n), mean), seed=11).flatten().long()
    found = torch.bincount(counts, minlength=12)[:12].double()
    law = torch.tensor([math.exp(-mean) * mean**k / math.factorial(k) for k in range(12)], dtype=torch.float64) * n
    assert float(((found - law) ** 2 / law).sum()) < 35.0  # chi squared, 11 degrees: p = 2e-4


def test_counts_depend_on_seed_sample_and_place_alone() -> None:
    mean = 1500 * torch.rand(3, 2, 5, 7, generator=torch.Generator().manual_seed(1))
    whole = ops.poisson_counts(mean, seed=5)
    assert torch.equal(whole[1:], ops.poisson_counts(mean[1:], seed=5, sample_offset=1))
    assert not torch.equal(whole, ops.poisson_counts(mean, seed=6))
    assert torch.equal(ops.poisson_counts(torch.zeros(1, 1, 4), seed=1), torch.zeros(1, 1, 4))
    assert ops.poisson_counts(torch.zeros(0, 1, 4), seed=1).shape == (0, 1, 4)


def test_noise_has_the_spread_of_the_counts(device: torch.device) -> None:
    proj = torch.full((1, 1, 40_000), 2.0, dtype=torch.float64, device=device)
    noisy = ops.poisson_noise(proj, 1e5, seed=2)
    assert (noisy - proj).std().item() == pytest.approx(math.exp(1.0) / math.sqrt(1e5), rel=0.03)
    assert abs((noisy - proj).mean().item()) < 5 * math.exp(1.0) / math.sqrt(1e5 * 40_000)
    dark = ops.poisson_noise(torch.full((1, 1, 9), 50.0), 1e5, seed=2)
    assert torch.allclose(dark, torch.full_like(dark, math.log(1e5)))


def test_noise_refuses_bad_arguments() -> None:
    proj = torch.ones(1, 1, 4)
    with pytest.raises(TypeError, match="proj must be float16"):
        ops.poisson_noise(proj.long(), 1e5, seed=1)
    for photons in (0.0, -1.0, math.inf):
        with pytest.raises(ValueError, match="photons must be positive"):
            ops.poisson_noise(proj, photons, seed=1)
    with pytest.raises(ValueError, match="least_counts"):
        ops.poisson_noise(proj, 1e5, seed=1, least_counts=0.0)
    with pytest.raises(ValueError, match=r"mean must be \(B, C, \*S\)"):
        ops.poisson_counts(proj[0], seed=1)
    with pytest.raises(ValueError, match="finite and not negative"):
        ops.poisson_counts(-proj, seed=1)
    with pytest.raises(ValueError, match="seed"):
        ops.poisson_counts(proj, seed=2**63)
    with pytest.raises(NotImplementedError, match="counts are integers"):
        ops.poisson_noise(proj.requires_grad_(), 1e5, seed=1)


def test_cgls_reaches_the_least_squares_solution() -> None:
    geometry = SMALL
    x, _ = make(geometry, batch=())
    eye = torch.eye(x.numel(), dtype=torch.float64).view(-1, *geometry.vol_shape)
    matrix = ops.ct_forward(eye, geometry).flatten(1).T
    noisy = ops.ct_forward(x, geometry) + 0.1 * torch.rand(geometry.proj_shape, dtype=torch.float64)
    for damping in (0.0, 0.5):
        normal = matrix.T @ matrix + damping**2 * torch.eye(x.numel(), dtype=torch.float64)
        want = torch.linalg.solve(normal, matrix.T @ noisy.flatten()).view_as(x)
        found = ops.cgls(noisy, geometry, iterations=300, damping=damping, progress=False)
        torch.testing.assert_close(found, want, rtol=0, atol=1e-6)


def test_sirt_converges_and_obeys_its_bounds() -> None:
    x, _ = make(SMALL, batch=())
    proj = ops.ct_forward(x, SMALL)
    gaps = [
        (ops.ct_forward(ops.sirt(proj, SMALL, iterations=n, progress=False), SMALL) - proj).norm().item()
        for n in (0, 5, 50, 500)
    ]
    assert gaps[0] > 5 * gaps[1] > 10 * gaps[2]
    assert gaps[3] < gaps[2]
    bounded = ops.sirt(proj, SMALL, iterations=50, lower=0.2, upper=0.8, progress=False)
    assert bounded.min() >= 0.2
    assert bounded.max() <= 0.8


def test_first_step_of_sirt_is_the_weighted_adjoint() -> None:
    _, y = make(SMALL, batch=())
    one = torch.ones(SMALL.vol_shape, dtype=torch.float64)
    rows, cols = ops.ct_forward(one, SMALL), ops.ct_adjoint(torch.ones_like(y), SMALL)
    weighted = torch.where(rows > 0, y / rows.clamp_min(1e-30), 0.0)
    want = 0.7 * ops.ct_adjoint(weighted, SMALL) / cols
    torch.testing.assert_close(ops.sirt(y, SMALL, iterations=1, relaxation=0.7, progress=False), want)


@pytest.mark.parametrize("method", [ops.sirt, ops.cgls])
def test_items_of_a_batch_keep_to_themselves(method, capsys: pytest.CaptureFixture[str]) -> None:
    x, _ = make(SMALL, batch=(3, 1))
    proj = ops.ct_forward(x * torch.tensor([1.0, 100.0, 0.0])[:, None, None, None], SMALL)
    whole = method(proj, SMALL, iterations=4)
    assert "residual" in capsys.readouterr().err
    for i in range(3):
        torch.testing.assert_close(whole[i], method(proj[i], SMALL, iterations=4, progress=False), rtol=1e-10, atol=0)
    assert whole[2].abs().max() == 0
    assert capsys.readouterr().err == ""


def test_any_geometry_is_reconstructed(device: torch.device) -> None:
    geometry = scans()["any vectors"]
    x = torch.rand(geometry.vol_shape, generator=torch.Generator().manual_seed(0)).to(device)
    proj = ops.ct_forward(x, geometry)
    found = ops.cgls(proj, geometry, iterations=30, progress=False)
    assert (ops.ct_forward(found, geometry) - proj).norm() < 0.02 * proj.norm()
    again = ops.cgls(proj, geometry, iterations=0, start=x, progress=False)
    assert torch.equal(again, x)


@pytest.mark.parametrize("method", [ops.sirt, ops.cgls])
def test_iterations_refuse_bad_arguments(method) -> None:
    _, y = make(SMALL)
    with pytest.raises(ValueError, match="iterations"):
        method(y, SMALL, iterations=-1)
    with pytest.raises(ValueError, match="proj must be"):
        method(y[..., 1:], SMALL)
    with pytest.raises(ValueError, match="start must have the leading axes"):
        method(y, SMALL, start=torch.zeros(SMALL.vol_shape, dtype=torch.float64))
    with pytest.raises(ValueError, match="vol must be"):
        method(y, SMALL, start=torch.zeros(2, 3, 3, dtype=torch.float64))


def test_options_out_of_range_are_refused() -> None:
    _, y = make(SMALL)
    with pytest.raises(ValueError, match="relaxation"):
        ops.sirt(y, SMALL, relaxation=2.0)
    with pytest.raises(ValueError, match="lower must not be above"):
        ops.sirt(y, SMALL, lower=1.0, upper=0.0)
    with pytest.raises(ValueError, match="damping"):
        ops.cgls(y, SMALL, damping=-1.0)
