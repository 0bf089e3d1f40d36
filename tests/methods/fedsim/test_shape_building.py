"""Alignment, components, surfaces and the whole way from label maps to a shape model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from medsynth_ext.methods.fedsim.objectives import iou_loss
from medsynth_ext.methods.fedsim.registration import moment_matrix
from medsynth_ext.methods.fedsim.shape_building import (
    build_shape_model,
    principal_shapes,
    procrustes,
    template_surfaces,
)
from medsynth_ext.methods.fedsim.shape_gradient import heart_mask
from medsynth_ext.methods.fedsim.shape_model import ShapeModelError
from medsynth_ext.phantoms.whole_heart import WholeHeartPhantom, whole_heart_phantom


def test_procrustes_undoes_similarities() -> None:
    generator = torch.Generator().manual_seed(0)
    shape = torch.randn(40, 3, generator=generator)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator)).Q
    turn = turn * torch.linalg.det(turn).sign()
    aligned = procrustes(torch.stack([shape, 1.7 * shape @ turn + 5, 0.6 * shape - 2]))
    assert torch.allclose(aligned[0], aligned[1], atol=1e-4)
    assert torch.allclose(aligned[0], aligned[2], atol=1e-4)
    assert aligned.mean(1).abs().max() < 1e-4


def test_components_are_those_of_the_covariance() -> None:
    shapes = torch.randn(6, 5, 3, generator=torch.Generator().manual_seed(0))
    mean, modes, values = principal_shapes(shapes, 4)
    deviations = (shapes - mean).flatten(1).double()
    covariance = deviations.T @ deviations / 5
    assert torch.allclose(covariance @ modes.double(), modes.double() * values.double(), atol=1e-5)
    assert torch.allclose(modes.T @ modes, torch.eye(5), atol=1e-5)
    assert values.sum() == pytest.approx(covariance.trace().item(), rel=1e-5)
    with pytest.raises(ShapeModelError, match="6 shapes have at most 5 modes, 6 were asked for"):
        principal_shapes(shapes, 6)


def test_every_surface_is_closed_has_no_handle_and_its_parts_volume(phantoms: list[WholeHeartPhantom]) -> None:
    label = whole_heart_phantom(50, 0, size=48).labels
    points, faces, part = template_surfaces(label, parts=7, vertices=2500)
    assert len(points) == pytest.approx(2500, rel=0.1)
    assert len(points) - len(faces) // 2 == 2 * 7
    for p in range(7):
        first, second, third = points[faces[part == p]].double().unbind(1)
        volume = (first * torch.linalg.cross(second, third)).sum() / 6
        of_part = (label == p + 1) | ((label == 1) if p == 1 else False)
        assert volume > 0
        assert volume.item() == pytest.approx(of_part.sum().item(), rel=0.12)


def test_moments_bring_centroid_and_volume_together() -> None:
    a, b = torch.zeros(20, 20, 20, dtype=torch.bool), torch.zeros(20, 20, 20, dtype=torch.bool)
    a[4:8, 4:8, 4:8], b[10:18, 8:16, 6:14] = True, True
    matrix = moment_matrix(a, b)
    assert torch.allclose(matrix[:, :3], 2 * torch.eye(3), atol=1e-4)
    assert torch.allclose(matrix @ torch.tensor([5.5, 5.5, 5.5, 1.0]), torch.tensor([13.5, 11.5, 9.5]), atol=1e-4)


def test_a_model_of_label_maps_shows_its_own_hearts(tmp_path: Path) -> None:
    labels = [whole_heart_phantom(50, i, size=32).labels for i in range(4)]
    model = build_shape_model(
        labels,
        fov_mm=200.0,
        modes=3,
        vertices=1200,
        registration={"grid": 16, "levels": [4, 2], "iterations": 20, "similarity_iterations": 15},
        report=tmp_path / "report.json",
    )
    report = json.loads((tmp_path / "report.json").read_text())
    assert min(report["dice"]) > 0.75
    assert report["share_of_variance"][-1] == 1
    # A heart of the population is met by pose and modes.
    t = torch.zeros(1, model.parameters_count, requires_grad=True)
    target = (labels[1] > 0).float()[None, None]
    optimizer = torch.optim.Adam([t], lr=0.05)
    for _ in range(40):
        loss = iou_loss(heart_mask(model, torch.tanh(t), 32), target).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert 1 - loss.item() > 0.75


def test_maps_that_cannot_be_used_are_named() -> None:
    label = whole_heart_phantom(50, 0, size=24).labels
    with pytest.raises(ShapeModelError, match="at least three label maps, got 2"):
        build_shape_model([label, label], fov_mm=200.0)
    with pytest.raises(ShapeModelError, match=r"number 2 is \(24, 24, 23\)"):
        build_shape_model([label, label, label[..., 1:]], fov_mm=200.0)
    without = torch.where(label == 6, 0, label.int()).to(torch.uint8)
    with pytest.raises(ShapeModelError, match="label map 1 has no ascending aorta"):
        build_shape_model([label, without, label], fov_mm=200.0)
