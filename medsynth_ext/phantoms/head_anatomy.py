"""The anatomy of the head phantom as a function of points: which tissue is at (x, y, z) of the undeformed head.

Millimetres, x to the right, y forward, z up; the origin is the centre of the cerebrum of an average adult. Sizes follow
the whole-head label maps published with SynthSeg. Structures in pairs are described once, on the right side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medsynth_ext.phantoms.head_parameters import HeadParameters
from medsynth_ext.phantoms.shapes import Waves, ellipsoid_depth, smooth_max, tube_depth

__all__ = ["FAT", "RIGHT_OF", "HeadAnatomy"]

FAT = 5070  # the part of the soft tissue (507) that a renderer shows as fat
RIGHT_OF = {2: 41, 3: 42, 4: 43, 7: 46, 8: 47, 10: 49, 11: 50, 12: 51, 13: 52, 17: 53, 25: 57}

GYRUS_RADIUS_MM, CEREBELLUM_RADIUS_MM = 60.0, 30.0  # radii of the spheres on which the folding waves are defined
HEMISPHERE_CENTRE = (18.0, -4.0, 2.0)
CEREBELLUM_CENTRE = (12.0, -6.0, -46.0)
SKIN_MM, SCALP_FAT_MM = 2.5, 3.5


@dataclass(frozen=True)
class Lesion:
    """One white matter lesion: an ellipsoid, cut to white matter."""

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]


class HeadAnatomy:
    """One undeformed head, drawn from ``rng`` for given sliders; call ``tissues`` with points."""

    def __init__(self, rng: np.random.Generator, parameters: HeadParameters) -> None:
        self.parameters = parameters
        self.cerebral_folds = [Waves.draw(rng, 12, (24.0, 32.0)) for _ in ("left", "right")]
        self.cerebellar_folds = [Waves.draw(rng, 12, (17.0, 23.0)) for _ in ("left", "right")]
        self.skull_waves = Waves.draw(rng, 6, (45.0, 90.0))
        self.fat_waves = Waves.draw(rng, 8, (16.0, 40.0))
        # Row 0 belongs to the left, row 1 to the right: small differences between the sides.
        self.jitter = 1 + parameters.shape_jitter * np.clip(rng.standard_normal((2, 8)), -2, 2)
        self.shift = np.clip(rng.standard_normal((2, 8, 3)), -2, 2) * 15 * parameters.shape_jitter
        self.lesions: tuple[Lesion, ...] = ()
        self.lesions = self._draw_lesions(rng)

    def tissues(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:  # each (P,) -> (P,) int16
        """Tissue of every point: a label value, or ``FAT`` for the fatty part of the soft tissue."""
        out = torch.zeros(x.shape, dtype=torch.int16)
        cranium = self._cranium(x, y, z)
        inside = (self._head(x, y, z, cranium) > 0).nonzero().squeeze(1)
        if inside.numel() == 0:
            return out
        x, y, z, cranium = x[inside], y[inside], z[inside], cranium[inside]
        tissue = self._outer(x, y, z, cranium)
        brain = (cranium > -1).nonzero().squeeze(1)
        tissue[brain] = self._brain(x[brain], y[brain], z[brain], cranium[brain], tissue[brain])
        out[inside] = tissue
        return out

    def _cranium(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """Depth below the inner surface of the skull: positive in the cranial cavity."""
        margin = 2.0 + 2.5 * self.parameters.atrophy
        a = x.abs()
        upper = ellipsoid_depth(x * (1 + 0.0014 * y), y, z, centre=(0, 0, 0), radii=(66.0, 76.0, 64.5))
        occipital = ellipsoid_depth(a, y, z, centre=(0.0, -38.0, -20.0), radii=(58.0, 37.5, 33.5))
        upper = torch.minimum(torch.maximum(upper, occipital), self._base(a, y, z) + 1)
        temporal = ellipsoid_depth(a, y, z, centre=(37.0, 0.0, -20.0), radii=(28.0, 42.0, 25.0))
        posterior = ellipsoid_depth(a, y, z, centre=(17.0, -17.0, -50.0), radii=(36.0, 30.0, 27.0))
        basal = tube_depth(x, y, z, nodes=[(0, 6, -16, 17), (0, 9, -38, 15), (0, 4, -70, 9)])
        cavity = smooth_max(smooth_max(upper, temporal, 6.0), smooth_max(posterior, basal, 5.0), 6.0)
        return cavity + margin

    def _head(self, x: Tensor, y: Tensor, z: Tensor, cranium: Tensor) -> Tensor:
        """Depth below the skin."""
        a = x.abs()
        face = ellipsoid_depth(a, y, z, centre=(18.0, 36.0, -56.0), radii=(54.0, 60.0, 82.0))
        neck = ellipsoid_depth(x, y, z, centre=(0.0, 14.0, -110.0), radii=(66.0, 62.0, 110.0))
        brow = ellipsoid_depth(x, y, z, centre=(0.0, 56.0, 4.0), radii=(60.0, 42.0, 30.0))
        nose = tube_depth(x, y, z, nodes=[(0, 92, 2, 7), (0, 100, -32, 11)])
        ears = ellipsoid_depth(a, y, z, centre=(76.0, -4.0, -32.0), radii=(6.0, 14.0, 24.0), yaw_deg=-20.0)
        depth = smooth_max(cranium + 13.0, smooth_max(face, brow, 8.0), 14.0)
        depth = smooth_max(depth, neck, 16.0)
        return torch.maximum(smooth_max(depth, nose, 7.0), ears)

    def _outer(self, x: Tensor, y: Tensor, z: Tensor, cranium: Tensor) -> Tensor:
        a = x.abs()
        depth = self._head(x, y, z, cranium)
        streaks = self.fat_waves.value(x, y, z)
        tissue = torch.full(x.shape, 507, dtype=torch.int16)
        tissue[(depth < SKIN_MM + SCALP_FAT_MM + (streaks + 1).clamp(0, 2) * (cranium < -14)) | (streaks > 1.3)] = FAT
        tissue[depth < SKIN_MM] = 511
        low = z < 25
        face = (low & (cranium < 0)).nonzero().squeeze(1)
        tissue[face] = self._face(a[face], y[face], z[face], tissue[face])
        # Skull: two compact tables with spongy bone between them where it is thick enough; none at the great foramen.
        plate = 6.0 + 1.2 * self.skull_waves.value(x, y, z).clamp(-2, 2) - 0.03 * (a - 30).clamp(0, 40)
        shell = (cranium <= 0) & (-cranium < plate) & (z > -72 + 0.5 * y.clamp(-60, 40)) & (depth > SKIN_MM)
        tissue[shell] = 515
        table = 0.33 * plate
        tissue[shell & (-cranium > table) & (-cranium < plate - table) & (plate > 4.5)] = 516
        tissue[(cranium > 0) & (z > -82)] = 24
        spine = (z < -58).nonzero().squeeze(1)
        tissue[spine] = self._spine(x[spine], y[spine], z[spine], tissue[spine])
        return tissue

    @staticmethod
    def _face(a: Tensor, y: Tensor, z: Tensor, tissue: Tensor) -> Tensor:
        """Orbits, sinuses, nose, jaws, petrous bone and throat; ``a`` is the distance from the midplane."""
        inner = tissue != 511
        orbit = ellipsoid_depth(a, y, z, centre=(31.0, 62.0, -1.0), radii=(18.0, 28.0, 16.0), yaw_deg=20.0)
        maxilla = ellipsoid_depth(a, y, z, centre=(0.0, 62.0, -36.0), radii=(42.0, 29.0, 26.0))
        petrous = ellipsoid_depth(a, y, z, centre=(44.0, -2.0, -44.0), radii=(22.0, 13.0, 13.0), yaw_deg=-35.0)
        zygoma = tube_depth(a, y, z, nodes=[(40, 74, -22, 5), (58, 56, -22, 4), (66, 30, -24, 3)])
        ramus = tube_depth(a, y, z, nodes=[(54, 22, -38, 5), (50, 26, -78, 7), (34, 62, -98, 7), (0, 82, -104, 7)])
        antrum = ellipsoid_depth(a, y, z, centre=(25.0, 62.0, -31.0), radii=(13.0, 17.0, 14.0))
        cavity = ellipsoid_depth(a, y, z, centre=(0.0, 66.0, -24.0), radii=(14.0, 26.0, 20.0))
        frontal = ellipsoid_depth(a, y, z, centre=(8.0, 84.0, 14.0), radii=(12.0, 5.0, 10.0))
        sphenoid = ellipsoid_depth(a, y, z, centre=(6.0, 38.0, -24.0), radii=(8.0, 12.0, 9.0))
        throat = tube_depth(a, y, z, nodes=[(0, 44, -40, 8), (0, 42, -70, 7), (0, 48, -115, 8)])
        eye = ellipsoid_depth(a, y, z, centre=(32.0, 74.0, -1.0), radii=(12.2, 12.2, 12.2))

        for bone in (maxilla, petrous, zygoma, ramus):
            tissue[(bone > 0) & inner] = 515
        for marrow, wall in ((ramus, 3.0), (petrous, 6.0), (maxilla, 5.0)):
            tissue[marrow > wall] = 516
        tissue[(orbit > -2.5) & (orbit <= 0) & inner & (y < 76)] = 515
        tissue[(orbit > 0) & inner] = FAT
        muscle_cone = (orbit > 1) & (orbit < 4) & (y < 70)
        tissue[muscle_cone & inner] = 507
        for air in (antrum, frontal, sphenoid, throat):
            tissue[(air > -1.5) & inner] = 509
            tissue[(air > 1.0) & inner] = 0
        tissue[(cavity > 0) & inner] = 509
        tissue[(cavity > 0) & (a > 2.0) & (a < 6.5) & (z > -36) & inner] = 0
        tissue[(eye > 0) & inner] = 506
        return tissue

    @staticmethod
    def _spine(x: Tensor, y: Tensor, z: Tensor, tissue: Tensor) -> Tensor:
        body = tube_depth(x, y, z, nodes=[(0, 32, -78, 8), (0, 46, -116, 11)])
        arch = tube_depth(x, y, z, nodes=[(0, 10, -82, 13), (0, 27, -116, 14)])
        canal = tube_depth(x, y, z, nodes=[(0, 5, -62, 9), (0, 11, -82, 8.5), (0, 28, -116, 8)])
        gap = torch.sin(z * (2 * np.pi / 16.0)) > 0.8  # discs and the spaces between the arches
        below = z < -78
        tissue[below & (arch > 0) & ~gap] = 515
        tissue[below & (body > 0)] = 516
        tissue[below & (body > 0) & ((body < 2) | gap)] = 515
        tissue[below & (body > 0) & gap] = 507
        tissue[canal > 0] = 24
        tissue[tube_depth(x, y, z, nodes=[(0, 8, -76, 5.5), (0, 14, -88, 4.5), (0, 30, -116, 4.5)]) > 0] = 512
        return tissue

    def _brain(self, x: Tensor, y: Tensor, z: Tensor, cranium: Tensor, tissue: Tensor) -> Tensor:
        a, right = x.abs(), x > 0
        hull = self._hemisphere_hull(a, y, z)
        cerebellum = ellipsoid_depth(a, y, z, centre=(17.0, -17.0, -53.0), radii=(34.0, 28.0, 25.0))
        cerebellum = torch.minimum(cerebellum, 8 - y)
        inner = cranium > 0

        stem_nodes = [(0, 3, -8, 10), (0, 3, -20, 10.5), (0, 9, -36, 13), (0, 4, -54, 8.5), (0, 7, -74, 6)]
        small = ((hull > -3) | (cerebellum > -3) | ((a < 18) & (y > -20) & (y < 30))).nonzero().squeeze(1)
        sub = tissue[small]
        xs, ys, zs, ri = x[small], y[small], z[small], right[small]
        aa, hh, cc = a[small], hull[small], cerebellum[small]
        self._paint_cerebellum(sub, xs, ys, zs, cc, hh)
        self._paint_hemisphere(sub, xs, ys, zs, hh, inner[small])
        stem = tube_depth(xs, ys, zs, nodes=stem_nodes)
        peduncle = tube_depth(aa, ys, zs, nodes=[(8, 8, -39, 7), (17, -9, -48, 5)])
        sub[(peduncle > 0) & (stem <= 0)] = 7
        sub[(stem > 0) & (zs > -74)] = 16
        fourth = ellipsoid_depth(xs, ys, zs, centre=(0.0, -5.5, -44.0), radii=(7.0, 4.5, 11.0), pitch_deg=-8.0)
        sub[fourth > 0] = 15

        deep = ((aa < 50) & (ys.abs() < 56) & (zs > -36) & (zs < 42)).nonzero().squeeze(1)
        nuclei = sub[deep]
        for side in (0, 1):
            mine = (ri[deep] == bool(side)).nonzero().squeeze(1)
            index = deep[mine]
            nuclei[mine] = self._deep(aa[index], ys[index], zs[index], nuclei[mine], side)
        sub[deep] = nuclei
        for lesion in self.lesions:
            hit = ellipsoid_depth(xs, ys, zs, centre=lesion.centre, radii=lesion.radii) > 0
            sub[hit & (sub == 2)] = 25
        for left, other in RIGHT_OF.items():
            sub[ri & (sub == left)] = other
        tissue[small] = sub
        return tissue

    @staticmethod
    def _base(a: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """Height above the floor of the cerebrum: the tent behind, the roof of the orbits in front."""
        back = (20 - y).clamp(0, 85)
        tent = 0.1 * back + 0.0042 * back**2 + 0.12 * (a - 20).clamp(0, 40)
        roof = 0.9 * (y - 46).clamp(min=0) + 0.25 * (a - 8).clamp(0, 30) * ((y - 30) / 20).clamp(0, 1)
        notch = 9 * torch.exp(-((a / 18) ** 2) - ((y + 12) / 20) ** 2)  # the tent's opening for the midbrain
        return (z + 15 + tent - roof - notch) / 1.15

    @staticmethod
    def _hemisphere_hull(a: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """Depth below the smooth envelope of the cerebrum, sulci closed."""
        upper = ellipsoid_depth(a * (1 + 0.0014 * y), y, z, centre=(0, 0, 0), radii=(65.0, 75.0, 63.0))
        occipital = ellipsoid_depth(a, y, z, centre=(0.0, -38.0, -20.0), radii=(57.0, 36.5, 32.5))
        upper = torch.minimum(torch.maximum(upper, occipital), HeadAnatomy._base(a, y, z))
        temporal = ellipsoid_depth(a, y, z, centre=(38.5, -2.0, -20.0), radii=(24.0, 40.0, 23.0), yaw_deg=-4.0)
        return torch.maximum(upper, temporal)

    def _paint_hemisphere(self, tissue: Tensor, x: Tensor, y: Tensor, z: Tensor, hull: Tensor, inner: Tensor) -> None:
        p = self.parameters
        a = x.abs()
        gap = 0.35 + 1.3 * p.atrophy
        # The falx: a sheet at x = 0 outside the corpus callosum, the ventricles and the thalami.
        callosum = ellipsoid_depth(torch.zeros_like(a), y, z, centre=(0.0, 9.0, 2.0), radii=(1e6, 38.0, 25.0))
        depth = torch.minimum(hull, (a**2 + callosum.clamp(min=0) ** 2).sqrt() - 0.6 - gap)
        # The Sylvian fissure with the insula at its end.
        along = ((y - 30).clamp(min=0) ** 2 + (-26 - y).clamp(min=0) ** 2).sqrt()
        rise = z + 0.45 * y + 4 + 2.5 * torch.sin(0.12 * y) + 2.0 * torch.sin(0.25 * a)
        fissure = ((rise / 1.1) ** 2 + (41 - a).clamp(min=0) ** 2 + along**2).sqrt() - 0.6 - gap
        along = ((y - 26).clamp(min=0) ** 2 + (-12 - y).clamp(min=0) ** 2).sqrt()
        across = a - 41 + 0.018 * rise**2 + 0.010 * (y - 7) ** 2
        insula = (across**2 + (rise.abs() - 11).clamp(min=0) ** 2 + along**2).sqrt() - 0.5 - gap
        depth = torch.minimum(depth, torch.minimum(fissure, insula))

        shell = ((hull > -1) & (hull < 32)).nonzero().squeeze(1)
        u, v, w = a[shell] - HEMISPHERE_CENTRE[0], y[shell] - HEMISPHERE_CENTRE[1], z[shell] - HEMISPHERE_CENTRE[2]
        radius = (u**2 + v**2 + w**2).sqrt_().clamp_(min=1)
        sheets = self._sheets(self.cerebral_folds, x[shell] > 0, (u, v, w), radius, GYRUS_RADIUS_MM)
        reach = 18 + 4 * torch.sin(0.11 * v + 0.07 * w + float(self.cerebral_folds[0].phases[0]))
        below = hull[shell]
        narrowing = (1 - 0.6 * below / reach).clamp(0, 1)
        sulcus = (sheets**2 + (below - reach).clamp(min=0) ** 2 + (32 - radius).clamp(min=0) ** 2).sqrt()
        sulcus -= gap * narrowing
        depth[shell] = torch.minimum(depth[shell], sulcus)

        # No cortex on the floor of the third ventricle and where the midbrain joins.
        floor = (a < 20) & (y > -22) & (y < 30) & (z < 4)
        thickness = torch.where(floor, torch.zeros_like(a), torch.full_like(a, p.cortex_thickness_mm))
        brain = inner & (depth > 0) & (hull > 0)
        tissue[brain] = torch.where(depth[brain] < thickness[brain], 3, 2).to(torch.int16)
        # An open sulcus is fluid even where the cerebellum's envelope reaches into it.
        tissue[inner & (hull > 0) & (depth <= 0)] = 24

    @staticmethod
    def _sheets(
        folds: list[Waves], right: Tensor, offset: tuple[Tensor, Tensor, Tensor], radius: Tensor, reference_mm: float
    ) -> Tensor:
        """Distance to the nearest fold of the own side, for offsets from the centre of that side."""
        out = torch.empty_like(radius)
        for waves, side in zip(folds, (~right, right), strict=True):
            mine = side.nonzero().squeeze(1)
            r = radius[mine]
            u, v, w = (axis[mine] / r for axis in offset)
            out[mine] = waves.sheet_distance((u, v, w), r, reference_mm=reference_mm)
        return out

    def _paint_cerebellum(self, tissue: Tensor, x: Tensor, y: Tensor, z: Tensor, depth: Tensor, hull: Tensor) -> None:
        a = x.abs()
        where = ((depth > 0) & (hull < -1.5)).nonzero().squeeze(1)
        c = CEREBELLUM_CENTRE
        u, v, w = a[where] - c[0], y[where] - c[1], z[where] - c[2]
        radius = (u**2 + v**2 + w**2).sqrt_().clamp_(min=1)
        sheets = self._sheets(self.cerebellar_folds, x[where] > 0, (u, v, w), radius, CEREBELLUM_RADIUS_MM)
        core = ellipsoid_depth(a[where], y[where], z[where], centre=(17.0, -12.0, -49.0), radii=(18.0, 10.0, 6.5))
        branch = (sheets < 0.9) & (depth[where] > 5) & (a[where] > 5)
        tissue[where] = torch.where((core > 0) | branch, 7, 8).to(torch.int16)

    def _deep(self, a: Tensor, y: Tensor, z: Tensor, tissue: Tensor, side: int) -> Tensor:
        """Ventricles, deep grey nuclei and hippocampus of one side; values of the left side."""
        p = self.parameters
        j, s = self.jitter[side], self.shift[side]
        wide = p.ventricle_scale**0.5
        push = 4.5 * (wide - 1)  # what lies beside the ventricle moves outwards as it fills

        def moved(nodes: Sequence[tuple[float, ...]], k: int, factor: float, out: float = 0.0) -> list[Sequence[float]]:
            return [(nx + s[k, 0] + out, ny + s[k, 1], nz + s[k, 2], r * factor * j[k]) for nx, ny, nz, r in nodes]

        body = [(11.5, 35, 11, 3.6), (8.5, 24, 16, 5.2), (8.0, 6, 20.5, 5.3), (12, -12, 20, 5.8), (21, -28, 9, 7.0)]
        horn = [(21, -28, 9, 6.0), (29, -20, -7, 3.6), (32.5, -2, -17, 2.6), (30, 13, -17, 2.4)]
        back = [(21, -28, 9, 5.5), (23, -46, 6, 2.8)]
        ventricle = tube_depth(a, y, z, nodes=moved(body, 0, wide, 1.5 * (wide - 1)))
        for part in (horn, back):
            ventricle = torch.maximum(ventricle, tube_depth(a, y, z, nodes=moved(part, 0, wide)))
        septum = a > 0.8
        tissue[(ventricle > 0) & septum] = 4

        caudate = [(14, 28, 7, 6.2), (16.5, 19, 15, 5.2), (18.5, 3, 21, 3.8), (22.5, -12, 20, 2.8), (29, -24, 9, 2.2)]
        tissue[tube_depth(a, y, z, nodes=moved(caudate, 1, 1.0, push)) > 0] = 11
        for value, k, centre, radii, yaw in (
            (10, 2, (12.0, -2.5, -0.5), (9.8, 15.0, 10.5), 22.0),
            (12, 3, (27.0, 13.0, 2.0), (6.2, 18.0, 11.5), 14.0),
            (13, 4, (21.5, 9.5, -0.5), (4.4, 10.5, 7.5), 20.0),
        ):
            out = push * (0.4 if value == 10 else 0.5)
            place = (centre[0] + s[k, 0] + out, centre[1] + s[k, 1], centre[2] + s[k, 2])
            hit = ellipsoid_depth(a, y, z, centre=place, radii=[r * j[k] for r in radii], yaw_deg=-yaw) > 0
            tissue[hit & (a > 1.2)] = value
        third = 2.9 * wide * j[5]
        slab = ellipsoid_depth(a, y, z, centre=(0.0, 6.0, -2.0), radii=(1e6, 13.5, 8.5))
        tissue[(slab > 0) & (a < third * (slab / 8.0).clamp(0, 1).sqrt())] = 14

        half = 0.5 * p.hippocampus_asymmetry * (1 if side == 0 else -1)
        thick = (p.hippocampus_scale * (1 + half)) ** 0.5 / j[6]  # the sliders, not the jitter, set this volume
        hippocampus = [(23, 15, -20.5, 6.0), (26.5, 4, -20.5, 5.2), (27.5, -8, -16, 4.4), (23.5, -18, -8, 3.2)]
        tissue[tube_depth(a, y, z, nodes=moved(hippocampus, 6, thick)) > 0] = 17
        return tissue

    def _draw_lesions(self, rng: np.random.Generator) -> tuple[Lesion, ...]:
        """Place lesions in white matter, most of them near the ventricles."""
        count = self.parameters.lesions
        if count == 0:
            return ()
        tries = 4000
        spread = torch.from_numpy(rng.uniform((-42, -45, -5), (42, 50, 42), (tries, 3))).float()
        core = spread.abs()
        around = ((core[:, 0] - 18) / 9) ** 2 + ((spread[:, 2] - 20) / 12) ** 2
        likely = torch.exp(-around) + 0.12
        keep = torch.from_numpy(rng.random(tries)).float() < likely
        white = self.tissues(spread[:, 0], spread[:, 1], spread[:, 2])
        chosen = spread[keep & ((white == 2) | (white == 41))][:count]
        if len(chosen) < count:
            raise ValueError(f"room for {len(chosen)} of {count} lesions only in the white matter of this head")
        radii = rng.uniform(2.0, 5.5, count)[:, None] * rng.uniform(0.75, 1.35, (count, 3))
        return tuple(Lesion(tuple(c), tuple(r)) for c, r in zip(chosen.tolist(), radii.tolist(), strict=True))
