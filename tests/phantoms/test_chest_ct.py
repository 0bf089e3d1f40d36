"""The chest of one person as a stack of slices."""

from __future__ import annotations

import pytest
import torch

from medsynth_ext.phantoms.chest_ct import chest_ct

SMALL = {"size": 80, "spacing_mm": 4.0}


def test_a_seed_gives_one_person_and_another_seed_another() -> None:
    first, again, other = (chest_ct(seed, slices=2, **SMALL) for seed in (4, 4, 5))
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a.fine_hu, b.fine_hu)
        assert torch.equal(a.lesions, b.lesions)
    assert not torch.equal(first[0].fine_hu, other[0].fine_hu)


@pytest.mark.parametrize("seed", range(3))
def test_anatomy_is_plausible(seed: int) -> None:
    chest = chest_ct(seed, slices=3, gap_mm=20.0, lesions=4, **SMALL)
    assert any(plane.lesions.any() for plane in chest)
    for plane in chest:
        hu = plane.fine_hu
        assert hu.shape == (160, 160)
        edge = torch.cat([hu[[0, -1]].flatten(), hu[:, [0, -1]].flatten()])
        assert edge.max() == -1000  # the person fits into the picture
        assert 0.05 < plane.lungs.float().mean() < 0.35
        assert not (plane.lesions & ~plane.lungs).any()
        inside = torch.nn.functional.avg_pool2d(hu[None], 2)[0]
        assert -900 < inside[plane.lungs & ~plane.lesions].median() < -780
        assert (hu > 200).float().mean() > 0.003  # bone


def test_neighbouring_slices_show_the_same_person() -> None:
    near, far = (chest_ct(6, slices=2, gap_mm=gap, lesions=0, **SMALL) for gap in (2.0, 60.0))
    shares = [(a.lungs & b.lungs).sum() / (a.lungs | b.lungs).sum() for a, b in (near, far)]
    assert shares[0] > 0.93
    assert shares[1] < shares[0]


def test_infected_regions_reach_over_slices() -> None:
    chest = chest_ct(7, slices=6, gap_mm=5.0, lesions=1, **SMALL)
    ill = [bool(plane.lesions.any()) for plane in chest]
    assert sum(ill) >= 2
    first = ill.index(True)
    assert ill == [first <= k < first + sum(ill) for k in range(6)]


def test_number_of_lesions_is_obeyed() -> None:
    assert not any(plane.lesions.any() for plane in chest_ct(3, slices=2, lesions=0, **SMALL))


def test_no_slices_are_refused() -> None:
    with pytest.raises(ValueError, match="slices must be at least 1, got 0"):
        chest_ct(0, slices=0)
