"""Latents of samples and the Gaussian that is fitted to them."""

from __future__ import annotations

import pytest
import torch

from medsynth_ext.engines import LatentGaussian, LatentTable


def test_first_latents_depend_on_seed_and_sample_alone() -> None:
    few, many = LatentTable(2, 5, seed=3), LatentTable(6, 5, seed=3)
    assert torch.equal(few([0, 1]), many([0, 1]))
    assert not torch.equal(many([0]), many([1]))
    values = LatentTable(500, 8, seed=1)(range(500)).detach()
    assert values.mean().abs() < 0.05
    assert values.std().item() == pytest.approx(1, abs=0.03)


def test_an_optimiser_leaves_latents_alone_that_a_batch_does_not_hold() -> None:
    """With momentum, rows of one tensor would drift on."""
    table = LatentTable(3, 4)
    optimizer = torch.optim.Adam(table.parameters(), lr=0.1)
    table([0, 1]).sum().backward()
    optimizer.step()
    kept = table([0, 2]).detach().clone()
    optimizer.zero_grad()
    table([1]).sum().backward()
    optimizer.step()
    assert torch.equal(table([0, 2]), kept)


def test_pooled_moments_are_those_of_all_latents() -> None:
    latents = torch.randn(11, 4, generator=torch.Generator().manual_seed(0)).double()
    parts = [LatentGaussian.fit(x) for x in latents.split([2, 5, 4])]
    pooled, whole = LatentGaussian.pooled(parts), LatentGaussian.fit(latents)
    assert torch.allclose(pooled.mean, whole.mean)
    assert torch.allclose(pooled.covariance, whole.covariance)
    assert pooled.count == 11


def test_shrinkage_keeps_the_trace_and_fills_the_rank() -> None:
    gaussian = LatentGaussian.fit(torch.randn(3, 6, generator=torch.Generator().manual_seed(0)), shrinkage=0.2)
    assert torch.linalg.matrix_rank(gaussian.covariance) == 2
    shrunk = gaussian.shrunk()
    assert shrunk.trace() == pytest.approx(gaussian.covariance.trace().item())
    assert torch.linalg.eigvalsh(shrunk).min() == pytest.approx(0.2 * gaussian.covariance.trace().item() / 6)


def test_samples_have_the_moments_and_an_address() -> None:
    covariance = torch.tensor([[2.0, 0.6], [0.6, 0.5]]).double()
    gaussian = LatentGaussian(torch.tensor([1.0, -2.0]).double(), covariance, 9, shrinkage=0.0)
    drawn = gaussian.sample(20_000, seed=0)
    assert torch.allclose(drawn.mean(0), torch.tensor([1.0, -2.0]), atol=0.05)
    assert torch.allclose(torch.cov(drawn.T), covariance.float(), atol=0.06)
    assert torch.equal(gaussian.sample(1, seed=0, first=7), drawn[7:8])
    again = gaussian.sample(1, seed=0, first=7, attempt=1)
    assert not torch.equal(again, drawn[7:8])
    assert torch.equal(LatentGaussian.from_state(gaussian.state_dict()).sample(2, seed=4), gaussian.sample(2, seed=4))


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="shrinkage must be between 0 and 1, got 2"):
        LatentGaussian(torch.zeros(2), torch.eye(2), 1, shrinkage=2)
    with pytest.raises(ValueError, match="at least one row"):
        LatentGaussian.fit(torch.zeros(0, 4))
    with pytest.raises(ValueError, match="at least one group"):
        LatentGaussian.pooled([])
