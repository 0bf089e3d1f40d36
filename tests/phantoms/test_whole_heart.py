from __future__ import annotations

import numpy as np
import pytest
import torch

from medsynth_ext.phantoms.heart_meshes import PARTS, heart_meshes, icosphere
from medsynth_ext.phantoms.heart_parameters import SITES, HeartParameters, draw_heart_parameters
from medsynth_ext.phantoms.heart_rendering import HEART_HOUNSFIELD, SENSORS, ct_table
from medsynth_ext.phantoms.painter import Grid
from medsynth_ext.phantoms.shapes import flow_displacement
from medsynth_ext.phantoms.whole_heart import whole_heart_phantom

NEUTRAL = HeartParameters(deformation_mm=0.0)


@pytest.fixture(scope="module")
def adult():
    return whole_heart_phantom(0, 0, size=48, parameters=NEUTRAL)


def mesh_volumes(vertices, faces, part):
    a, b, c = vertices.double()[faces].unbind(1)
    six = (a * torch.linalg.cross(b, c, dim=1)).sum(1)
    return [float(six[part == k].sum()) / 6000 for k in range(1, len(PARTS) + 1)]  # ml


@pytest.mark.parametrize("subdivisions", [0, 2, 3])
def test_icosphere_is_closed_and_points_outward(subdivisions):
    points, faces = icosphere(subdivisions)
    assert len(points) - len(faces) / 2 == 2
    assert torch.allclose(points.norm(dim=1), torch.ones(len(points), dtype=torch.float64))
    a, b, c = points[faces].unbind(1)
    assert bool(((torch.linalg.cross(b - a, c - a, dim=1) * a).sum(1) > 0).all())


@pytest.mark.parametrize("index", range(4))
def test_every_part_is_a_closed_outward_surface(index):
    phantom = whole_heart_phantom(3, index, site="ABCA"[index], subdivisions=2)
    assert len(phantom.vertices) - len(phantom.faces) / 2 == 2 * len(PARTS)
    assert phantom.face_part.unique().tolist() == list(range(1, 8))
    edges = phantom.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    forth, back = {tuple(e) for e in edges.tolist()}, {tuple(e) for e in edges.flip(1).tolist()}
    assert len(forth) == len(edges)  # no edge is run along twice in one direction
    assert forth == back  # and every one has its neighbour
    assert min(mesh_volumes(phantom.vertices, phantom.faces, phantom.face_part)) > 0


def test_person_is_a_function_of_seed_index_and_site():
    first = whole_heart_phantom(5, 2, subdivisions=2)
    again = whole_heart_phantom(5, 2, subdivisions=2)
    assert torch.equal(first.vertices, again.vertices)
    for other in ((5, 3, "A"), (6, 2, "A"), (5, 2, "B")):
        vertices = whole_heart_phantom(*other[:2], site=other[2], subdivisions=2).vertices
        assert float((vertices - first.vertices).abs().max()) > 1.0


def test_vertices_correspond_across_people():
    """The tip of the left ventricle, the top of the aorta and so on are the same vertices in every heart."""
    means = []
    for index in range(6):
        phantom = whole_heart_phantom(1, index, subdivisions=2)
        assert torch.equal(phantom.faces, whole_heart_phantom(0, 0, subdivisions=2).faces)
        means.append(phantom.vertices / phantom.parameters.person)
    stack = torch.stack(means)
    assert float(stack.std(0).norm(dim=1).max()) < 25.0  # people differ, by less than a part's size
    assert float(stack.mean(0).view(7, -1, 3).std(1).min()) > 5.0


def test_average_adult_has_volumes_of_an_adult(adult):
    voxel = adult.grid.spacing_mm**3 / 1000
    volumes = torch.bincount(adult.labels.flatten().int(), minlength=8)[1:] * voxel
    limits = [(50, 160), (80, 200), (80, 220), (40, 130), (40, 130), (30, 80), (15, 60)]
    for name, volume, (low, high) in zip(PARTS, volumes.tolist(), limits, strict=True):
        assert low < volume < high, f"{name}: {volume:.0f} ml"


