"""Hearts in CT and in MR whose fields of view lie differently, and every subject in the other modality as well."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from torch import Tensor

from medsynth_ext.phantoms.heart_parameters import LARGEST_PERSON, SMALLEST_PERSON, draw_heart_parameters
from medsynth_ext.phantoms.heart_rendering import SENSORS, render_heart_ct, render_heart_mr
from medsynth_ext.phantoms.painter import Grid
from medsynth_ext.phantoms.whole_heart import WholeHeartPhantom, whole_heart_phantom

__all__ = ["HEART_POSES", "HEART_REGIONS", "HeartPose", "HeartSubject", "heart_subject"]

# Names in the order of their labels, 1 to 5.
HEART_REGIONS = ("left ventricle", "right ventricle", "left atrium", "right atrium", "left ventricular muscle")
_REGION_OF_PART = (0, 1, 5, 2, 3, 4, 0, 0)  # of the phantom's parts 0 to 7; the great vessels are background
_REACH = 2.5  # standard deviations at which normal draws are cut


@dataclass(frozen=True)
class HeartPose:
    """How the hearts of one domain lie in the field of view; all laws are normal, cut at 2.5 deviations.

    Args:
        shift_mm: mean place of the heart's centre, to the right, to the front and upwards.
        shift_std_mm: standard deviation along every axis.
        turn_deg: mean angle about the head-foot axis, counter-clockwise seen from the head.
        turn_std_deg: standard deviation about every axis.
        scale: mean size of the persons, 1 for an average adult.
    """

    shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    shift_std_mm: float = 6.0
    turn_deg: float = 0.0
    turn_std_deg: float = 5.0
    scale: float = 1.0


# Without a difference in the statistics of shape a translation has no reason to move the anatomy.
HEART_POSES: Mapping[str, HeartPose] = {
    "ct": HeartPose(),
    "mr": HeartPose(shift_mm=(-12.0, 0.0, 0.0), turn_deg=12.0, scale=1.12),
}


@dataclass(frozen=True)
class HeartSubject:
    """One person in one field of view, in CT and in MR. Arrays run along right, anterior, superior (RAS).

    Args:
        phantom: the person upright, in a cube that holds the field of view.
        rotation: (3, 3) float64, from the person to the field of view.
        shift_mm: (3,) float64, of the heart's centre in the field of view.
        size: voxels per side.
        fov_mm: side of the field of view.
        seed: of the scanners' noise.
    """

    phantom: WholeHeartPhantom
    rotation: Tensor = field(repr=False, compare=False)
    shift_mm: Tensor = field(repr=False, compare=False)
    size: int
    fov_mm: float
    seed: int

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
        """1 LV blood, 2 RV, 3 LA, 4 RA, 5 LV muscle; 0 elsewhere."""
        posed = self.phantom.vertices.double() @ self.rotation.T + self.shift_mm
        parts = replace(self.phantom, vertices=posed.float()).labels_on(self.grid)
        return torch.tensor(_REGION_OF_PART, dtype=torch.uint8)[parts.long()]

    def image(self, modality: str, *, views: int = 120) -> MetaTensor:  # (1, N, N, N) float32
        """The field of view as a contrast CT (HU) or a balanced steady-state MR (blood near 400) shows it.

        The scan is made along the person's axes and resampled, as oblique views are.

        Args:
            modality: ``ct`` or ``mr``.
            views: projections of the CT.

        Raises:
            ValueError: for another modality.
        """
        if modality not in HEART_POSES:
            raise ValueError(f"modality must be one of {', '.join(HEART_POSES)}, got {modality!r}")
        if modality == "ct":
            scan = render_heart_ct(self.phantom, replace(SENSORS["A"], views=views), seed=self.seed)
        else:
            scan = render_heart_mr(self.phantom, "bssfp", seed=self.seed)
        return MetaTensor(self._posed(scan.as_tensor()), affine=self.affine)

    def _posed(self, scan: Tensor) -> Tensor:  # (1, M, M, M) to (1, N, N, N)
        axes = torch.meshgrid(*(axis.double() for axis in self.grid.axes()), indexing="ij")
        places = (torch.stack(axes, -1) - self.shift_mm) @ self.rotation  # its transpose from the left
        half = (self.phantom.fov_mm - self.phantom.grid.spacing_mm) / 2
        sampled = F.grid_sample(
            scan[None], (places / half).flip(-1)[None].float(), padding_mode="border", align_corners=True
        )
        return sampled[0]


def heart_subject(
    seed: int,
    index: int = 0,
    *,
    domain: str = "ct",
    size: int = 64,
    fov_mm: float = 192.0,
    pose: HeartPose | None = None,
) -> HeartSubject:
    """Draw one person of a domain; a pure function of its arguments. No person is in both domains.

    Args:
        seed: of the populations.
        index: of the person.
        domain: ``ct`` or ``mr``: whose population and pose it is. Either can be imaged in both modalities.
        size: voxels per side.
        fov_mm: side of the field of view.
        pose: in place of the domain's own.

    Raises:
        ValueError: for another domain or a size below 8.
    """
    if domain not in HEART_POSES:
        raise ValueError(f"domain must be one of {', '.join(HEART_POSES)}, got {domain!r}")
    if size < 8:
        raise ValueError(f"size must be at least 8 voxels, got {size}")
    number = list(HEART_POSES).index(domain)
    law = HEART_POSES[domain] if pose is None else pose
    rng = np.random.default_rng([seed, index, number, 502])
    draws = np.clip(rng.standard_normal(6), -_REACH, _REACH)
    angles = np.radians(law.turn_std_deg * draws[:3] + np.array([0.0, 0.0, law.turn_deg]))
    rotation = _turn(2, angles[2]) @ _turn(1, angles[1]) @ _turn(0, angles[0])
    shift = torch.tensor(law.shift_mm, dtype=torch.float64) + law.shift_std_mm * torch.from_numpy(draws[3:])
    population = 2 * seed + number
    parameters = draw_heart_parameters(np.random.default_rng([population, index, 0]), "A")
    person = float(np.clip(law.scale * parameters.person, SMALLEST_PERSON, LARGEST_PERSON))
    corners = torch.cartesian_prod(*(3 * [torch.tensor([-0.5, 0.5], dtype=torch.float64)])) * fov_mm
    reach = 2 * float(((corners - shift) @ rotation).abs().max())
    spacing = fov_mm / size
    cube = math.ceil(reach / spacing) + 1
    phantom = whole_heart_phantom(
        population, index, size=cube, fov_mm=cube * spacing, parameters=replace(parameters, person=person)
    )
    return HeartSubject(phantom, rotation, shift, size, float(fov_mm), int(rng.integers(2**31)))


def _turn(axis: int, angle: float) -> Tensor:  # (3, 3) float64
    """Counter-clockwise about an axis."""
    c, s = math.cos(angle), math.sin(angle)
    a, b = (axis + 1) % 3, (axis + 2) % 3
    turn = torch.eye(3, dtype=torch.float64)
    turn[a, a] = turn[b, b] = c
    turn[a, b], turn[b, a] = -s, s
    return turn
