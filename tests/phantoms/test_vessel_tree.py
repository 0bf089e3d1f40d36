"""Trees of vessels and how they are drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from medsynth_ext.phantoms.painter import Grid, Painter
from medsynth_ext.phantoms.vessel_tree import VesselTree, grow_tree

SIDE = 40.0


def tree_in_a_cube(seed: int, count: int = 200) -> tuple[VesselTree, np.ndarray]:
    rng = np.random.default_rng(seed)
    ends = rng.uniform(0, SIDE, (count, 3))
    lobes = (ends[:, 2] > SIDE / 2).astype(int)
    return grow_tree(rng, ends, root=(0, SIDE / 2, SIDE / 2), heading=(2, 0, 0), root_mm=4.0, groups=lobes), ends


@pytest.mark.parametrize("seed", range(3))
def test_every_branch_hangs_on_an_older_one(seed: int) -> None:
    tree, _ = tree_in_a_cube(seed)
    assert tree.parents[0] == -1
    assert (tree.parents[1:] >= 0).all()
    assert (tree.parents[1:] < np.arange(1, len(tree.parents))).all()


@pytest.mark.parametrize("seed", range(3))
def test_cubes_of_the_radii_add_up_at_every_fork(seed: int) -> None:
    tree, _ = tree_in_a_cube(seed)
    sums = np.zeros(len(tree.parents))
    np.add.at(sums, tree.parents[1:], tree.radii[1:] ** 3)
    forks = np.bincount(tree.parents[1:], minlength=len(sums)) > 0
    np.testing.assert_allclose(sums[forks], tree.radii[forks] ** 3, rtol=1e-12)
    assert tree.radii[0] == pytest.approx(4.0)


def test_radii_fall_with_the_generation() -> None:
    tree, _ = tree_in_a_cube(0)
    two = np.bincount(tree.parents[1:], minlength=len(tree.parents))[tree.parents[1:]] == 2
    assert (tree.radii[1:][two] < tree.radii[tree.parents[1:]][two]).all()
    pieces = tree.pieces()
    assert (pieces[:, 7] <= pieces[:, 3] + 1e-12).all()  # no cone widens on its way


def test_every_end_is_reached() -> None:
    tree, ends = tree_in_a_cube(1)
    tips = np.setdiff1d(np.arange(len(tree.parents)), tree.parents)
    assert len(tips) == len(ends)
    order = [np.lexsort(np.round(places, 6).T) for places in (tree.places[tips], ends)]
    np.testing.assert_allclose(tree.places[tips][order[0]], ends[order[1]], atol=1e-6)


def test_lobes_part_at_the_first_fork() -> None:
    tree, ends = tree_in_a_cube(2)
    first = np.flatnonzero(tree.parents == 0)
    assert sorted(tree.leaves[first]) == sorted(np.bincount((ends[:, 2] > SIDE / 2).astype(int)))


def test_ends_in_one_place_do_not_hang() -> None:
    tree = grow_tree(np.random.default_rng(0), np.ones((5, 3)), root=(0, 0, 0), heading=(1, 0, 0), root_mm=1.0)
    assert tree.leaves[0] == 5
    assert (tree.leaves == 1).sum() == 5


def test_no_ends_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one place"):
        grow_tree(np.random.default_rng(0), np.zeros((0, 3)), root=(0, 0, 0), heading=(1, 0, 0), root_mm=1.0)


def drawn(pieces: np.ndarray, spacing_mm: float, *, bend_mm: float = 0.0) -> torch.Tensor:
    size = int(60 / spacing_mm)
    grid = Grid((-10.0, -10.0, -10.0), (size, size, size), spacing_mm)
    painter = Painter(grid, {"air": 0.0}, background="air", flow=(np.random.default_rng(3), bend_mm))
    return painter.tubes_share(pieces)


@pytest.mark.parametrize("bend_mm", [0.0, 2.0])
def test_a_drawn_tree_is_one_piece(bend_mm: float) -> None:
    tree, _ = tree_in_a_cube(0, count=60)
    share = drawn(tree.pieces(), 1.0, bend_mm=bend_mm)
    assert ndimage.label(share.numpy() > 0.02, np.ones((3, 3, 3)))[1] == 1


def test_share_is_about_the_volume_of_the_cone() -> None:
    for radius in (0.4, 1.0, 3.0):  # thinner than a voxel, and thicker
        share = drawn(np.array([[0.0, 20.0, 20.0, radius, 30.0, 20.0, 20.0, radius]]), 1.0)
        volume = np.pi * radius**2 * 30 + 4 / 3 * np.pi * radius**3
        assert float(share.sum()) == pytest.approx(volume, rel=0.3)


def test_many_tubes_are_drawn_as_one_by_one() -> None:
    tree, _ = tree_in_a_cube(4, count=8)
    pieces = tree.pieces()
    together = drawn(pieces, 1.5, bend_mm=1.0)
    single = torch.stack([drawn(piece[None], 1.5, bend_mm=1.0) for piece in pieces]).amax(0)
    torch.testing.assert_close(together, single)
