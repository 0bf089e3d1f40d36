"""A whole heart in its chest: labelled surfaces in correspondence, label maps, and the tissue of every voxel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from medsynth_ext import ops
from medsynth_ext.phantoms.heart_meshes import PARTS, heart_meshes, icosphere
from medsynth_ext.phantoms.heart_parameters import HeartParameters, draw_heart_parameters
from medsynth_ext.phantoms.painter import Grid, Painter
from medsynth_ext.phantoms.shapes import Waves, flow_displacement
from medsynth_ext.phantoms.thorax import Thorax

__all__ = ["WholeHeartPhantom", "whole_heart_phantom"]

_STREAMS = {"A": 0, "B": 1, "C": 2}
_PART_TISSUES = (
    "blood_left",
    "myocardium",
    "blood_right",
    "blood_left",
    "blood_right",
    "blood_left",
    "blood_pulmonary",
)
_LEFT, _RIGHT = (0, 3, 5), (2, 4, 6)  # parts of the two circulations, between which there is a wall
_WALL_MM, _FAT_MM = 1.6, 8.0


@dataclass(frozen=True)
class WholeHeartPhantom:
    """One person. Arrays run along right, anterior, superior (RAS); the origin is the heart's centre.

    Args:
        seed: of the population.
        index: of the person in it.
        site: hospital, ``A``, ``B`` or ``C``.
        size: voxels per side of the field of view.
        fov_mm: its side.
        parameters: the sliders.
        vertices: (V, 3) float32 mm, the seven surfaces one after the other.
        faces: (F, 3) int64, outward by the right-hand rule.
        face_part: (F,) uint8, labels 1 to 7.
    """

    seed: int
    index: int
    site: str
    size: int
    fov_mm: float
    parameters: HeartParameters
    vertices: Tensor = field(repr=False, compare=False)
    faces: Tensor = field(repr=False, compare=False)
    face_part: Tensor = field(repr=False, compare=False)
    thorax: Thorax = field(repr=False, compare=False)

    @property
    def grid(self) -> Grid:
        """The field of view."""
        return Grid.centred(self.size, self.fov_mm / self.size)

    @property
    def affine(self) -> Tensor:  # (4, 4) float64
        """Voxel indices to millimetres."""
        return self.grid.affine

    @cached_property
    def labels(self) -> Tensor:  # (N, N, N) uint8
        """1 LV blood, 2 LV muscle, 3 RV, 4 LA, 5 RA, 6 ascending aorta, 7 pulmonary artery; 0 outside."""
        return self.labels_on(self.grid)

    def rng(self, purpose: int) -> np.random.Generator:
        """Random numbers of this person for one purpose."""
        return np.random.default_rng([self.seed, self.index, _STREAMS[self.site], purpose])

    def labels_on(self, grid: Grid) -> Tensor:  # grid.shape, uint8
        """Labels at the voxel centres of any grid."""
        first = self.vertices.new_tensor(grid.first_mm)
        inside = ops.voxelize_mesh(
            ((self.vertices - first) / grid.spacing_mm)[None],
            self.faces,
            shape=grid.shape,
            part=self.face_part.long() - 1,
            n_parts=len(PARTS),
            priority=range(len(PARTS)),  # a voxel belongs to the first part that has it
            grad="none",
        )[0]
        labels = torch.zeros(grid.shape, dtype=torch.uint8)
        for part, mask in enumerate(inside, start=1):
            labels.add_(mask, alpha=part)
        return labels

    def paint(self, table: Mapping[str, float], grid: Grid | None = None) -> Tensor:  # grid.shape
        """Every voxel's mean of ``table`` over its tissues: Hounsfield units, or the signal of a sequence.

        Args:
            table: value of every tissue, see :data:`medsynth_ext.phantoms.heart_rendering.HEART_HOUNSFIELD`.
            grid: where; the field of view by default.
        """
        return self.paint_chest(table, self.grid if grid is None else grid)[0]

    def paint_chest(self, table: Mapping[str, float], grid: Grid) -> tuple[Tensor, Tensor]:
        """As :meth:`paint`, and the share of every voxel that is lung.

        Args:
            table: value of every tissue.
            grid: where.
        """
        person = self.parameters.person
        painter = Painter(
            grid, table, background="air", size=person, flow=(self.rng(1), self.parameters.deformation_mm)
        )
        region, labels = self._fine_labels(grid)
        share = torch.zeros(grid.shape)
        share[region] = _pooled(labels > 0)
        blurred = share[None, None]
        fat = _edge(ops.gaussian_blur(blurred, _FAT_MM * person / grid.spacing_mm), 0.16)[0, 0]
        wall = _edge(ops.gaussian_blur(blurred, _WALL_MM * person / grid.spacing_mm), 0.22)[0, 0]
        lungs = self.thorax.paint(painter, fat)
        painter.blend(fat * (1 - share), "heart_fat")
        painter.blend(wall, "wall")
        values = torch.tensor([0.0, *(table[name] for name in _PART_TISSUES)])[labels.int()]
        values *= 1 + table["mixing"] * self._mixing(labels, grid, region)
        self._add_walls(values, labels, grid.spacing_mm / 2 / person, table["wall"])
        heart = share[region]
        target = painter.values[region]
        target.mul_(1 - heart).add_(_pooled(values))
        self._papillary(painter)
        return painter.values, lungs

    def _fine_labels(self, grid: Grid) -> tuple[tuple[slice, ...], Tensor]:
        """The voxels that hold the heart, and its labels there on voxels of half the size."""
        first = self.vertices.new_tensor(grid.first_mm)
        index = (self.vertices - first) / grid.spacing_mm
        size = torch.tensor(grid.shape)
        low = (index.amin(0).floor().long() - 1).clamp_min(0).minimum(size - 1)
        high = (index.amax(0).ceil().long() + 2).minimum(size).maximum(low + 1)
        corner = [f + (int(k) - 0.25) * grid.spacing_mm for f, k in zip(grid.first_mm, low, strict=True)]
        shape = [2 * int(b - a) for a, b in zip(low, high, strict=True)]
        fine = Grid((corner[0], corner[1], corner[2]), (shape[0], shape[1], shape[2]), grid.spacing_mm / 2)
        return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True)), self.labels_on(fine)

    @staticmethod
    def _add_walls(values: Tensor, labels: Tensor, voxel_mm: float, wall: float) -> None:
        """Muscle between the two circulations where they touch, as far as the voxels can show it."""
        reach = round(0.8 * _WALL_MM / voxel_mm)
        if not reach:
            return
        near = []
        for parts in (_LEFT, _RIGHT):
            mask = torch.zeros(labels.shape)
            for part in parts:
                mask += labels == part + 1
            near.append(torch.nn.functional.max_pool3d(mask[None], 2 * reach + 1, 1, reach)[0] > 0)
        values[near[0] & near[1] & (labels > 0)] = wall

    def _mixing(self, labels: Tensor, grid: Grid, region: tuple[slice, ...]) -> Tensor:
        """Contrast agent that is not yet mixed with the blood of the right heart: relative, 0 elsewhere."""
        waves = Waves.draw(self.rng(4), 10, (18.0, 70.0))
        axes = [axis[part] / self.parameters.person for axis, part in zip(grid.axes(), region, strict=True)]
        x, y, z = torch.meshgrid(*axes, indexing="ij")
        field = waves.value(x, y, z)[None, None]
        field = torch.nn.functional.interpolate(field, scale_factor=2.0, mode="nearest")[0, 0]
        return field * ((labels == 3) | (labels == 5))

    def _papillary(self, painter: Painter) -> None:
        """Two muscles in the left ventricle, which count as blood in the label."""
        count = len(self.vertices) // len(PARTS)
        surface = self.rest[:count]
        centre = surface.mean(0)
        rng = self.rng(2)
        outer = self.rest[count : 2 * count]
        apex = outer[int((outer - centre).norm(dim=1).argmax())]
        axis = (apex - centre) / (apex - centre).norm()
        width = (surface - centre - ((surface - centre) @ axis)[:, None] * axis).norm(dim=1).max()
        helper = torch.linalg.cross(axis, torch.tensor([0.0, 0.0, 1.0]), dim=0)
        helper = helper / helper.norm()
        other = torch.linalg.cross(axis, helper, dim=0)
        for angle in (0.6 + rng.normal(0, 0.2), 2.4 + rng.normal(0, 0.2)):
            side = float(np.cos(angle)) * helper + float(np.sin(angle)) * other
            foot = centre + axis * 0.45 * float((apex - centre).norm()) + side * 0.8 * width
            tip = centre + side * 0.45 * width
            painter.tube([(*foot.tolist(), 4.5), (*tip.tolist(), 2.5)], "myocardium")

    @cached_property
    def rest(self) -> Tensor:  # (V, 3) float32
        """Vertices before the flow, in mm of the average person."""
        return heart_meshes(self.parameters, subdivisions=_subdivisions(len(self.vertices) // len(PARTS)))[0].float()


def whole_heart_phantom(
    seed: int,
    index: int = 0,
    *,
    site: str = "A",
    size: int = 64,
    fov_mm: float = 200.0,
    subdivisions: int = 3,
    parameters: HeartParameters | None = None,
) -> WholeHeartPhantom:
    """Draw one person; a pure function of its arguments.

    Args:
        seed: of the population, a whole number from 0.
        index: of the person, a whole number from 0.
        site: ``A`` sees adults; ``B`` and ``C`` see children and adults with two kinds of heart disease.
        size: voxels per side.
        fov_mm: side of the field of view, a cube around the heart.
        subdivisions: 2 for 162 vertices per part, 3 for 642.
        parameters: sliders in place of drawn ones.

    Raises:
        ValueError: for an argument out of range; says what was wanted and what came.
    """
    for name, value, least in (("seed", seed, 0), ("index", index, 0), ("size", size, 4)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name} must be a whole number from {least}, got {value!r}")
    if not 0 < fov_mm < 1000:
        raise ValueError(f"fov_mm must be in (0, 1000), got {fov_mm}")
    if site not in _STREAMS:
        raise ValueError(f"site must be one of {', '.join(_STREAMS)}, got {site!r}")
    stream = [seed, index, _STREAMS[site]]
    if parameters is None:
        parameters = draw_heart_parameters(np.random.default_rng([*stream, 0]), site)
    vertices, faces, part = heart_meshes(parameters, subdivisions=subdivisions)
    flow = flow_displacement(
        np.random.default_rng([*stream, 1]), vertices.float(), strength_mm=parameters.deformation_mm
    )
    moved = (vertices.float() + flow) * parameters.person
    thorax = Thorax(np.random.default_rng([*stream, 3]), _landmarks(vertices))
    return WholeHeartPhantom(seed, index, site, size, float(fov_mm), parameters, moved, faces, part + 1, thorax)


def _subdivisions(count: int) -> int:
    """Of the icosphere with ``count`` vertices."""
    return round(np.log((count - 2) / 10) / np.log(4))


def _landmarks(vertices: Tensor) -> dict[str, tuple[float, ...]]:
    """Where vessels leave the heart."""
    parts = vertices.view(len(PARTS), -1, 3)
    sphere = icosphere(_subdivisions(parts.shape[1]))[0]

    def place(part: int, direction: tuple[float, float, float]) -> tuple[float, ...]:
        aim = torch.tensor(direction, dtype=torch.float64)
        return tuple(parts[part, int((sphere @ aim).argmax())].tolist())

    return {
        "aorta": place(5, (0, 0, 1)),
        "pulmonary": place(6, (0, 0, 1)),
        "cava_superior": place(4, (-0.15, -0.1, 1)),
        "cava_inferior": place(4, (-0.1, -0.3, -1)),
        "vein_right": place(3, (1, -0.55, 0.35)),
        "vein_left": place(3, (-1, -0.5, 0)),
    }


def _pooled(fine: Tensor) -> Tensor:  # (2D, 2H, 2W) -> (D, H, W)
    return torch.nn.functional.avg_pool3d(fine.float()[None], 2)[0]


def _edge(blurred: Tensor, level: float) -> Tensor:
    """A soft threshold."""
    return ((blurred - level) / 0.12 + 0.5).clamp_(0, 1)
