"""Tubes, plates and unions of bone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medsynth_ext.phantoms.bone_plate import BonePlate
from medsynth_ext.phantoms.bone_tubes import BoneKnob, BoneTube, BoneUnion, lay_bone
from medsynth_ext.phantoms.painter import Grid, Painter
from medsynth_ext.phantoms.xray_film import rotation

CORTEX, MARROW = 3.0, 1.0
PLATE = BonePlate(
    origin=np.array([1.0, -2.0, 3.0]),
    frame=rotation(x_deg=30, z_deg=20).T,
    points=np.array([[22.0, 2.0], [10.0, 20.0], [-12.0, 17.0], [-20.0, -4.0], [3.0, -18.0]]),
    bulge=-5.0,
    half_mm=2.0,
    rims=np.array([1.0, 2.0, 2.0, 0.0, 0.0]),
    wall_mm=0.8,
)


def painter(voxel_mm: float = 0.5) -> Painter:
    return Painter(Grid.centred(round(40 / voxel_mm), voxel_mm), {"air": 0.0}, background="air")


def at(values: torch.Tensor, voxel_mm: float, *place: float) -> float:
    index = [round(p / voxel_mm + (n - 1) / 2) for p, n in zip(place, values.shape, strict=True)]
    return values[tuple(index)].item()


def columns(*places: np.ndarray) -> list[torch.Tensor]:
    return [torch.tensor(np.array(places)[:, k], dtype=torch.float32).view(-1, 1, 1) for k in range(3)]


def test_a_tube_has_a_wall_of_cortex_around_marrow_and_its_volume() -> None:
    picture = painter()
    lay_bone(picture, BoneTube.of([(0, 0, -10, 6), (0, 0, 10, 6)], 2.0), CORTEX, MARROW)
    assert at(picture.values, 0.5, 0, 0, 0) == pytest.approx(MARROW)
    assert at(picture.values, 0.5, 5, 0, 0) == pytest.approx(CORTEX, abs=0.1)
    assert at(picture.values, 0.5, 9, 0, 0) == 0

    def volume(radius: float) -> float:
        return np.pi * radius**2 * 20 + 4 / 3 * np.pi * radius**3

    mass = CORTEX * (volume(6) - volume(4)) + MARROW * volume(4)
    assert picture.values.sum().item() * 0.5**3 == pytest.approx(mass, rel=0.01)


def test_coarse_voxels_hold_as_much_bone_as_fine_ones() -> None:
    mass = []
    for voxel in (0.4, 2.0):
        picture = painter(voxel)
        lay_bone(picture, BoneTube.of([(-8, 2, -7, 6), (9, 0, 8, 4)], 1.0), CORTEX, MARROW)
        mass.append(picture.values.sum().item() * voxel**3)
    assert mass[1] == pytest.approx(mass[0], rel=0.05)


def test_a_union_has_no_walls_between_its_parts() -> None:
    tubes = [BoneTube.of([(-12, 0, 0, 6), (2, 0, 0, 6)], 1.5), BoneTube.of([(-2, 0, 0, 6), (12, 0, 0, 6)], 1.5)]
    apart, joined = painter(), painter()
    for tube in tubes:
        lay_bone(apart, tube, CORTEX, MARROW)
    BoneUnion(joined, tubes, smooth_mm=0.1).lay(CORTEX, MARROW)
    # Along the axis: the end cap of the second tube is a wall in the first one.
    middle = apart.values.shape[1] // 2
    assert apart.values[:, middle, middle][16:64].max() > 2 * MARROW
    assert joined.values[:, middle, middle][16:64].max() < 1.1 * MARROW


def test_creases_are_filled_over_the_given_width() -> None:
    knobs = [BoneKnob(np.array([x, 0.0, 0.0]), np.full(3, 8.0), 1.0) for x in (-7.0, 7.0)]
    mass = []
    for smooth in (0.1, 6.0):
        picture = painter()
        BoneUnion(picture, knobs, smooth_mm=smooth).lay(CORTEX, CORTEX)
        mass.append(at(picture.values, 0.5, 0, 5, 0))
    assert mass[0] < 0.1
    assert mass[1] > 0.9 * CORTEX


def test_parts_outside_the_picture_change_nothing() -> None:
    picture = painter()
    BoneUnion(picture, [BoneKnob(np.array([90.0, 0.0, 0.0]), np.full(3, 8.0), 1.0)]).lay(CORTEX, MARROW)
    lay_bone(picture, BoneTube.of([(0, 80, 0, 3), (0, 90, 0, 3)], 1.0), CORTEX, MARROW)
    assert not picture.values.any()


def test_the_points_of_a_plate_lie_in_the_middle_of_its_rim() -> None:
    edge = [PLATE.point(k) for k in range(5)]
    outer, inner = PLATE.depths(*columns(*edge))
    assert outer.min() > -0.05
    assert outer.max() < 0.7  # where the rim is round its surface is this close
    assert torch.allclose(outer - inner, torch.full_like(outer, 0.8))
    beyond = [PLATE.origin + 1.3 * (p - PLATE.origin) for p in edge]
    assert PLATE.depths(*columns(*beyond))[0].max() < -1


def test_a_plate_is_as_thick_as_asked_and_thicker_at_its_rim() -> None:
    middle = PLATE.origin + PLATE.bulge * PLATE.frame[2]
    steps = [middle + s * PLATE.frame[2] for s in (-2.4, -1.0, 0.0, 1.0, 2.4)]
    depths = PLATE.depths(*columns(*steps))[0].flatten()
    assert depths[2].item() == pytest.approx(2.0, abs=0.01)
    assert depths[[0, 4]].max() < 0 < depths[[1, 3]].min()


def test_moving_a_plate_moves_its_depth() -> None:
    turn, shift = rotation(x_deg=10, y_deg=-40, z_deg=5), np.array([3.0, 1.0, -2.0])
    moved = PLATE.moved(turn, shift, 1.5)
    places = [np.array([1.0, 2.0, 0.0]), np.array([9.0, -4.0, 3.0]), np.array([-8.0, 8.0, 12.0])]
    before = PLATE.depths(*columns(*places))[0]
    after = moved.depths(*columns(*(1.5 * turn @ p + shift for p in places)))[0]
    assert torch.allclose(after, 1.5 * before, atol=1e-3)
    assert np.allclose(moved.point(2), 1.5 * turn @ PLATE.point(2) + shift)
    low, high = moved.corners()
    assert all((low <= moved.point(k)).all() and (moved.point(k) <= high).all() for k in range(5))
