"""A flat picture of tissue that cameras look at: colour, height and gloss, painted stroke by stroke."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from medsynth_ext.phantoms.shapes import Waves

__all__ = ["Canvas", "bezier", "stroke_distance"]

Colour = Sequence[float] | np.ndarray
_WHOLE = (slice(None), slice(None))


def bezier(nodes: Sequence[Sequence[float] | np.ndarray] | np.ndarray, count: int) -> np.ndarray:  # (count, 2)
    """Points along a cubic curve with the four given control points ``(y, x)``.

    >>> bezier([(0, 0), (0, 1), (0, 2), (0, 3)], 4)[:, 1].round(6).tolist()
    [0.0, 1.0, 2.0, 3.0]
    """
    t = np.linspace(0, 1, count)[:, None]
    a, b, c, d = (np.asarray(node, dtype=float) for node in nodes)
    return (1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t**2 * c + t**3 * d


def stroke_distance(
    y: Tensor, x: Tensor, line: np.ndarray, radius: np.ndarray
) -> tuple[Tensor, Tensor]:  # both of the shape of y
    """Depth below the edge of a chain of segments with radii at its nodes, and the length along it to the nearest one.

    Args:
        y: rows.
        x: columns.
        line: nodes (N, 2) as ``(y, x)``, N at least 2.
        radius: (N,).

    >>> line = np.array([[0, 0], [0, 4.0]])
    >>> depth, along = stroke_distance(torch.zeros(1), torch.ones(1), line, np.array([2.0, 2.0]))
    >>> depth.item(), along.item()
    (2.0, 1.0)
    """
    best = torch.full_like(y, -math.inf)
    along = torch.zeros_like(y)
    walked = 0.0
    for (ay, ax), (by, bx), ra, rb in zip(line[:-1], line[1:], radius[:-1], radius[1:], strict=True):
        dy, dx = by - ay, bx - ax
        length = math.hypot(dy, dx)
        t = ((y - ay) * dy + (x - ax) * dx).mul_(1 / max(length * length, 1e-9)).clamp_(0, 1)
        distance = ((y - ay - t * dy) ** 2).add_((x - ax - t * dx) ** 2).sqrt_()
        depth = ra + (rb - ra) * t - distance
        along = torch.where(depth > best, walked + t * length, along)
        best = torch.maximum(best, depth)
        walked += length
    return best, along


class Canvas:
    """Tissue seen from above, in reference pixels (those of a picture 512 wide) around the origin.

    Attributes:
        colour: (3, H, W).
        height: (H, W) towards the viewer, reference pixels.
        gloss: (H, W) strength of highlights.

    Args:
        half: reach ``(y, x)`` from the origin.
        scale: pixels of the canvas to one reference pixel.
    """

    def __init__(self, half: tuple[float, float], scale: float) -> None:
        rows, columns = (2 * math.ceil(h * scale) + 1 for h in half)
        self.scale = scale
        self.half = ((rows - 1) / 2 / scale, (columns - 1) / 2 / scale)
        self.y = torch.linspace(-self.half[0], self.half[0], rows)[:, None].expand(rows, columns)
        self.x = torch.linspace(-self.half[1], self.half[1], columns)[None].expand(rows, columns)
        self.colour = torch.zeros(3, rows, columns)
        self.height = torch.zeros(rows, columns)
        self.gloss = torch.zeros(rows, columns)

    def copy(self) -> Canvas:
        """The same picture to go on with."""
        other = Canvas.__new__(Canvas)
        other.__dict__.update(self.__dict__)
        other.colour, other.height, other.gloss = self.colour.clone(), self.height.clone(), self.gloss.clone()
        return other

    def waves(self, rng: np.random.Generator, count: int, wavelength: tuple[float, float]) -> Tensor:  # (H, W)
        """A random smooth field with a root mean square of one."""
        return Waves.draw(rng, count, wavelength).value(self.x, self.y, torch.zeros_like(self.x))

    def share(self, depth: Tensor, soft: float = 0.0) -> Tensor:
        """How much of each pixel lies inside (depth positive); the edge is a pixel wide, or ``soft``."""
        return (depth / max(soft, 1 / self.scale) + 0.5).clamp_(0, 1)

    def blend(self, share: Tensor, colour: Colour | Tensor, region: tuple[slice, slice] = _WHOLE) -> None:
        """Replace the share ``share`` of the colour in a region."""
        target = self.colour[:, region[0], region[1]]
        paint = torch.as_tensor(colour, dtype=torch.float32)
        paint = paint[:, None, None] if paint.ndim == 1 else paint
        target.add_(share * (paint - target))

    def around(self, low: Sequence[float], high: Sequence[float]) -> tuple[slice, slice]:
        """Pixels between two corners ``(y, x)``; empty outside the canvas."""
        first = [math.floor((a + h) * self.scale) for a, h in zip(low, self.half, strict=True)]
        last = [math.ceil((b + h) * self.scale) + 1 for b, h in zip(high, self.half, strict=True)]
        return slice(max(first[0], 0), max(last[0], 0)), slice(max(first[1], 0), max(last[1], 0))

    def spot(self, at: Sequence[float], radius: float, share: float, colour: Colour, *, dent: float = 0.0) -> None:
        """A soft round spot, ``dent`` reference pixels deep."""
        region = self.around([v - 3 * radius for v in at], [v + 3 * radius for v in at])
        distance2 = (self.y[region] - at[0]) ** 2 + (self.x[region] - at[1]) ** 2
        bell = torch.exp(-distance2 / (2 * (radius / 1.5) ** 2))
        self.blend(share * bell, colour, region)
        self.height[region] -= dent * bell

    def stroke(
        self,
        line: np.ndarray,  # (N, 2) as (y, x)
        radius: float | np.ndarray,
        colour: Colour,
        *,
        twist: float = 0.0,
        gloss: float = 0.2,
        shadow: float = 0.0,
        rise: float = 0.5,
    ) -> None:
        """A round strand along a line, lit from above.

        Args:
            line: nodes.
            radius: of the strand in reference pixels, one for all or one a node.
            colour: of its middle.
            twist: darkness of the grooves of a braid, 0 to 1.
            gloss: strength of highlights.
            shadow: darkness of the shadow beside it, 0 to 1.
            rise: height of the strand over its radius.
        """
        radii = np.broadcast_to(np.asarray(radius, dtype=float), len(line))
        reach = float(radii.max()) + 3
        region = self.around(line.min(0) - reach, line.max(0) + reach)
        y, x = self.y[region], self.x[region]
        if not y.numel():
            return
        if shadow:
            depth, _ = stroke_distance(y - 1.2, x - 0.8, line, radii * 1.3)
            self.blend(shadow * self.share(depth, 2.0), (0.12, 0.04, 0.04), region)
        depth, along = stroke_distance(y, x, line, radii)
        share = self.share(depth)
        roundness = (depth / float(radii.max())).clamp_(0, 1)
        light = 0.62 + 0.38 * roundness
        if twist:
            light = light * (1 - twist * (0.5 + 0.5 * torch.sin(along * 2.4)))
        self.blend(share, light * torch.as_tensor(colour, dtype=torch.float32)[:, None, None], region)
        self.height[region] += rise * share * roundness.sqrt() * float(radii.max())
        self.gloss[region] += share * (gloss - self.gloss[region])

    def planes(self) -> Tensor:  # (6, H, W)
        """Colour, slope of the height along rows and columns, and gloss, as a camera samples them."""
        slope_y, slope_x = torch.gradient(self.height, spacing=1 / self.scale)
        return torch.cat([self.colour.clamp(0, 1), torch.stack([slope_y, slope_x, self.gloss])])
