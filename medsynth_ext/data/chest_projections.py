"""Radiographs of a real chest CT under random poses, with the centroids of its labelled bones as exact landmarks."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage

from medsynth_ext import ops
from medsynth_ext.data.scan_reader import scan_image
from medsynth_ext.data.scans import ScanError
from medsynth_ext.phantoms.painter import Grid
from medsynth_ext.phantoms.xray_film import Exposure, Film, XrayPhantom, rotation, take_radiograph

__all__ = ["ChestProjections"]

WATER_PER_MM, BONE_HU, BONE_GAIN = 0.0206, 200.0, 1.6  # near 60 keV
FOV_MM = 420.0
_VELOCITY_STEP = 6  # the velocity lives on a grid this many times coarser


class ChestProjections:
    """A chest CT that is projected onto a film.

    Axes are those of a film as it hangs: x to the patient's left, y to the front and to the detector, z up.

    Args:
        ct: NIfTI file in HU, of any orientation.
        labels: NIfTI file on the same grid, a number per structure.
        structures: CSV with the columns ``id`` and ``structure``; ``structures.csv`` beside the labels by default.
        prefixes: structures whose names begin so are landmarks, unless the scan cuts them off.
        voxel_mm: of the copy that is projected.

    Raises:
        FileNotFoundError: when a file is not there.
        ScanError: for grids that differ, or labels without a whole structure of that name.
    """

    def __init__(
        self,
        ct: str | os.PathLike,
        labels: str | os.PathLike,
        *,
        structures: str | os.PathLike | None = None,
        prefixes: Sequence[str] = ("vertebrae_", "rib_", "clavicula_"),
        voxel_mm: float = 2.0,
    ) -> None:
        scan, mask = (nib.as_closest_canonical(scan_image(path)) for path in (ct, labels))
        if scan.shape != mask.shape or not np.allclose(scan.affine[:, :3], mask.affine[:, :3], atol=1e-3):
            raise ScanError(f"{labels} must lie on the grid of {ct}, {scan.shape}, got {mask.shape}")
        step = np.asarray(scan.header.get_zooms()[:3], dtype=float)
        names = _read_structures(Path(structures) if structures else Path(labels).with_name("structures.csv"))
        wanted = {number: name for number, name in names.items() if name.startswith(tuple(prefixes))}
        # From right-anterior-superior to left-anterior-superior, in mm around the middle of the scan.
        numbers = np.asarray(mask.dataobj)[::-1]
        found = _centroids(numbers, wanted)
        if not found:
            raise ScanError(f"{labels} holds no whole structure named {' or '.join(prefixes)}*")
        self.names = tuple(found)
        middle = (np.array(scan.shape) - 1) / 2
        self.places_mm = (np.array(list(found.values())) - middle) * step  # (N, 3)
        hu = np.asarray(scan.dataobj, dtype=np.float32)[::-1]
        shape = [max(1, round(n * s / voxel_mm)) for n, s in zip(scan.shape, step, strict=True)]
        first = -(np.array(shape) - 1) / 2 * voxel_mm
        self.grid = Grid((first[0], first[1], first[2]), (shape[0], shape[1], shape[2]), voxel_mm)
        self.values = torch.from_numpy(_attenuation(_resampled(hu, step, self.grid)))  # (X, Y, Z) in 1/mm

    @torch.no_grad()
    def radiograph(self, seed: int, *, size: int = 512, bend_mm: float = 5.0, nuisances: bool = True) -> XrayPhantom:
        """Project the chest in a random pose, a pure function of the arguments.

        Turned by about 6 degrees about every axis, moved by about 10 mm, 1.5 to 1.8 m from the tube; anatomy and
        landmarks are bent together by a smooth flow.

        Args:
            seed: addresses pose, flow and exposure.
            size: pixels per side; the field of view is 420 mm on the detector.
            bend_mm: strength of the flow; 0 keeps the person's shape.
            nuisances: ``False`` leaves out scatter, noise, collimation, marker and the display's freedom.
        """
        rng = np.random.default_rng([seed, 1603])
        turn = rotation(x_deg=rng.normal(0, 5), y_deg=rng.normal(0, 4), z_deg=rng.normal(0, 7))
        film = Film(
            size,
            FOV_MM,
            source_detector_mm=float(rng.uniform(1500, 1800)),
            behind_mm=float(rng.uniform(150, 190)),
            turn=turn,
            shift_mm=rng.normal(0, 10, 3) * (1, 0, 1),
        )
        values, places = (self.values, self.places_mm) if bend_mm == 0 else self._bent(rng, bend_mm)
        integrals = film.line_integrals(values, self.grid)
        exposure = Exposure(photons=(5e4, 1e6), flatten=(0.3, 0.7), letter="R" if seed % 2 else "L")
        return take_radiograph(integrals, places, self.names, seed, film=film, exposure=exposure, nuisances=nuisances)

    def _bent(self, rng: np.random.Generator, bend_mm: float) -> tuple[torch.Tensor, np.ndarray]:
        """Anatomy and landmarks along the flow of a smooth random velocity."""
        voxel = self.grid.spacing_mm
        coarse = [n // _VELOCITY_STEP + 2 for n in self.grid.shape]
        noise = torch.from_numpy(rng.standard_normal((1, 3, *coarse), dtype=np.float32))
        smooth = ops.gaussian_blur(noise, 45.0 / (_VELOCITY_STEP * voxel))
        velocity = smooth * (bend_mm / voxel / smooth.std())
        velocity = torch.nn.functional.interpolate(velocity, size=self.grid.shape, mode="trilinear", align_corners=True)
        moved = ops.warp(self.values[None, None], ops.integrate_svf(velocity), border="zeros")[0, 0]
        # The image shows at x what lies at x + u(x): landmarks go along the inverse.
        back = ops.integrate_svf(velocity, inverse=True)
        index = torch.from_numpy((self.places_mm - self.grid.first_mm) / voxel).float()[None]
        places = ops.warp_points(index, back, direction="forward")[0].double().numpy()
        return moved, places * voxel + np.array(self.grid.first_mm)


def _read_structures(path: Path) -> dict[int, str]:
    """Names by number."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        if not {"id", "structure"} <= set(rows.fieldnames or ()):
            raise ScanError(f"{path} must have the columns id and structure, got {', '.join(rows.fieldnames or ())}")
        return {int(row["id"]): row["structure"] for row in rows}


