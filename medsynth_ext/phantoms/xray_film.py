"""From anatomy on a grid to a radiograph: Beer and Lambert's law, then what tube, detector and display do.

Millimetres are x to the right of the film, y towards the detector, z up; rows of the film run downwards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medsynth_ext import ops
from medsynth_ext.ops import CTGeometry
from medsynth_ext.phantoms.painter import Grid

__all__ = ["Exposure", "Film", "XrayPhantom", "develop", "rotation", "take_radiograph"]

METAL_PER_MM = 0.5
_NEPERS_OF_A_LETTER = 4.0  # 8 mm of metal: nothing passes
_LETTERS = {
    "L": (((0.0, 1.0), (0.0, 0.0)), ((0.0, 0.0), (0.6, 0.0))),
    "R": (
        ((0.0, 0.0), (0.0, 1.0)),
        ((0.0, 1.0), (0.55, 0.95)),
        ((0.55, 0.95), (0.55, 0.55)),
        ((0.55, 0.55), (0.0, 0.5)),
        ((0.25, 0.5), (0.65, 0.0)),
    ),
}


@dataclass(frozen=True)
class XrayPhantom:
    """A radiograph with its landmarks.

    Args:
        image: (1, H, W) float32 in [0, 1].
        points: (N, 2) float32, (y, x) in index space, integers are pixel centres: the exact projections.
        visible: (N,) bool, whether the point lies in the picture and in the exposed field.
        names: of the points.
        spacing_mm: pixel size on the detector.
    """

    image: Tensor
    points: Tensor
    visible: Tensor
    names: tuple[str, ...]
    spacing_mm: float


def rotation(*, x_deg: float = 0.0, y_deg: float = 0.0, z_deg: float = 0.0) -> np.ndarray:  # (3, 3)
    """Right-handed rotation about x, then y, then z."""
    out = np.eye(3)
    for axis, angle in enumerate((x_deg, y_deg, z_deg)):
        c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        turn = np.eye(3)
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn[i, i], turn[i, j], turn[j, i], turn[j, j] = c, -s, s, c
        out = turn @ out
    return out


class Film:
    """A square detector and the rays that reach it; the origin of the anatomy is projected onto its centre.

    Args:
        size: pixels per side.
        fov_mm: side in mm.
        source_detector_mm: distance of a point source; parallel rays when ``None``.
        behind_mm: distance of the detector behind the origin.
        turn: (3, 3) rotation of the anatomy about its origin.
        shift_mm: (3,) then this.
    """

    def __init__(
        self,
        size: int,
        fov_mm: float,
        *,
        source_detector_mm: float | None = None,
        behind_mm: float = 0.0,
        turn: np.ndarray | None = None,
        shift_mm: np.ndarray | None = None,
    ) -> None:
        if size < 8:
            raise ValueError(f"size must be at least 8 pixels, got {size}")
        self.size, self.spacing_mm = size, fov_mm / size
        rows = [[0.0, 1.0, 0.0], [0.0, behind_mm, 0.0], [self.spacing_mm, 0.0, 0.0], [0.0, 0.0, -self.spacing_mm]]
        places = [1]  # the others are directions
        self.kind = "parallel3d"
        if source_detector_mm is not None:
            self.kind, rows[0], places = "cone3d", [0.0, behind_mm - source_detector_mm, 0.0], [0, 1]
        vectors = np.array(rows)
        vectors[places] -= 0.0 if shift_mm is None else shift_mm
        # The film moves around the anatomy, so that nothing has to be resampled.
        vectors = vectors if turn is None else vectors @ turn
        self.vectors = torch.from_numpy(vectors.reshape(1, 12))
        #: how much larger than on the detector the anatomy at the origin is
        self.scale = 1.0 if source_detector_mm is None else 1 - behind_mm / source_detector_mm

    def geometry(self, grid: Grid) -> CTGeometry:
        """The rays through a grid of anatomy."""
        middle = tuple(f + (n - 1) / 2 * grid.spacing_mm for f, n in zip(grid.first_mm, grid.shape, strict=True))
        shape = (grid.shape[2], grid.shape[1], grid.shape[0])
        spacing = (grid.spacing_mm,) * 3
        return CTGeometry(self.kind, self.vectors, (self.size, self.size), shape, spacing, middle)

    def line_integrals(self, values: Tensor, grid: Grid) -> Tensor:  # (H, W)
        """Attenuation (1/mm, axes x, y, z) summed along the rays by the compiled projector."""
        return ops.ct_forward(values.permute(2, 1, 0).contiguous(), self.geometry(grid))[0]

    def project(self, places_mm: np.ndarray) -> np.ndarray:  # (N, 3) to (N, 2), (y, x) in pixels
        """Where points in mm are seen."""
        tiny = CTGeometry(self.kind, self.vectors, (self.size, self.size), (1, 1, 1))
        matrix = tiny.projection_matrices()[0].numpy()
        seen = np.c_[places_mm, np.ones(len(places_mm))] @ matrix.T
        return seen[:, 1::-1] / seen[:, 2:]


@dataclass(frozen=True)
class Exposure:
    """How a film is exposed and shown.

    Args:
        photons: range of the mean count of an unattenuated pixel of 1 mm^2.
        flatten: range of the share of the slow changes that the display takes away.
        letter: L or R, the side marker that lies on the film.
        sided: put it on that side of a patient who faces us; anywhere otherwise.
    """

    photons: tuple[float, float]
    flatten: tuple[float, float]
    letter: str
    sided: bool = True


def take_radiograph(
    integrals: Tensor,  # (H, W) line integrals
    places_mm: np.ndarray,  # (N, 3)
    names: tuple[str, ...],
    seed: int,
    *,
    film: Film,
    exposure: Exposure,
    nuisances: bool = True,
) -> XrayPhantom:
    """The developed film with its landmarks; arguments as for :func:`develop`."""
    points = film.project(places_mm)
    image, visible = develop(integrals, points, seed, film=film, exposure=exposure, nuisances=nuisances)
    return XrayPhantom(image, torch.from_numpy(points).float(), visible, names, film.spacing_mm)


def develop(
    integrals: Tensor,  # (H, W) line integrals
    points: np.ndarray,  # (N, 2) (y, x) in pixels
    seed: int,
    *,
    film: Film,
    exposure: Exposure,
    nuisances: bool = True,
) -> tuple[Tensor, Tensor]:  # (1, H, W) float32 in [0, 1], (N,) bool
    """Expose a film and show it: scatter, uneven tube, collimation, marker, counting and readout noise, window, gamma.

    Args:
        integrals: attenuation along every ray.
        points: landmarks; the exposed field leaves none out on purpose.
        seed: addresses all that is random.
        film: the detector.
        exposure: of the film.
        nuisances: ``False`` gives the logarithm of the intensity alone.
    """
    rng = np.random.default_rng([seed, 4211])
    visible = np.asarray(((points >= -0.5) & (points < film.size - 0.5)).all(1))
    if not nuisances:
        return _window(integrals, 0.0, 1.0)[None], torch.from_numpy(visible)
    mm = 1 / film.spacing_mm  # pixels per mm
    field, inside = _field(points, rng, film, visible)
    metal = _marker(rng, film, exposure.letter, points, exposure.sided)
    tube = _slope(rng, film.size)
    scatter_share = rng.uniform(0.05, 0.3)
    intensity = torch.exp(-(integrals + metal)) * field * tube
    intensity = intensity + scatter_share * _blur(intensity, 25 * mm)
    rate = math.exp(rng.uniform(math.log(exposure.photons[0]), math.log(exposure.photons[1]))) * film.spacing_mm**2
    seen = ops.poisson_noise(-intensity.clamp_min(1e-9).log()[None, None], rate, seed=seed)[0, 0]
    readout = torch.from_numpy(rng.standard_normal(seen.shape, dtype=np.float32))
    seen = seen + rng.uniform(0.0, 0.02) * readout
    exposed = (field > 0.99).float()
    slow = _blur(seen * exposed, 30 * mm) / _blur(exposed, 30 * mm).clamp_min(1e-3)
    seen = seen - rng.uniform(*exposure.flatten) * slow
    low, high = rng.uniform(0.0, 0.02), rng.uniform(0.98, 0.9995)
    shown = _window(seen, low, high, where=exposed > 0) ** math.exp(rng.normal(0, 0.25))
    shown = rng.uniform(0.0, 0.12) + rng.uniform(0.75, 1.0) * shown
    if rng.random() < 0.7:
        shown = shown * exposed  # the display blackens what was not exposed
    if rng.random() < 0.12:  # the other polarity
        shown = 1 - shown
    return shown.clamp(0, 1)[None], torch.from_numpy(visible & inside)


def _blur(image: Tensor, sigma: float) -> Tensor:
    """A wide Gaussian, on a coarse copy where that loses nothing."""
    factor = max(1, int(sigma / 4))
    coarse = torch.nn.functional.avg_pool2d(image[None, None], factor, ceil_mode=True, count_include_pad=False)
    coarse = ops.gaussian_blur(coarse, sigma / factor)
    return torch.nn.functional.interpolate(coarse, size=image.shape, mode="bilinear", align_corners=False)[0, 0]


def _window(image: Tensor, low: float, high: float, *, where: Tensor | None = None) -> Tensor:
    """From the two quantiles of the exposed pixels to 0 and 1."""
    values = image if where is None else image[where]
    values = values.flatten()[:: max(1, values.numel() // 20_000)]
    bottom, top = torch.quantile(values, torch.tensor([low, high])).tolist()
    return ((image - bottom) / max(top - bottom, 1e-6)).clamp(0, 1)


def _pixels(film: Film) -> tuple[Tensor, Tensor]:
    axis = torch.arange(film.size, dtype=torch.float32)
    return axis[:, None], axis[None, :]


def _slope(rng: np.random.Generator, size: int) -> Tensor:
    """The heel of the tube: brighter towards one side."""
    angle, depth = rng.uniform(0, 2 * math.pi), rng.uniform(0.0, 0.25)
    axis = torch.linspace(-1, 1, size)
    return 1 + depth * (math.sin(angle) * axis[:, None] + math.cos(angle) * axis[None, :])


def _field(
    points: np.ndarray, rng: np.random.Generator, film: Film, visible: np.ndarray
) -> tuple[Tensor, np.ndarray]:  # (H, W) in (0, 1], (N,) bool
    """The collimated rectangle around the landmarks, a little turned, its edge half a millimetre soft."""
    if rng.random() < 0.35 or not visible.any():
        return torch.ones(film.size, film.size), np.ones(len(points), bool)
    angle = math.radians(rng.normal(0, 2))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    turned = points @ turn.T
    margin = rng.uniform(8, 45, (2, 2)) / film.spacing_mm
    low, high = turned[visible].min(0) - margin[0], turned[visible].max(0) + margin[1]
    y, x = _pixels(film)
    depth = torch.full((film.size, film.size), math.inf)
    for k in range(2):
        place = turn[k, 0] * y + turn[k, 1] * x
        depth = torch.minimum(depth, torch.minimum(place - low[k], high[k] - place))
    share = (depth * film.spacing_mm / 0.5 + 0.5).clamp(0.004, 1)  # the blades let a little through
    return share, ((turned > low) & (turned < high)).all(1)


def _marker(rng: np.random.Generator, film: Film, letter: str, points: np.ndarray, sided: bool) -> Tensor:  # (H, W)
    """A metal letter near a corner, away from the landmarks."""
    if rng.random() < 0.35:
        return torch.zeros(film.size, film.size)
    height = rng.uniform(10, 18) / film.spacing_mm
    columns = {"R": (0.08,), "L": (0.84,)}[letter] if sided else (0.08, 0.84)
    corners = [(row, column) for row in (0.12, 0.78) for column in columns]
    places = [np.array(c) * film.size + rng.uniform(0, 0.05 * film.size, 2) for c in corners]
    away = [np.linalg.norm(points - p, axis=1).min() + rng.uniform(0, 0.2 * film.size) for p in places]
    top, left = places[int(np.argmax(away))]
    lean = rng.normal(0, 0.12)
    y, x = _pixels(film)
    depth = torch.full((film.size, film.size), -math.inf)
    for (ax, ay), (bx, by) in _LETTERS[letter]:
        start = (top + height * (1 - ay), left + height * (ax + lean * ay))
        step = (height * (ay - by), height * (bx - ax + lean * (by - ay)))
        v, u = y - start[0], x - start[1]
        t = ((v * step[0] + u * step[1]) / (step[0] ** 2 + step[1] ** 2)).clamp(0, 1)
        depth = torch.maximum(depth, 0.09 * height - torch.hypot(v - t * step[0], u - t * step[1]))
    return _NEPERS_OF_A_LETTER * (depth + 0.5).clamp(0, 1)
