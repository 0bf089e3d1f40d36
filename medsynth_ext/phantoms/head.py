"""A procedural human head with FreeSurfer label values, evaluated at any grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from medsynth_ext.phantoms.head_anatomy import FAT, RIGHT_OF, HeadAnatomy
from medsynth_ext.phantoms.head_parameters import HeadParameters, draw_head_parameters
from medsynth_ext.phantoms.shapes import flow_displacement, interpolation_matrix

__all__ = ["HeadParameters", "HeadPhantom", "head_label_table", "head_phantom", "with_boundary_noise"]

FIELD_CENTRE_MM = (0.0, 8.0, -16.0)  # the middle of every grid: a field of view of 192 mm holds head and upper neck
LATTICE_MM, LATTICE_NODES = 8.0, 31  # where the deformation is known; linear in between

NEUTRAL_NAMES = {
    0: "background",
    14: "third ventricle",
    15: "fourth ventricle",
    16: "brain stem",
    24: "cerebrospinal fluid",
    506: "eyes",
    507: "soft tissue",
    509: "mucosa",
    511: "skin",
    512: "spinal cord",
    515: "compact bone",
    516: "spongy bone",
}
SIDE_NAMES = {
    2: "cerebral white matter",
    3: "cerebral cortex",
    4: "lateral ventricle",
    7: "cerebellum white matter",
    8: "cerebellum cortex",
    10: "thalamus",
    11: "caudate",
    12: "putamen",
    13: "pallidum",
    17: "hippocampus",
    25: "lesion",
}


def head_label_table() -> dict:
    """The label table of the phantom: the same keys as a bundle's ``configs/labels.json``.

    Labels are in the order neutral, left, right, the two sides in the same order. Tissues outside the brain have the
    segmentation label 0, a lesion that of its white matter. ``topological_classes`` maps a segmentation label to the
    class in which post-processing keeps the largest component: a hemisphere's white matter, cortex and ventricle are
    one class, a cerebellar hemisphere is one, everything else has its own; fluid lies in pieces and has none.
    """
    neutral, left = list(NEUTRAL_NAMES), list(SIDE_NAMES)
    right = [RIGHT_OF[value] for value in left]
    labels = neutral + left + right
    targets = [0 if value >= 500 else {25: 2, 57: 41}.get(value, value) for value in labels]
    groups = {2: 2, 3: 2, 4: 2, 41: 41, 42: 41, 43: 41, 7: 7, 8: 7, 46: 46, 47: 46}
    values = sorted(set(targets) - {0, 24})
    classes = {group: k for k, group in enumerate(dict.fromkeys(groups.get(v, v) for v in values), start=1)}
    names = {str(value): name for value, name in NEUTRAL_NAMES.items()}
    names |= {str(value): f"left {name}" for value, name in SIDE_NAMES.items()}
    names |= {str(RIGHT_OF[value]): f"right {name}" for value, name in SIDE_NAMES.items()}
    return {
        "generation_labels": labels,
        "n_neutral": len(neutral),
        "generation_classes": list(range(len(labels))),
        "segmentation_labels": targets,
        "names": names,
        "topological_classes": {str(v): classes[groups.get(v, v)] for v in values},
    }


@dataclass(frozen=True)
class HeadPhantom:
    """One head. The anatomy is continuous: ``labels`` is only its sampling on the phantom's own grid.

    Axes are right, anterior, superior (RAS): left structures have small indices along the first axis. The centre of
    every grid is the same point of the head, so a grid of twice the shape and half the spacing divides each voxel into
    eight.
    """

    seed: int
    shape: tuple[int, int, int]
    spacing_mm: float
    parameters: HeadParameters
    anatomy: HeadAnatomy = field(repr=False, compare=False)
    lattice: Tensor = field(repr=False, compare=False)  # (3, N, N, N) displacement in mm, from the image to the anatomy

    @cached_property
    def labels(self) -> Tensor:  # (D, H, W) int16
        """Label values at the voxel centres."""
        return self.labels_at(self.shape, self.spacing_mm)

    @property
    def affine(self) -> Tensor:  # (4, 4) float64
        """Voxel indices to millimetres."""
        return grid_affine(self.shape, (self.spacing_mm,) * 3)

    @cached_property
    def fine_tissues(self) -> Tensor:  # (2D, 2H, 2W) int16
        """Tissues at half the voxel size, kept because every rendering of this phantom starts from them."""
        fine = (2 * self.shape[0], 2 * self.shape[1], 2 * self.shape[2])
        return self.tissues_at(fine, self.spacing_mm / 2)

    @cached_property
    def volumes_mm3(self) -> dict[int, float]:
        """Volume of every label within the field of view, counted at half the voxel size."""
        values, counts = torch.unique(_to_labels(self.fine_tissues), return_counts=True)
        voxel = (self.spacing_mm / 2) ** 3
        return {int(v): float(c) * voxel for v, c in zip(values, counts, strict=True)}

    def labels_at(self, shape: Sequence[int], spacing_mm: float | Sequence[float]) -> Tensor:  # (*shape) int16
        """Label values at the voxel centres of any grid around the same centre."""
        return _to_labels(self.tissues_at(shape, spacing_mm))

    def tissues_at(self, shape: Sequence[int], spacing_mm: float | Sequence[float]) -> Tensor:  # (*shape) int16
        """As ``labels_at``, with fat as a tissue of its own (``FAT``) instead of soft tissue."""
        shape, spacing = _check_grid(shape, spacing_mm)
        axes = grid_axes(shape, spacing)
        nodes = lattice_axis()
        a, b, c = (interpolation_matrix(nodes, axis) for axis in axes)
        moved = torch.einsum("knml,cl->knmc", self.lattice, c)
        moved = torch.einsum("knmc,bm->knbc", moved, b)
        scale = [self.parameters.size * factor for factor in self.parameters.aspect]
        out = torch.empty(shape, dtype=torch.int16)
        # Slabs bound the memory of the temporaries: about 40 values per point are alive at once.
        step = max(1, 400_000 // (shape[1] * shape[2]))
        for start in range(0, shape[0], step):
            rows = slice(start, min(start + step, shape[0]))
            u = torch.einsum("knbc,an->kabc", moved, a[rows])
            x = (axes[0][rows, None, None] + u[0]).div_(scale[0]).flatten()
            y = (axes[1][None, :, None] + u[1]).div_(scale[1]).flatten()
            z = (axes[2][None, None, :] + u[2]).div_(scale[2]).flatten()
            out[rows] = self.anatomy.tissues(x, y, z).view(-1, *shape[1:])
        return out


def head_phantom(
    seed: int,
    *,
    shape: Sequence[int] = (64, 64, 64),
    spacing_mm: float = 3.0,
    population: str | HeadParameters = "young",
    lesions: int | None = None,
) -> HeadPhantom:
    """Draw one head; a pure function of its arguments.

    Args:
        seed: A whole number from 0. Folding, asymmetry and deformation do not depend on the sliders, so the same seed
            with other sliders is the same person changed.
        shape: Voxels along right, anterior, superior.
        spacing_mm: Isotropic voxel size.
        population: ``"young"``, ``"old"`` or ``"patient"`` to draw the sliders, or the sliders themselves.
        lesions: Number of white matter lesions in place of the drawn one.

    Returns:
        The phantom; ``labels`` holds int16 values of ``head_label_table()``.

    Raises:
        ValueError: If an argument is out of range; the message says what was wanted and what came.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed must be a whole number from 0, got {seed!r}")
    grid, _ = _check_grid(shape, spacing_mm)
    sliders_rng, anatomy_rng, flow_rng = (np.random.default_rng([seed, stream]) for stream in range(3))
    parameters = population if isinstance(population, HeadParameters) else draw_head_parameters(sliders_rng, population)
    if lesions is not None:
        parameters = replace(parameters, lesions=lesions)
    nodes = lattice_axis()
    points = torch.cartesian_prod(nodes, nodes, nodes)
    flow = flow_displacement(flow_rng, points, strength_mm=parameters.deformation_mm)
    lattice = flow.T.reshape(3, LATTICE_NODES, LATTICE_NODES, LATTICE_NODES).contiguous()
    return HeadPhantom(seed, grid, float(spacing_mm), parameters, HeadAnatomy(anatomy_rng, parameters), lattice)


