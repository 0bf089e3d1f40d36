"""From label maps to a statistical shape model."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from skimage.measure import marching_cubes
from torch import Tensor
from tqdm.auto import tqdm

from medsynth_ext import ops
from medsynth_ext.data.files import replacing
from medsynth_ext.methods.fedsim.parts import PART_NAMES, WITH_POOL
from medsynth_ext.methods.fedsim.registration import moment_matrix, register_labels
from medsynth_ext.methods.fedsim.shape_model import ShapeModel, ShapeModelError

__all__ = ["build_shape_model", "corresponding_shapes", "medoid", "principal_shapes", "procrustes", "template_surfaces"]

logger = logging.getLogger(__name__)


def build_shape_model(
    labels: Sequence[Tensor],  # (N, N, N) integer, 0 background, parts from 1
    *,
    fov_mm: float,
    modes: int = 14,
    vertices: int = 4300,
    registration: Mapping[str, Any] | None = None,
    report: str | Path | None = None,
) -> ShapeModel:
    """Build the model: template, correspondence by registration, Procrustes alignment, principal components.

    Args:
        labels: maps of different people on one cubic grid that spans the field of view.
        fov_mm: side of the grid.
        modes: components that are kept, fewer than there are maps.
        vertices: about how many vertices the surfaces have together.
        registration: options of :func:`register_labels`.
        report: a JSON file that tells the template, the Dice of every registration and the variance per mode.

    Raises:
        ShapeModelError: for fewer than three maps, maps of other sizes, or a map without one of the parts.
    """
    _check_maps(labels)
    modes = min(modes, len(labels) - 1)
    chosen = medoid(labels)
    parts = len(PART_NAMES)
    points, faces, face_part = template_surfaces(labels[chosen], parts=parts, vertices=vertices)
    shapes, dice = corresponding_shapes(labels, chosen, points, parts=parts, options=registration or {})
    voxel_mm = fov_mm / labels[0].shape[0]
    in_mm = (shapes - (labels[0].shape[0] - 1) / 2) * voxel_mm  # (M, V, 3)
    mean, components, values = principal_shapes(procrustes(in_mm), modes)
    if report is not None:
        total = values.sum()
        record = {
            "template": chosen,
            "dice": [round(d, 4) for d in dice],
            "vertices": len(points),
            "faces": len(faces),
            "share_of_variance": [round(float(v), 4) for v in (values / total).cumsum(0)],
        }
        with replacing(report) as temporary:
            temporary.write_text(json.dumps(record, indent=4) + "\n")
    logger.info(f"template is map {chosen}; the other maps reach a Dice of {min(dice):.2f} to {max(dice):.2f} with it")
    return ShapeModel(mean, components[:, :modes], values[:modes], faces, face_part, fov_mm)


def medoid(labels: Sequence[Tensor]) -> int:
    """The map with the highest mean Dice with all others, after centroids and volumes are brought together."""
    reference = labels[0] > 0
    aligned = []
    for label in labels:
        hot = F.one_hot(label.long(), len(PART_NAMES) + 1).movedim(3, 0)[None, 1:].float()
        matrix = moment_matrix(reference, label > 0)
        moved = ops.affine_svf_warp(hot, matrix[None], out_shape=tuple(label.shape), mode="linear", border="zeros")
        aligned.append((moved[0] > 0.5).flatten(1).float())
    maps = torch.stack(aligned)  # (M, P, voxels)
    both = torch.einsum("mpv,npv->mnp", maps, maps)
    size = maps.sum(2)
    dice = (2 * both / (size[:, None] + size[None]).clamp_min(1)).mean(2)
    return int(dice.mean(1).argmax())


def template_surfaces(
    label: Tensor, *, parts: int, vertices: int, smoothing: float = 0.8
) -> tuple[Tensor, Tensor, Tensor]:
    """One closed surface per part by marching cubes, on a grid so coarse that about ``vertices`` come out.

    Holes of a part are filled and only its largest piece is kept, so that every surface is closed; see ``WITH_POOL``
    for the myocardium. Vertices are in voxels of the label map, faces turn outwards.

    Returns:
        (V, 3) points, (F, 3) faces and (F,) part numbers from 0.
    """
    factor = 1.0
    for _ in range(3):  # the number of vertices goes with the square of the factor
        surfaces = [_surface(_solid(label, p), factor, smoothing) for p in range(1, parts + 1)]
        count = sum(len(points) for points, _ in surfaces)
        if abs(count / vertices - 1) < 0.05:
            break
        factor *= math.sqrt(vertices / count)
    points, faces, part, first = [], [], [], 0
    for p, (of_part, corners) in enumerate(surfaces):
        points.append(torch.from_numpy(of_part))
        faces.append(torch.from_numpy(corners) + first)
        part.append(torch.full((len(corners),), p))
        first += len(of_part)
    return torch.cat(points), torch.cat(faces), torch.cat(part)


def _solid(label: Tensor, part: int) -> np.ndarray:
    values = label.numpy()
    mask = np.isin(values, (part, *WITH_POOL.get(part, ())))
    pieces, count = ndimage.label(mask)
    if count > 1:
        mask = pieces == 1 + np.argmax(ndimage.sum_labels(mask, pieces, range(1, count + 1)))
    return ndimage.binary_fill_holes(mask)


def _surface(mask: np.ndarray, factor: float, smoothing: float) -> tuple[np.ndarray, np.ndarray]:
    padded = np.pad(mask, 3).astype(np.float32)
    # Smooth as much as the grid gets coarser, then sample at the centres of the new voxels.
    smooth = ndimage.gaussian_filter(padded, smoothing * max(1.0, 1 / factor))
    count = [max(4, round(n * factor)) for n in padded.shape]
    step = [n / c for n, c in zip(padded.shape, count, strict=True)]
    axes = [(np.arange(c) + 0.5) * s - 0.5 for c, s in zip(count, step, strict=True)]
    sampled = ndimage.map_coordinates(smooth, np.meshgrid(*axes, indexing="ij"), order=1, mode="nearest")
    # Smoothing shrinks convex and thin parts: take the level that encloses the part's own volume.
    level = float(np.quantile(sampled, 1 - padded.mean()))
    points, faces, _, _ = marching_cubes(sampled, level, allow_degenerate=False)
    points = (points + 0.5) * np.array(step) - 0.5 - 3
    corners = points[faces]
    volume = np.einsum("ij,ij->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2]))
    return points.astype(np.float32), (faces if volume > 0 else faces[:, ::-1]).astype(np.int64)


def corresponding_shapes(
    labels: Sequence[Tensor], template: int, points: Tensor, *, parts: int, options: Mapping[str, Any]
) -> tuple[Tensor, list[float]]:
    """The template's points in every map, (M, V, 3) in voxels, and the Dice of every registration."""
    maps = [_part_maps(label, parts) for label in labels]
    shapes, dice = [], []
    for i, subject in enumerate(tqdm(maps, desc="registering label maps", leave=False)):
        if i == template:
            shapes.append(points)
            continue
        found = register_labels(maps[template], subject, **options)
        shapes.append(found.points(points))
        dice.append(found.dice)
    return torch.stack(shapes), dice


