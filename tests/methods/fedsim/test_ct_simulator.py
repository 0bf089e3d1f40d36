"""The differentiable scanner."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from medsynth_ext.methods.fedsim.ct_simulator import CTSimulator
from medsynth_ext.methods.fedsim.fixed_material import FixedMaterial


def smooth_map() -> Tensor:
    coarse = 0.3 * torch.randn(1, 1, 5, 5, 5, generator=torch.Generator().manual_seed(0))
    return F.interpolate(coarse, size=(16,) * 3, mode="trilinear")


def relative_error(simulator: CTSimulator) -> float:
    tau = smooth_map()
    return ((simulator(tau) - tau).square().mean() / (1 + tau).square().mean()).sqrt().item()


def test_a_smooth_map_comes_back_and_padding_is_what_makes_it() -> None:
    assert relative_error(CTSimulator(16)) < 0.03
    assert 0.08 < relative_error(CTSimulator(16, padding=0)) < 0.2
    assert relative_error(CTSimulator(16)) < relative_error(CTSimulator(16, views=32))


def test_gradient_is_the_exact_adjoint() -> None:
    simulator = CTSimulator(4, views=6, padding=1)
    tau = torch.rand(1, 1, 4, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(simulator, (tau,), rtol=1e-6, atol=1e-8)


def test_axes_are_not_mixed_up() -> None:
    tau = torch.full((1, 1, 12, 12, 12), -0.5)
    tau[0, 0, 8, 5, 3] = 1.0
    found = CTSimulator(12)(tau)[0, 0]
    assert [int(i) for i in torch.unravel_index(found.argmax(), found.shape)] == [8, 5, 3]


def test_noise_depends_on_the_seed_alone() -> None:
    simulator = CTSimulator(8, views=16, photons=1e5)
    tau = torch.zeros(1, 1, 8, 8, 8)
    one, again, other = simulator(tau, seed=1), simulator(tau, seed=1), simulator(tau, seed=2)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_wrong_sizes_are_named() -> None:
    with pytest.raises(ValueError, match=r"tau must be \(B, 1, 8, 8, 8\), got \(1, 1, 8, 8, 4\)"):
        CTSimulator(8, views=4)(torch.zeros(1, 1, 8, 8, 4))
    with pytest.raises(ValueError, match="inside a map"):
        CTSimulator(8, fov_mm=900.0)


def test_fixed_material_is_the_table_seen_by_the_scanner() -> None:
    material = FixedMaterial(CTSimulator(12, views=24, pitch=1.0))
    parts = torch.zeros(2, 1, 12, 12, 12, dtype=torch.uint8)
    parts[0, 0, 3:9, 3:9, 3:9] = 2
    parts[1, 0, 3:9, 3:9, 3:9] = 1  # no parts told apart
    tissue = material.tissue(parts)
    assert tissue[0, 0, 5, 5, 5] == pytest.approx(0.110)
    assert tissue[1, 0, 5, 5, 5] == pytest.approx(0.280)
    assert tissue[0, 0, 0, 0, 0] == pytest.approx(0.040)
    assert material(parts)[0, 0, 5, 5, 5] == pytest.approx(0.110, abs=0.03)


def test_mean_background_is_what_the_volumes_show_outside_their_hearts() -> None:
    material = FixedMaterial(CTSimulator(8, views=8, pitch=1.0), background="mean")
    parts = torch.zeros(2, 1, 8, 8, 8, dtype=torch.uint8)
    parts[:, 0, 3] = 2
    parts[1, 0, 4] = 2
    images = torch.stack([torch.full((1, 8, 8, 8), 0.2), torch.full((1, 8, 8, 8), -0.6)])
    images[parts > 0] = 0.9
    with pytest.raises(ValueError, match="the mean background is not known"):
        material.tissue(parts)
    material.learn_background(images, parts)
    tissue = material.tissue(torch.full((1, 1, 8, 8, 8), 2, dtype=torch.uint8).index_fill(2, torch.arange(7), 0))
    assert tissue[0, 0, 7].unique().tolist() == pytest.approx([0.110])  # the part
    assert tissue[0, 0, 0].unique().tolist() == pytest.approx([-0.2])  # both volumes
    assert tissue[0, 0, 4].unique().tolist() == pytest.approx([0.2])  # the only one that shows no heart there
    assert tissue[0, 0, 3].unique().tolist() == pytest.approx([0.040])  # nobody: the table
    with pytest.raises(ValueError, match="background must be 'uniform' or 'mean', got 'none'"):
        FixedMaterial(CTSimulator(8, views=8), background="none")
