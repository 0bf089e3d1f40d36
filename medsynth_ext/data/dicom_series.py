"""A folder of DICOM slices as one volume, on a grid that is even and has right angles."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from medsynth_ext.data.dicom_files import DicomHeader, dicom_files, read_header, read_pixels
from medsynth_ext.data.scan_error import ScanError

__all__ = ["Correction", "DicomVolume", "read_series", "series_geometry"]

_EVEN = 0.02  # share of the distance of slices by which one may be off its place: headers are rounded
_STRAIGHT = 0.1  # pixels by which a slice may be off the line through the first along the normal
_WHOLE = 0.05  # how near to a whole number of slices a gap is that some are missing from


class Correction(UserWarning):
    """The slices of a series do not make a volume as they are and were resampled."""


class DicomVolume(NamedTuple):
    """``voxels`` (X, Y, Z) float32, along rows, along columns, from slice to slice; ``affine`` (4, 4) to RAS mm."""

    voxels: np.ndarray
    affine: np.ndarray


class SeriesGeometry(NamedTuple):
    """Headers from the first to the last slice along the normal, and where the slices lie.

    ``axes`` (3, 3) has the directions along a row, down a column and of the normal (LPS) as rows; ``offsets`` (N, 3) is
    how far every slice lies from the first along these, in mm.
    """

    headers: list[DicomHeader]
    axes: np.ndarray
    offsets: np.ndarray

    @property
    def step_mm(self) -> float:
        """The usual distance of two slices along the normal."""
        if len(self.headers) == 1:
            return self.headers[0].thickness_mm or 1.0
        return float(np.median(np.diff(self.offsets[:, 2])))

    @property
    def even(self) -> bool:
        """Whether all slices are equally far apart."""
        places = self.offsets[:, 2]
        return bool(np.abs(places - np.linspace(0, places[-1], len(places))).max() <= _EVEN * self.step_mm)

    @property
    def straight(self) -> bool:
        """Whether the first pixels of all slices lie on a line along the normal."""
        row_mm, column_mm = self.headers[0].spacing_mm or (1.0, 1.0)
        return bool((np.abs(self.offsets[:, :2]) <= _STRAIGHT * np.array([column_mm, row_mm])).all())

    @property
    def tilt_degrees(self) -> float:
        """Angle between the normal and the line from the first slice to the last."""
        across = float(np.linalg.norm(self.offsets[-1, :2]))
        return float(np.degrees(np.arctan2(across, self.offsets[-1, 2]))) if len(self.headers) > 1 else 0.0


def read_series(source: str | os.PathLike | Sequence[str | os.PathLike]) -> DicomVolume:
    """Read the slices of one series, in whatever order they are, in Hounsfield units where they are CT.

    A tilted gantry, slices that are shifted against each other and slices that are not equally far apart are corrected
    by linear interpolation, with a :class:`Correction` that says so: to right angles on a grid that holds all slices,
    and to the usual distance. What no slice covers gets the lowest value of the series.

    Args:
        source: a folder whose DICOM files are one series, one file, or the files themselves.

    Raises:
        ScanError: for a folder with no or more than one series, files that are no slices, slices that do not fit each
            other, lie at one place or are missing.
    """
    name, files = _files(source)
    geometry = series_geometry([read_header(path) for path in files], name)
    first = geometry.headers[0]
    assert first.spacing_mm is not None
    assert first.position_mm is not None
    slices = np.stack([read_pixels(header.path) for header in geometry.headers])  # (Z, Y, X)
    step, start = geometry.step_mm, np.zeros(3)
    if len(slices) > 1 and geometry.even:
        step = float(geometry.offsets[-1, 2]) / (len(slices) - 1)
    if not (geometry.even and geometry.straight):
        warnings.warn(_sentence(name, geometry), Correction, stacklevel=2)
        slices, start, step = _corrected(slices, geometry)
    lps = np.eye(4)
    lps[:3, :3] = geometry.axes.T * [first.spacing_mm[1], first.spacing_mm[0], step]
    lps[:3, 3] = first.position_mm + start @ geometry.axes
    return DicomVolume(np.ascontiguousarray(slices.transpose(2, 1, 0)), np.diag([-1.0, -1, 1, 1]) @ lps)


def series_geometry(headers: Sequence[DicomHeader], name: str) -> SeriesGeometry:
    """Check that headers are those of one volume, and tell where its slices lie.

    Args:
        headers: of all files, in any order.
        name: of the folder, for the messages.

    Raises:
        ScanError: as :func:`read_series` does.
    """
    _one_series(headers, name)
    first = headers[0]
    for header in headers:
        _is_slice(header)
        for what, a, b in (
            ("rows and columns", first.size, header.size),
            ("distances of pixels", first.spacing_mm, header.spacing_mm),
            ("directions", first.orientation, header.orientation),
        ):
            if not np.allclose(a, b, rtol=1e-4, atol=1e-3):  # type: ignore[arg-type]
                raise ScanError(
                    f"the slices in {name} must have the same {what}: {first.path.name} has {_short(a)}, "
                    f"{header.path.name} has {_short(b)}; is a localiser among them?"
                )
    assert first.orientation is not None
    row, column = first.orientation
    axes = np.stack([row, column, np.cross(row, column)])
    placed = sorted(((axes @ header.position_mm, header) for header in headers), key=lambda pair: pair[0][2])
    offsets = np.stack([place for place, _ in placed])
    geometry = SeriesGeometry([header for _, header in placed], axes, offsets - offsets[0])
    _none_double_or_missing(geometry, name)
    return geometry


def _files(source: str | os.PathLike | Sequence[str | os.PathLike]) -> tuple[str, list[Path]]:
    if not isinstance(source, str | os.PathLike):
        files = [Path(path) for path in source]
        return (str(files[0].parent) if files else "the list"), files
    files = dicom_files(source) if Path(source).is_dir() else [Path(source)]
    if not files:
        raise ScanError(f"no DICOM file in {source}: wanted the slices of one series (no sub-folders)")
    return str(source), files


def _one_series(headers: Sequence[DicomHeader], name: str) -> None:
    if not headers:
        raise ScanError(f"{name} holds no DICOM image: wanted the slices of one series")
    counts: dict[tuple[str, str], int] = {}
    for header in headers:
        key = header.series, header.about
        counts[key] = counts.get(key, 0) + 1
    if len({series for series, _ in counts}) > 1:
        found = ", ".join(f"{about or series} ({count} files)" for (series, about), count in list(counts.items())[:4])
        raise ScanError(
            f"{name} must hold one series, got {len({series for series, _ in counts})}: {found}; put every series into "
            "a folder of its own"
        )


def _is_slice(header: DicomHeader) -> None:
    if header.size[2] != 1:
        raise ScanError(f"{header.path} must be one slice, got {header.size[2]} frames in one file (enhanced DICOM)")
    if header.channels != 1:
        raise ScanError(f"{header.path} must have one value per pixel, got {header.channels}: a colour picture")
    for what, value in (
        ("its position (ImagePositionPatient)", header.position_mm),
        ("its directions (ImageOrientationPatient)", header.orientation),
        ("the distance of its pixels (PixelSpacing)", header.spacing_mm),
    ):
        if value is None:
            raise ScanError(f"{header.path} does not tell {what}: wanted a slice with a place in the patient")
    if not all(s > 0 for s in header.spacing_mm or ()):
        raise ScanError(f"{header.path} must have pixels of a positive size, got {header.spacing_mm} mm")


def _none_double_or_missing(geometry: SeriesGeometry, name: str) -> None:
    """Refuse two slices at one place, and gaps where slices must have been."""
    gaps, headers = np.diff(geometry.offsets[:, 2]), geometry.headers
    for k, gap in enumerate(gaps):
        if gap <= 1e-3 or gap < 0.01 * geometry.step_mm:
            raise ScanError(
                f"{name} has two images at one place, {headers[k].path.name} and {headers[k + 1].path.name}: wanted "
                "one volume, not several echoes, times or phases"
            )
    for k, gap in enumerate(gaps):
        around = [gaps[i] for i in (k - 1, k + 1) if 0 <= i < len(gaps)]
        usual = min(around, default=gap)
        count = gap / usual
        lonely = all(g < 1.5 * usual for g in around) and abs(count - round(count)) < _WHOLE * count
        if count > 1.5 and (lonely or _skipped(headers, k)):
            raise ScanError(
                f"{name} lacks slices between {headers[k].path.name} and {headers[k + 1].path.name}: they are "
                f"{gap:.2f} mm apart where {usual:.2f} mm are usual"
            )


def _skipped(headers: Sequence[DicomHeader], k: int) -> bool:
    """Whether the numbers of the instances leave some out between slice k and the next, and not everywhere."""
    numbers = [header.number for header in headers]
    if None in numbers:
        return False
    steps = np.abs(np.diff(np.array(numbers, dtype=float)))
    return bool(steps[k] > 1 and steps.min() == 1)


def _sentence(name: str, geometry: SeriesGeometry) -> str:
    found, done = [], []
    if not geometry.straight:
        found.append(
            f"its slices are shifted against each other (gantry tilted by {geometry.tilt_degrees:.1f} degrees)"
        )
        done.append("to right angles")
    if not geometry.even:
        gaps = np.diff(geometry.offsets[:, 2])
        found.append(f"its slices are {gaps.min():.2f} to {gaps.max():.2f} mm apart")
        done.append(f"to {_even_step(geometry)[0]:.2f} mm")
    return f"{name} was resampled {' and '.join(done)}, and results lie on that grid: {' and '.join(found)}"


def _even_step(geometry: SeriesGeometry) -> tuple[float, int]:
    """Distance of the slices of an even grid from the first to the last slice, and their number."""
    length = float(geometry.offsets[-1, 2])
    count = max(2, round(length / geometry.step_mm) + 1)
    return length / (count - 1), count


def _corrected(
    slices: np.ndarray,  # (Z, Y, X)
    geometry: SeriesGeometry,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Slices on an even grid with right angles, the place of its first voxel along the axes, distance of slices."""
    spacing = geometry.headers[0].spacing_mm
    assert spacing is not None
    pixel = np.array([spacing[1], spacing[0]])
    low = geometry.offsets[:, :2].min(0)
    shifts = (geometry.offsets[:, :2] - low) / pixel  # (Z, 2) pixels along x, y
    wider = np.ceil(shifts.max(0) - 1e-6).astype(int)
    fill = float(slices.min())
    padded = np.pad(slices, ((0, 0), (0, wider[1]), (0, wider[0])), constant_values=fill)
    for k, (x, y) in enumerate(shifts):
        if x or y:
            padded[k] = ndimage.shift(padded[k], (y, x), order=1, mode="constant", cval=fill)
    step, count = _even_step(geometry)
    if not geometry.even:
        places = geometry.offsets[:, 2]
        wanted = np.minimum(np.arange(count) * step, places[-1])
        below = np.clip(np.searchsorted(places, wanted, side="right") - 1, 0, len(places) - 2)
        share = ((wanted - places[below]) / (places[below + 1] - places[below])).astype(np.float32)[:, None, None]
        padded = padded[below] * (1 - share) + padded[below + 1] * share
    return padded, np.array([low[0], low[1], 0.0]), step


def _short(value: object) -> str:
    return str(np.round(np.asarray(value, dtype=float), 4).tolist())