def _part_maps(label: Tensor, parts: int) -> Tensor:  # (1, parts, N, N, N)
    hot = F.one_hot(label.long(), parts + 1).movedim(3, 0)[None, 1:].float()
    return ops.gaussian_blur(hot, torch.full((1, 3), 0.7))


def procrustes(shapes: Tensor, *, iterations: int = 10) -> Tensor:  # (M, V, 3) both
    """Generalised Procrustes alignment with scale; the mean keeps the mean size and position 0."""
    centred = shapes - shapes.mean(1, keepdim=True)
    norms = centred.flatten(1).norm(dim=1)
    unit = centred / norms[:, None, None]
    mean = unit[0]
    for _ in range(iterations):
        u, _, vt = torch.linalg.svd(unit.transpose(1, 2) @ mean)
        turn = u @ vt
        flip = torch.linalg.det(turn) < 0  # a rotation, not a reflection
        u = torch.cat([u[..., :2], torch.where(flip[:, None, None], -u[..., 2:], u[..., 2:])], 2)
        unit = unit @ (u @ vt)
        mean = unit.mean(0)
        mean = mean / mean.norm()
    return unit * norms.mean()


def principal_shapes(shapes: Tensor, modes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (V, 3), components (3 V, M - 1) and variances (M - 1,), by a thin singular value decomposition."""
    count = len(shapes)
    if modes >= count:
        raise ShapeModelError(f"{count} shapes have at most {count - 1} modes, {modes} were asked for")
    mean = shapes.mean(0)
    deviations = (shapes - mean).flatten(1).double()
    _, values, components = torch.linalg.svd(deviations, full_matrices=False)
    kept = count - 1
    return mean, components[:kept].T.float(), (values[:kept].square() / (count - 1)).float()


def _check_maps(labels: Sequence[Tensor]) -> None:
    if len(labels) < 3:
        raise ShapeModelError(f"a shape model needs at least three label maps, got {len(labels)}")
    for i, label in enumerate(labels):
        if label.shape != labels[0].shape or len(set(label.shape)) != 1 or label.ndim != 3:
            raise ShapeModelError(f"label maps must be cubes of one size, number {i} is {tuple(label.shape)}")
        missing = [PART_NAMES[p - 1] for p in range(1, len(PART_NAMES) + 1) if not (label == p).any()]
        if missing:
            raise ShapeModelError(f"label map {i} has no {' and no '.join(missing)}")
