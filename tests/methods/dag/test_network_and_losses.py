"""The graph network, its losses and the augmentation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from medsynth_ext.engines.sample_states import sample_states
from medsynth_ext.methods.dag.augmentation import RadiographAugmentation, transform_points, warp_image, z_score
from medsynth_ext.methods.dag.coordinates import to_index, to_normalised
from medsynth_ext.methods.dag.graph import GlobalGCN, LocalGCN, shape_features
from medsynth_ext.methods.dag.losses import DAGLoss, shape_distance
from medsynth_ext.methods.dag.network import DAGNet, DAGOutput
from medsynth_ext.methods.dag.task import DAGTask

SMALL = {"width": 2, "stem_channels": 4, "modules": (1, 1, 1), "blocks": (1, 1, 1, 1), "features": 8}


def make(n=5, **options) -> DAGNet:
    torch.manual_seed(0)
    network = DAGNet(n, **{**SMALL, **options})
    network.set_mean_shape(torch.rand(n, 2) - 0.5)
    return network


def stir(network: DAGNet) -> DAGNet:
    """Last layers that start with zeros get weights, so that every part matters."""
    for gcn in [network.global_gcn, *network.local_gcns]:
        torch.nn.init.normal_(gcn.last.weight, std=0.05)
    return network.eval()


def test_shape_features_are_the_displacements_to_all_others_in_order() -> None:
    points = torch.randn(2, 6, 2)
    found = shape_features(points)
    for i in range(6):
        expected = torch.cat([points[:, j] - points[:, i] for j in range(6) if j != i], 1)
        assert torch.equal(found[:, i], expected)


def test_graph_convolution_is_the_formula() -> None:
    gcn = LocalGCN(3, features=4, blocks=0)
    nodes, edges = torch.randn(2, 5, 3), torch.randn(5, 5)
    conv = gcn.trunk.first
    expected = torch.stack(
        [
            nodes[:, i] @ conv.own.weight.T
            + conv.own.bias
            + sum(edges[i, j] * nodes[:, j] @ conv.others.weight.T for j in range(5))
            for i in range(5)
        ],
        1,
    )
    assert torch.allclose(conv(nodes, edges), expected, atol=1e-5)


def test_global_network_reads_the_means_of_all_depths() -> None:
    gcn = GlobalGCN(3, features=4, blocks=4, initial=torch.arange(6.0))
    assert gcn.hidden.in_features == 5 * 4
    nodes, edges = torch.randn(2, 5, 3), torch.eye(5)
    assert torch.equal(gcn(nodes, edges), torch.arange(6.0).expand(2, 6))
    torch.nn.init.normal_(gcn.last.weight)
    order = torch.randperm(5)
    assert torch.allclose(gcn(nodes, edges), gcn(nodes[:, order], edges), atol=1e-5)  # with E = 1 nodes have no order


def test_global_network_stays_alive_at_a_high_learning_rate() -> None:
    """Without the normalisation before its rectifier the same training ends with one answer for all images."""
    torch.manual_seed(0)
    identity = torch.eye(3)[:2].flatten()
    gcn = GlobalGCN(12, features=16, blocks=4, initial=identity)
    nodes, edges = torch.rand(64, 5, 12), torch.full((5, 5), 0.2)
    wanted = identity + nodes.mean(1)[:, :6] - 0.5
    optimizer = torch.optim.Adam(gcn.parameters(), 0.01)
    losses = []
    for _ in range(150):
        optimizer.zero_grad()
        loss = (gcn(nodes, edges) - wanted).abs().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert gcn(nodes, edges).std(0).mean() > 0.03


@pytest.mark.parametrize("transform", ["affine", "perspective"])
def test_an_untrained_network_gives_the_mean_shape(transform) -> None:
    network = make(transform=transform)
    output = network.stages(torch.randn(2, 1, 64, 32))
    mean = network.mean_shape.expand(2, -1, -1)
    assert torch.allclose(output.moved, mean, atol=1e-6)
    assert torch.allclose(output.points, mean, atol=1e-6)
    assert output.features.shape == (2, 8, 16, 8)
    points = network(torch.randn(1, 1, 64, 32))
    assert torch.allclose(points[0], to_index(network.mean_shape, (64, 32)), atol=1e-4)


def test_transforms_are_affine_and_perspective_with_a_bound_on_the_depth() -> None:
    points = torch.tensor([[[0.5, -0.25]]])
    affine = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]])
    assert make()._transformed(affine, points).flatten().tolist() == [0.5 - 0.5 + 3, 2 - 1.25 + 6]
    network = make(transform="perspective")
    full = torch.tensor([[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.5]])
    assert network._transformed(full, points).flatten().tolist() == [0.5 / 2, -0.25 / 2]
    full[0, 6:] = torch.tensor([0.0, 0.0, -0.01])  # behind and too near
    assert network._transformed(full, points).flatten().tolist() == pytest.approx([-5.0, 2.5])


def test_all_weights_get_a_gradient_and_so_does_the_path_through_the_points() -> None:
    network = stir(make()).train()
    output = network.stages(torch.randn(2, 1, 32, 32))
    (output.points.square().sum() + output.features.mean()).backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_local_steps_have_networks_of_their_own_or_share_one() -> None:
    apart, shared = make(local_steps=3), make(local_steps=3, share_local=True)
    assert (len(apart.local_gcns), apart.repeats) == (3, 1)
    assert (len(shared.local_gcns), shared.repeats) == (1, 3)
    image = torch.randn(1, 1, 32, 32)
    assert not torch.allclose(stir(shared).stages(image).points, shared.stages(image).moved)


@pytest.mark.parametrize("options", [{}, {"transform": "perspective", "share_local": True}])
def test_exported_network_gives_the_same_points_without_the_extension(options) -> None:
    network = stir(make(**options))
    with torch.no_grad():
        network.mean_shape[0] = torch.tensor([1.4, -1.2])  # outside: the border counts
        image = torch.randn(2, 1, 64, 64)
        script = torch.jit.script(network)
        assert torch.allclose(script(image), network(image), atol=1e-3)
    assert "medsynth_ext::" not in str(script.inlined_graph)  # the operators of the extension


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="n_points must be at least 2, got 1"):
        DAGNet(1, **SMALL)
    with pytest.raises(ValueError, match="transform must be one of affine, perspective, got 'rigid'"):
        DAGNet(5, transform="rigid", **SMALL)
    with pytest.raises(ValueError, match=r"the mean shape must be \(5, 2\) finite numbers, got \(4, 2\)"):
        make().set_mean_shape(torch.zeros(4, 2))
    with pytest.raises(ValueError, match="multiples of 32"):
        make()(torch.zeros(1, 1, 40, 32))


def test_distance_is_in_widths_of_the_image_over_visible_points() -> None:
    points = to_normalised(torch.tensor([[[10.0, 20.0], [5.0, 5.0]]]), (100, 100))
    target = to_normalised(torch.tensor([[[13.0, 16.0], [torch.nan, torch.nan]]]), (100, 100))
    assert shape_distance(points, target).item() == pytest.approx(0.07, abs=1e-6)
    points.requires_grad_(True)
    shape_distance(points, torch.full_like(target, torch.nan)).backward()
    assert points.grad.abs().sum() == 0


def test_hinge_is_on_the_mean_and_switches_the_global_term_off() -> None:
    target = torch.zeros(1, 2, 2)
    near, far = torch.tensor([[0.01, 0.0]]), torch.tensor([[0.05, 0.0]])  # 0.005 and 0.025 widths
    output = DAGOutput(torch.stack([near, far], 1), target, torch.zeros(1, 3, 2, 2))
    terms = DAGLoss(margin=0.01).supervised(output, target)
    assert terms["global"].item() == pytest.approx(0.005, abs=1e-6)  # a hinge per point would give 0.0075
    assert terms["local"].item() == 0
    assert DAGLoss(margin=0.02).supervised(output, target)["global"].item() == 0


def test_consistency_has_the_teachers_final_points_for_both_and_the_features() -> None:
    torch.manual_seed(0)
    make_output = lambda: DAGOutput(*(torch.randn(2, 4, 2) for _ in range(2)), torch.randn(2, 3, 5, 5))  # noqa: E731
    student, teacher = make_output(), make_output()
    terms = DAGLoss(margin=0.0, local_weight=2.0).consistency(student, teacher)
    assert terms["unlabelled_global"].item() == pytest.approx(shape_distance(student.moved, teacher.points).item())
    assert terms["unlabelled_local"].item() == pytest.approx(2 * shape_distance(student.points, teacher.points).item())
    assert 0 < terms["unlabelled_features"].item() < 0.1 * math.log(2)
    assert "unlabelled_features" not in DAGLoss(feature_weight=0.0).consistency(student, teacher)


def test_image_and_points_move_together() -> None:
    size = 65
    points = torch.tensor([[[20.0, 40.0], [45.0, 22.0], [32.0, 32.0]]])
    image = torch.zeros(1, 1, size, size)
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    for p in points[0]:
        image += torch.exp(-((y - p[0]) ** 2 + (x - p[1]) ** 2) / (2 * 2.0**2))
    augmentation = RadiographAugmentation(angle_deg=20.0, shift=0.1)
    draw = augmentation.draw(sample_states(0, 3, 1), torch.device("cpu"))
    moved = to_index(augmentation.move(to_normalised(points, (size, size)), draw.matrix), (size, size))
    seen = warp_image(image, draw.matrix)[0, 0]
    assert (moved - points).norm(dim=-1).min() > 0.5
    for py, px in moved[0].tolist():
        weight = seen * (((y - py) ** 2 + (x - px) ** 2) < 7**2)
        assert (weight * y).sum() / weight.sum() == pytest.approx(py, abs=0.05)
        assert (weight * x).sum() / weight.sum() == pytest.approx(px, abs=0.05)


def test_mirroring_needs_pairs_and_swaps_their_names() -> None:
    states = sample_states(0, 0, 40)
    plain = RadiographAugmentation().draw(states, torch.device("cpu")).matrix
    assert (torch.linalg.det(plain[:, :, :2]) > 0).all()
    augmentation = RadiographAugmentation(angle_deg=0.0, scale=(1.0, 1.0), shift=0.0, pairs=[(0, 1)])
    matrix = augmentation.draw(sample_states(0, 0, 40), torch.device("cpu")).matrix
    mirrored = torch.linalg.det(matrix[:, :, :2]) < 0
    assert 5 < mirrored.sum() < 35
    points = torch.tensor([[0.1, 0.5], [0.2, -0.4], [0.3, 0.0]]).expand(40, 3, 2)
    moved = augmentation.move(points, matrix)
    assert torch.allclose(moved[mirrored][0], torch.tensor([[0.2, 0.4], [0.1, -0.5], [0.3, 0.0]]), atol=1e-6)
    assert torch.allclose(moved[~mirrored][0], points[0], atol=1e-6)


def test_points_that_leave_the_image_or_were_not_visible_are_not_asked_for() -> None:
    augmentation = RadiographAugmentation()
    matrix = torch.tensor([[[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]]])
    moved = augmentation.move(torch.tensor([[[0.6, 0.0], [0.4, 0.0], [torch.nan, torch.nan]]]), matrix)
    assert moved.isnan().any(-1).tolist() == [[True, False, True]]


def test_augmentation_is_a_function_of_seed_and_number_and_normalises() -> None:
    image, points = torch.rand(4, 1, 32, 32), torch.rand(4, 3, 2) - 0.5
    augmentation = RadiographAugmentation()
    a, p = augmentation(image, points, sample_states(1, 8, 4))
    b, q = augmentation(image[2:], points[2:], sample_states(1, 10, 2))
    assert torch.allclose(a[2:], b)
    assert torch.allclose(p[2:], q, equal_nan=True)
    assert a.mean((1, 2, 3)).abs().max() < 1e-5
    assert torch.allclose(a.std((1, 2, 3), correction=0), torch.ones(4), atol=1e-4)
    assert torch.equal(z_score(torch.full((1, 1, 4, 4), 3.0)), torch.zeros(1, 1, 4, 4))


def test_student_alone_gets_noise_and_the_two_images_share_the_geometry() -> None:
    task = DAGTask(RadiographAugmentation(), DAGLoss(), noise=0.1)
    batch = {"image": torch.rand(2, 1, 64, 64)}
    image, target = task.prepare(batch, 0, 4, torch.device("cpu"))
    assert target is None
    disturbed, change = task.disturb(image, 0, 4)
    assert change is None
    assert (disturbed - image).std().item() == pytest.approx(0.1, rel=0.05)
    assert torch.equal(task.disturb(image, 0, 4)[0], disturbed)
    assert not torch.allclose(task.disturb(image, 0, 5)[0], disturbed)


def test_a_turned_student_is_compared_with_the_teachers_points_and_features_turned_alike() -> None:
    turn = RadiographAugmentation(angle_deg=30.0, scale=(0.8, 0.9), shift=0.02)
    task = DAGTask(RadiographAugmentation(), DAGLoss(margin=0.0), noise=0.0, student_turn=turn)
    image = torch.rand(2, 1, 64, 64)
    disturbed, change = task.disturb(image, 0, 0)
    darkest = image.amin((1, 2, 3), keepdim=True)
    assert torch.allclose(disturbed, warp_image(image - darkest, change) + darkest)
    points, features = torch.rand(2, 4, 2) - 0.5, torch.randn(2, 3, 16, 16)
    teacher = DAGOutput(points, points, features)
    moved = transform_points(points, change)
    same = task.consistency(DAGOutput(moved, moved, warp_image(features, change)), teacher, change)
    assert sum(term.item() for term in same.values()) == pytest.approx(0.0, abs=1e-6)
    assert task.consistency(teacher, teacher, change)["unlabelled_local"] > 0.01
    with pytest.raises(ValueError, match="student_turn must not mirror"):
        DAGTask(turn, DAGLoss(), student_turn=RadiographAugmentation(pairs=[(0, 1)]))


def test_normalised_coordinates_go_back_and_compose_with_transforms() -> None:
    points = torch.rand(2, 5, 2) * 30
    assert torch.allclose(to_index(to_normalised(points, (30, 40)), (30, 40)), points, atol=1e-4)
    matrix = torch.tensor([[[0.0, -1.0, 0.1], [1.0, 0.0, 0.2]]]).expand(2, 2, 3)
    assert torch.allclose(transform_points(points, matrix)[..., 0], -points[..., 1] + 0.1)
    assert np.isclose(to_normalised(torch.tensor([0.0, 0.0]), (2, 4))[1].item(), -0.75)