def test_first_part_has_the_volume_of_its_mesh(adult):
    volume = float((adult.labels == 1).sum()) * adult.grid.spacing_mm**3 / 1000
    assert volume == pytest.approx(mesh_volumes(adult.vertices, adult.faces, adult.face_part)[0], rel=0.02)


def test_muscle_closes_the_left_ventricle_except_at_the_valves(adult):
    labels = adult.labels
    pool = labels == 1
    around = torch.nn.functional.max_pool3d(pool[None].float(), 3, 1, 1)[0].bool() & ~pool
    counts = torch.bincount(labels[around].int(), minlength=8).float()
    shares = counts / counts.sum()
    assert shares[2] > 0.65  # muscle
    assert shares[0] < 0.05  # nothing
    assert shares[4] > 0.03  # left atrium
    assert shares[6] > 0.01  # aorta


def test_heart_lies_as_in_a_person(adult):
    """Axes are right, anterior, superior."""
    x, y, z = torch.meshgrid(*adult.grid.axes(), indexing="ij")

    def middle(part):
        return [float(axis[adult.labels == part].mean()) for axis in (x, y, z)]

    assert middle(5)[0] > middle(1)[0] + 30  # right atrium to the right of the left ventricle
    assert middle(3)[1] > middle(4)[1] + 30  # right ventricle before the left atrium
    assert min(middle(6)[2], middle(7)[2]) > middle(1)[2] + 30  # great vessels above
    tip = adult.vertices[len(adult.vertices) // 7 :][: len(adult.vertices) // 7]
    assert float(tip[tip[:, 2].argmin(), 0]) < -20  # apex to the left


@pytest.mark.parametrize(("site", "part", "factor"), [("B", 3, 1.35), ("B", 1, 0.85), ("C", 4, 1.3)])
def test_sites_differ_as_their_diseases(site, part, factor):
    def size(where):
        sizes = []
        for index in range(24):
            phantom = whole_heart_phantom(7, index, site=where, subdivisions=2)
            scale = phantom.parameters.person * phantom.parameters.heart
            volume = mesh_volumes(phantom.vertices, phantom.faces, phantom.face_part)[part - 1]
            sizes.append(volume / scale**3)
        return np.mean(sizes) ** (1 / 3)

    assert size(site) / size("A") == pytest.approx(factor, rel=0.1)


def test_sliders_change_what_they_name():
    base = heart_meshes(NEUTRAL, subdivisions=2)
    volumes = {}
    for name in ("lv", "rv", "la", "ra", "aorta", "pulmonary", "wall", "heart", "sphericity"):
        changed = heart_meshes(HeartParameters(deformation_mm=0.0, **{name: 1.2}), subdivisions=2)
        ratio = np.array(mesh_volumes(changed[0], changed[1], changed[2] + 1))
        volumes[name] = ratio / np.array(mesh_volumes(base[0], base[1], base[2] + 1))
    for name, part in (("lv", 0), ("rv", 2), ("la", 3), ("ra", 4)):
        assert volumes[name][part] == pytest.approx(1.2**3, rel=0.12)
        assert volumes[name][5] == pytest.approx(1)
    assert volumes["aorta"][5] == pytest.approx(1.44, rel=0.05)
    assert volumes["pulmonary"][6] == pytest.approx(1.44, rel=0.05)
    assert volumes["wall"][1] > 1.05
    assert volumes["wall"][0] == pytest.approx(1)
    assert np.allclose(volumes["heart"], 1.728)
    assert volumes["sphericity"][0] == pytest.approx(1.44, rel=0.02)


def test_chest_is_bent_as_the_heart():
    """The chest is looked up with the inverse of the flow that moves the vertices."""
    points = 200 * torch.rand(500, 3, generator=torch.Generator().manual_seed(0)) - 100
    there = points + flow_displacement(np.random.default_rng([1, 2]), points, strength_mm=2.0)
    back = there + flow_displacement(np.random.default_rng([1, 2]), there, strength_mm=-2.0)
    assert float((there - points).norm(dim=1).max()) > 3
    assert float((back - points).norm(dim=1).max()) < 0.05


def test_voxels_hold_the_tissue_of_their_place(adult):
    hu = adult.paint(ct_table(SENSORS["A"]))
    inner = torch.nn.functional.max_pool3d((adult.labels != 6)[None].float(), 3, 1, 1)[0] == 0
    assert float(hu[inner].mean()) == pytest.approx(SENSORS["A"].left_hu, rel=0.02)
    assert float(hu.min()) == HEART_HOUNSFIELD["air"]
    x, y, z = torch.meshgrid(*adult.grid.axes(), indexing="ij")
    lung = hu[((x - 85) ** 2 + (y + 20) ** 2 + (z - 30) ** 2) < 20**2]
    assert float(lung.median()) == pytest.approx(HEART_HOUNSFIELD["lung"], abs=60)
    spine = hu[((x - 12) ** 2 + (y + 82) ** 2 < 8**2) & (z.abs() < 60)]
    assert 100 < float(spine.mean()) < 400
    liver = hu[((x - 60) ** 2 + (y + 10) ** 2 + (z + 75) ** 2) < 15**2]
    assert float(liver.mean()) == pytest.approx(HEART_HOUNSFIELD["liver"], abs=25)


def test_grids_of_one_person_agree(adult):
    """A coarse picture is the mean of a fine one: edges are drawn with the voxel's share."""
    table = ct_table(SENSORS["A"])
    coarse = whole_heart_phantom(0, 0, size=24, parameters=NEUTRAL).paint(table)
    fine = torch.nn.functional.avg_pool3d(adult.paint(table)[None], 2)[0]
    assert float((coarse - fine).abs().mean()) < 30
    assert float(torch.corrcoef(torch.stack([coarse.flatten(), fine.flatten()]))[0, 1]) > 0.99


def test_part_of_a_larger_grid_is_the_same(adult):
    grown = adult.grid.grown((3, 0, 2), (1, 4, 5))
    assert grown.shape == (52, 52, 55)
    inner = adult.labels_on(grown)[3:51, :48, 2:50]
    assert torch.equal(inner, adult.labels)


def test_affine_maps_voxels_to_millimetres(adult):
    corner = adult.affine[:3, :3] @ torch.full((3,), 47.0, dtype=torch.float64) + adult.affine[:3, 3]
    assert corner.tolist() == pytest.approx([100 - 100 / 48] * 3)
    assert [float(a[-1]) for a in Grid.centred(48, 200 / 48).axes()] == pytest.approx(corner.tolist(), rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed must be a whole number from 0"),
        ({"seed": 0, "index": 1.5}, "index must be a whole number from 0"),
        ({"seed": 0, "size": 2}, "size must be a whole number from 4"),
        ({"seed": 0, "fov_mm": 0.0}, "fov_mm must be in"),
        ({"seed": 0, "site": "D"}, "site must be one of A, B, C, got 'D'"),
        ({"seed": 0, "subdivisions": 9}, "subdivisions must be a whole number from 0 to 6"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        whole_heart_phantom(**arguments)


def test_wrong_sliders_are_named():
    with pytest.raises(ValueError, match=r"tilt_deg must be in \[-45, 45\], got 90"):
        HeartParameters(tilt_deg=90.0)
    with pytest.raises(ValueError, match="site must be one of"):
        draw_heart_parameters(np.random.default_rng(0), "D")


@pytest.mark.parametrize("site", SITES)
def test_drawn_sliders_are_within_their_limits(site):
    for index in range(200):
        draw_heart_parameters(np.random.default_rng([index]), site)