def _centroids(numbers: np.ndarray, wanted: dict[int, str]) -> dict[str, np.ndarray]:
    """Centroids in voxels of the structures that do not touch the border, by name."""
    boxes = ndimage.find_objects(numbers, max_label=max(wanted, default=0))
    found = {}
    for number, name in wanted.items():
        box = boxes[number - 1] if number <= len(boxes) else None
        if box is None or any(s.start == 0 or s.stop == n for s, n in zip(box, numbers.shape, strict=True)):
            continue
        centre = ndimage.center_of_mass(numbers[box] == number)
        found[name] = np.array([c + s.start for c, s in zip(centre, box, strict=True)])
    return found


def _resampled(hu: np.ndarray, step: np.ndarray, grid: Grid) -> np.ndarray:
    """Onto the grid, averaged where it is coarser."""
    scale = grid.spacing_mm / step
    sigma = (0.4 * np.maximum(scale - 1, 0)).tolist()
    smooth = ops.gaussian_blur(torch.from_numpy(np.ascontiguousarray(hu))[None, None], sigma)[0, 0].numpy()
    offset = (np.array(hu.shape) - 1) / 2 - scale * (np.array(grid.shape) - 1) / 2
    return np.asarray(
        ndimage.affine_transform(smooth, scale, offset, grid.shape, order=1, mode="constant", cval=-1000.0)
    )


def _attenuation(hu: np.ndarray) -> np.ndarray:
    """1/mm at the energy of a radiograph, at which bone weighs more than at the scanner's; the air nothing."""
    hu = np.clip(hu, -1000, 2500)
    relative = hu / 1000 + 1 + (BONE_GAIN - 1) * np.clip(hu - BONE_HU, 0, None) / 1000
    return np.asarray(WATER_PER_MM * np.where(hu < -940, 0.0, relative), dtype=np.float32)
