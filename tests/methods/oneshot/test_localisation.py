"""Localisation: cyclic layout, convergence, capture, failures."""

from __future__ import annotations

import pytest
import torch

from medsynth_ext.methods.oneshot.localisation import Localiser
from medsynth_ext.methods.oneshot.slices import mask_centre
from medsynth_ext.methods.oneshot.views import ThreeViewInferer, fuse, slice_stacks, stack_logits, to_volume

OPTIONS = {"size": 24, "spacing_mm": 1.0, "reference_volume_mm3": 160.0}


def test_stacks_are_cyclic_and_come_back_as_channels():
    v = torch.rand(2, 3, 4, 5)
    z, y, x = slice_stacks(v)
    assert torch.equal(z[1, 4], v[1, :, :, 4])
    assert torch.equal(y[1, 2], v[1, :, 2].T)
    assert torch.equal(x[1, 0], v[1, 0])
    assert all(torch.equal(channel, v) for channel in to_volume(z, y, x).unbind(1))


def test_every_slice_goes_through_the_network_once_whatever_the_batch():
    v = torch.rand(1, 6, 4, 8)
    logits = [stack_logits(lambda s: 2 * s - 1, v, slices_at_once=n) for n in (1, 100)]
    for a, b, stack in zip(*logits, slice_stacks(v), strict=True):
        assert torch.equal(a, b)
        torch.testing.assert_close(a, 2 * stack - 1)
    views = ThreeViewInferer(slices_at_once=3)(v[:, None], lambda s: 2 * s - 1)
    torch.testing.assert_close(views, (2 * v - 1)[:, None].expand(1, 3, 6, 4, 8))


def test_fusions_are_product_mean_and_single_views():
    z, y, x = (torch.randn(1, *shape) for shape in ((4, 2, 3), (3, 4, 2), (2, 3, 4)))
    views = to_volume(z, y, x).sigmoid()
    torch.testing.assert_close(fuse(z, y, x), views.prod(1))
    torch.testing.assert_close(fuse(z, y, x, "mean"), views.mean(1))
    for channel, name in enumerate("zyx"):
        assert torch.equal(fuse(z, y, x, name), views[:, channel])


@pytest.mark.parametrize("coarse", [2.0, None])
def test_the_structure_is_found_away_from_the_middle(structure, seeing, coarse):
    image, mask, _ = structure(size=48, centre=torch.tensor([30.0, 14.0, 27.0], dtype=torch.float64))
    found = Localiser(seeing, **OPTIONS, coarse_factor=coarse)(image[None])
    assert found.converged
    assert (found.centre - mask_centre(mask[0])).norm() < 0.5
    assert 0.3 < found.mass_ratio / (float(mask.sum()) / 160) < 1.1  # the voxels at its edge are not bright enough
    assert found.restarts == 0 or coarse is None
    steps = found.path.diff(dim=0).norm(dim=1)
    assert steps[-1] < 1.0


def test_a_structure_out_of_reach_of_the_middle_is_found_from_the_grid(structure, seeing):
    image, mask, _ = structure(size=72, centre=torch.tensor([61.0, 60.0, 12.0], dtype=torch.float64))
    found = Localiser(seeing, **OPTIONS, coarse_factor=None)(image[None])
    assert found.restarts == 125
    assert found.converged
    assert (found.centre - mask_centre(mask[0])).norm() < 0.5


def test_nothing_to_find_is_a_result_and_no_error():
    found = Localiser(lambda s: torch.full_like(s, -200.0), **OPTIONS)(torch.zeros(1, 1, 30, 30, 30))
    assert not found.converged
    assert found.mass_ratio == 0
    assert found.centre.isnan().all()


def test_a_search_that_never_stands_stops_at_its_cap(structure):
    def drifting(slices):  # everything at the upper ends of the slices
        ramp = torch.linspace(-40, 10, slices.shape[-1]) + torch.linspace(-40, 10, slices.shape[-2])[:, None]
        return ramp.expand_as(slices)

    localiser = Localiser(drifting, **OPTIONS, coarse_factor=None, max_iterations=4)
    found = localiser.search(structure()[0][None], torch.zeros(3, dtype=torch.float64))
    assert (found.iterations, found.converged) == (4, False)


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match="fusion must be one of"):
        Localiser(torch.nn.Identity(), **OPTIONS, fusion="sum")
    with pytest.raises(ValueError, match="eps_mm"):
        Localiser(torch.nn.Identity(), **OPTIONS, eps_mm=0.0)
