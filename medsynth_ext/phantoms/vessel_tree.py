"""Trees of vessels that fill a region: branching by splitting the region, radii by Murray's law."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

__all__ = ["VesselTree", "grow_tree"]

_STEP = 0.4  # of the way from a fork to the middle of the region that a branch supplies
_WIDEST_DEG = 65.0  # between a branch and its parent


@dataclass(frozen=True)
class VesselTree:
    """Forks, joined to their parents by straight pieces. The first row is the root, where the tree begins.

    Args:
        places: (N, 3) mm.
        parents: (N,) row of the parent, smaller than the own; -1 for the root.
        leaves: (N,) number of ends that each piece supplies.
        tip_mm: radius of a piece that supplies one end.
    """

    places: np.ndarray
    parents: np.ndarray
    leaves: np.ndarray
    tip_mm: float

    @cached_property
    def radii(self) -> np.ndarray:  # (N,) mm
        """Murray's law: the cube of a radius is the sum of its children's cubes, so it goes with the ends."""
        return self.tip_mm * np.cbrt(self.leaves)

    @cached_property
    def directions(self) -> np.ndarray:  # (N, 3)
        """Unit vectors along the piece that ends in each fork; the root takes that of its first child."""
        along = self.places - self.places[np.maximum(self.parents, 0)]
        along[0] = self.places[int(np.argmax(self.parents == 0))] - self.places[0]
        return np.asarray(along / np.linalg.norm(along, axis=1, keepdims=True).clip(1e-9))

    def pieces(self, *, thinnest_mm: float = 0.0, shift_mm: float = 0.0, scale: float = 1.0) -> np.ndarray:
        """Round cones along gently bent branches, two a branch.

        Args:
            thinnest_mm: branches below this radius are left out, with all that hang on them.
            shift_mm: runs beside the tree at this distance from its surface, as an airway beside its artery.
            scale: of the radii that are written.

        Returns:
            (P, 8): both ends of each cone, ``x, y, z, radius``.
        """
        rows = np.flatnonzero((self.parents >= 0) & (self.radii >= thinnest_mm))
        places = self.places
        if shift_mm:
            aside = np.cross(self.directions, (0.25, 0.35, 0.9))
            aside /= np.linalg.norm(aside, axis=1, keepdims=True).clip(1e-9)
            places = places + aside * (self.radii * (1 + scale) + shift_mm)[:, None]
        start, end = places[self.parents[rows]], places[rows]
        length = np.linalg.norm(end - start, axis=1, keepdims=True)
        middle = (start + end) / 2 + (self.directions[self.parents[rows]] - self.directions[rows]) * length / 8
        radius = scale * self.radii[rows, None]
        first = np.minimum(1.12 * radius, scale * self.radii[self.parents[rows], None])
        halves = ([start, first, middle, (first + radius) / 2], [middle, (first + radius) / 2, end, radius])
        return np.concatenate([np.concatenate(half, 1) for half in halves])


def grow_tree(
    rng: np.random.Generator,
    ends: np.ndarray,  # (M, 3) mm
    *,
    root: tuple[float, float, float],
    heading: tuple[float, float, float],
    root_mm: float,
    groups: np.ndarray | None = None,  # (M,) int
) -> VesselTree:
    """Grow a tree from ``root`` so that one branch comes near each of ``ends``.

    The ends of a branch are divided by the plane that holds its direction and halves them along their greatest
    extent; each half gets a branch that goes some of the way to its middle (Tawhai et al., J Appl Physiol 2004),
    until a branch has a single end. The forks of a generation are all made at once.

    Args:
        rng: of the unevenness of the divisions.
        ends: where the thinnest branches end.
        root: where the tree begins, in mm.
        heading: the direction in which it leaves; need not be of length one.
        root_mm: radius of the root; all others follow from it.
        groups: the number of the lobe of each end: lobes are parted first.

    Raises:
        ValueError: for no ends.
    """
    if len(ends) == 0:
        raise ValueError("ends must hold at least one place, got none")
    owner = np.zeros(len(ends), dtype=int)  # of every end: the row of its youngest branch
    lobes = np.zeros(len(ends), dtype=int) if groups is None else np.unique(groups, return_inverse=True)[1].ravel()
    aim = np.asarray(heading, dtype=float)
    places, parents, leaves = [np.array([root], dtype=float)], [np.array([-1])], [np.array([len(ends)])]
    directions = [aim[None] / np.linalg.norm(aim)]
    alive, total = np.arange(len(ends)), 1
    while len(alive):
        at, way = np.concatenate(places), np.concatenate(directions)
        side = _sides(rng, ends[alive], owner[alive], lobes[alive], way)
        keys, branch, count = np.unique(2 * owner[alive] + side, return_inverse=True, return_counts=True)
        branch, parent = branch.ravel(), keys // 2
        middle = np.stack([np.bincount(branch, ends[alive, k]) for k in range(3)], 1) / count[:, None]
        step = middle - at[parent]
        length = np.linalg.norm(step, axis=1, keepdims=True)
        last = count[:, None] == 1
        step = np.where(last, step, length * _bent(step / length.clip(1e-9), way[parent]))
        step *= np.where(last, 1.0, _STEP)
        places.append(at[parent] + step)
        parents.append(parent)
        leaves.append(count)
        directions.append(step / np.linalg.norm(step, axis=1, keepdims=True).clip(1e-9))
        owner[alive] = total + branch
        total += len(keys)
        alive = alive[count[branch] > 1]
    tip_mm = root_mm / len(ends) ** (1 / 3)
    return VesselTree(np.concatenate(places), np.concatenate(parents), np.concatenate(leaves), tip_mm)


def _sides(
    rng: np.random.Generator, ends: np.ndarray, owner: np.ndarray, lobes: np.ndarray, way: np.ndarray
) -> np.ndarray:  # (M,) 0 or 1
    """The branch of its fork that each end goes with."""
    rows, first, group = np.unique(owner, return_index=True, return_inverse=True)
    group = group.ravel()
    count = np.bincount(group)
    lowest = np.full(len(rows), np.iinfo(int).max)
    np.minimum.at(lowest, group, lobes)
    highest = np.zeros(len(rows), dtype=int)
    np.maximum.at(highest, group, lobes)
    middle = np.stack([np.bincount(group, ends[:, k]) for k in range(3)], 1) / count[:, None]
    off = ends - middle[group]
    along = way[rows]
    off = off - (off * along[group]).sum(1, keepdims=True) * along[group]
    spread = np.stack([np.stack([np.bincount(group, off[:, i] * off[:, j]) for j in range(3)], 1) for i in range(3)], 1)
    normal = np.linalg.eigh(spread)[1][:, :, 2]
    height = (off * normal[group]).sum(1)
    deviation = np.sqrt(np.bincount(group, height**2) / count)
    uneven = 0.35 * deviation * rng.uniform(-1, 1, len(rows))
    side = (height > uneven[group]).astype(int)
    ones = np.bincount(group, side)
    side[first[(ones == 0) | (ones == count)]] ^= 1  # where the plane has missed, one end parts from the others
    parted = highest > lowest
    return np.where(parted[group], (lobes > lowest[group]).astype(int), side)


def _bent(step: np.ndarray, way: np.ndarray) -> np.ndarray:
    """Unit vectors, turned towards ``way`` where they leave it by too wide an angle."""
    limit = np.radians(_WIDEST_DEG)
    cosine = (step * way).sum(1, keepdims=True)
    across = step - cosine * way
    across /= np.linalg.norm(across, axis=1, keepdims=True).clip(1e-9)
    return np.asarray(np.where(cosine < np.cos(limit), np.cos(limit) * way + np.sin(limit) * across, step))