def with_boundary_noise(labels: Tensor, *, seed: int, fraction: float = 0.02) -> Tensor:  # (D, H, W) -> (D, H, W)
    """Labels as an automatic method leaves them: a fraction of the voxels at borders take a neighbour's label.

    A voxel takes part where its neighbour along a drawn direction has another label; each such voxel changes with
    probability ``fraction``, drawn from ``seed``.
    """
    if labels.ndim != 3:
        raise ValueError(f"labels must be (D, H, W), got {tuple(labels.shape)}")
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction must be in [0, 1], got {fraction}")
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randint(6, labels.shape, generator=generator)
    change = torch.rand(labels.shape, generator=generator) < fraction
    out = labels.clone()
    for k in range(6):
        axis, step = k // 2, 1 if k % 2 else -1
        neighbour = labels.roll(-step, axis)
        edge = labels.shape[axis] - 1 if step == 1 else 0
        neighbour.select(axis, edge).copy_(labels.select(axis, edge))
        out = torch.where(change & (direction == k), neighbour, out)
    return out


def lattice_axis() -> Tensor:  # (N,) millimetres around the field's centre
    """Node positions of the deformation along any axis."""
    return (torch.arange(LATTICE_NODES) - (LATTICE_NODES - 1) / 2) * LATTICE_MM


def grid_axes(shape: Sequence[int], spacing_mm: Sequence[float]) -> list[Tensor]:
    """Millimetre positions of the voxel centres along each axis."""
    grid = zip(shape, spacing_mm, FIELD_CENTRE_MM, strict=True)
    return [(torch.arange(n) - (n - 1) / 2) * float(h) + centre for n, h, centre in grid]


def grid_affine(shape: Sequence[int], spacing_mm: Sequence[float]) -> Tensor:  # (4, 4) float64
    """Voxel indices to millimetres for a grid around the phantom's centre."""
    affine = torch.eye(4, dtype=torch.float64)
    for d in range(3):
        affine[d, d] = spacing_mm[d]
        affine[d, 3] = FIELD_CENTRE_MM[d] - spacing_mm[d] * (shape[d] - 1) / 2
    return affine


def _to_labels(tissues: Tensor) -> Tensor:
    return torch.where(tissues == FAT, torch.tensor(507, dtype=torch.int16), tissues)


def _check_grid(
    shape: Sequence[int], spacing_mm: float | Sequence[float]
) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
    if len(shape) != 3 or any(int(n) != n or n < 1 for n in shape):
        raise ValueError(f"shape must be three whole numbers from 1, got {tuple(shape)}")
    spacing = (spacing_mm,) * 3 if isinstance(spacing_mm, int | float) else tuple(spacing_mm)
    if len(spacing) != 3 or not all(np.isfinite(h) and h > 0 for h in spacing):
        raise ValueError(f"spacing_mm must be positive, one number or three, got {spacing_mm}")
    return (int(shape[0]), int(shape[1]), int(shape[2])), (float(spacing[0]), float(spacing[1]), float(spacing[2]))
