"""The chest of one person as a stack of slices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from medsynth_ext.phantoms.chest_ct import PLAIN_HOUNSFIELD, _chest_person, chest_ct
from medsynth_ext.phantoms.painter import Grid, Painter
from medsynth_ext.phantoms.whole_heart import WholeHeartPhantom

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


@pytest.fixture(scope="module")
def person() -> WholeHeartPhantom:
    return _chest_person(2, np.random.default_rng([2, 273]))


@pytest.mark.parametrize("seed", range(2))
def test_a_coat_of_fat_runs_around_the_body(seed: int) -> None:
    (plane,) = chest_ct(seed, slices=1, lesions=0, size=120, spacing_mm=2.7)
    hu = plane.fine_hu.numpy()
    regions, _ = ndimage.label((hu > -160) & (hu < -50), np.ones((3, 3)))
    coat = regions == 1 + int(np.argmax(np.bincount(regions[regions > 0])[1:]))
    enclosed = ndimage.binary_fill_holes(coat)
    lungs = np.kron(plane.lungs.numpy(), np.ones((2, 2), bool))
    assert enclosed[lungs].all()
    assert enclosed[hu > 350].all()  # bone


def test_no_stroke_of_a_vessel_is_alone(person: WholeHeartPhantom) -> None:
    grid = Grid((-150.0, -115.0, -75.0), (120, 92, 100), 2.5)
    painter = Painter(grid, PLAIN_HOUNSFIELD, background="air", size=person.parameters.person)
    vessels = person.thorax.vessels
    for tree in (*vessels.arteries, *vessels.veins):
        share = painter.tubes_share(tree.pieces())
        assert ndimage.label(share.numpy() > 0.01, np.ones((3, 3, 3)))[1] == 1


def test_vessels_are_thin_below_the_pleura(person: WholeHeartPhantom) -> None:
    size, radii, gaps = person.parameters.person, [], []
    grid = Grid((-150.0, -115.0, -75.0), (75, 58, 62), 4.0)
    _, lungs = person.paint_chest(PLAIN_HOUNSFIELD, grid)
    inside = ndimage.distance_transform_edt(lungs.numpy() > 0.5) * 4.0
    for tree in person.thorax.vessels.arteries:
        index = np.rint((tree.places * size - grid.first_mm) / 4.0).astype(int)
        gaps.append(inside[tuple(index.clip(0, np.array(grid.shape) - 1).T)])
        radii.append(tree.radii * size)
    gap, radius = np.concatenate(gaps), np.concatenate(radii)
    assert (gap > 0).mean() > 0.97  # they stay in the lungs
    assert np.quantile(radius[gap < 8], 0.95) < 1.0
    assert radius[gap > 15].max() > 4.0


def test_airways_run_beside_arteries_and_are_hollow(person: WholeHeartPhantom) -> None:
    vessels = person.thorax.vessels
    assert len(vessels.airways) == 2
    for pieces, tree in zip(vessels.airways, vessels.arteries, strict=True):
        ends = tree.places[tree.radii > 1.0]
        gaps = np.linalg.norm(pieces[:, None, 4:7] - ends[None], axis=2).min(1)
        assert 0.5 < np.median(gaps) < 12
    height = float(np.median(np.concatenate(vessels.airways)[:, 2])) * person.parameters.person
    hu, lungs = person.paint_chest(PLAIN_HOUNSFIELD, Grid((-130.0, -110.0, height), (260, 200, 1), 1.0))
    assert ((hu < -960) & (lungs > 0.9)).sum() > 5  # more air than lung has: lumen
