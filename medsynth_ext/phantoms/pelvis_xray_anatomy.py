"""The pelvis from the front with the lower spine and both hips: plates, rings and tubes of bone.

Millimetres of an average adult, x to the patient's left, y to the back, z up; the origin is midway between the hips.
Halves are described for the left side and mirrored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medsynth_ext.phantoms.bone_plate import BonePlate
from medsynth_ext.phantoms.bone_tubes import BoneKnob, BoneTube
from medsynth_ext.phantoms.pelvis_xray_femur import HEAD_MM, Femur, draw_femur
from medsynth_ext.phantoms.xray_film import rotation

__all__ = ["NAMES", "SOCKET_COSINE", "HalfPelvis", "PelvisSkeleton", "draw_pelvis"]

_POINTS = (
    "anterior_superior_iliac_spine",
    "iliac_crest",
    "acetabular_rim",
    "ischial_tuberosity",
    "pubic_symphysis",
    "femoral_head",
    "greater_trochanter",
    "lesser_trochanter",
)
NAMES = tuple(f"{side}_{point}" for side in ("left", "right") for point in _POINTS)
_HIP = np.array([88.0, 0.0, 0.0])
SOCKET_COSINE = float(np.cos(np.radians(78.0)))  # of the angle between the middle and the edge of the socket
# The wing: a runs from the sacrum to the front, b up and outwards. Outline against the clock from the front, and rims.
_WING = (
    (66.0, 4.0),
    (58.0, 26.0),
    (34.0, 52.0),
    (2.0, 63.0),
    (-32.0, 54.0),
    (-60.0, 30.0),
    (-70.0, 4.0),
    (-52.0, -20.0),
    (-26.0, -30.0),
    (0.0, -44.0),
    (26.0, -40.0),
    (44.0, -22.0),
)
_RIMS = (3.0, 3.5, 3.5, 4.0, 3.5, 3.5, 3.0, 1.0, 0.5, 0.0, 0.0, 1.5)
_FRONT_SPINE, _CREST = 0, 3
# The sacrum from above down its left side, seen from the front, and its openings: half distance, height, radius.
_SACRUM = (
    (0.0, 44.0),
    (24.0, 46.0),
    (44.0, 44.0),
    (56.0, 34.0),
    (54.0, 14.0),
    (40.0, -12.0),
    (26.0, -38.0),
    (13.0, -58.0),
    (0.0, -64.0),
)
_FORAMINA = ((20.0, 26.0, 5.0), (18.0, 7.0, 4.6), (15.5, -12.0, 4.0), (12.0, -30.0, 3.2))
_MIRROR = np.diag([-1.0, 1.0, 1.0])


@dataclass
class HalfPelvis:
    """One side without its femur.

    Args:
        parts: upper branch and body of the pubis, then wing, ischium and what joins them.
        hip: (3,) centre of the socket.
        socket_mm: its radius.
        roof: (3,) unit vector from the centre into the middle of the socket.
        landmarks: (5, 3) the first five of a side.
    """

    parts: list[BoneTube | BonePlate]
    hip: np.ndarray
    socket_mm: float
    roof: np.ndarray
    landmarks: np.ndarray

    def moved(self, turn: np.ndarray, shift: np.ndarray, scale: float = 1.0) -> HalfPelvis:
        """Scaled, turned, shifted."""
        return HalfPelvis(
            [part.moved(turn, shift, scale) for part in self.parts],
            scale * turn @ self.hip + shift,
            scale * self.socket_mm,
            turn @ self.roof,
            scale * self.landmarks @ turn.T + shift,
        )


@dataclass
class PelvisSkeleton:
    """A posed pelvis.

    Args:
        halves: left and right.
        femurs: left and right.
        spine: bones, each a list of parts that belong together.
        vertebrae: one body for each of the last bones of the spine: centre and half sizes.
        holes: the openings of the sacrum.
    """

    halves: list[HalfPelvis]
    femurs: list[Femur]
    spine: list[list[BoneTube | BonePlate]]
    vertebrae: list[tuple[np.ndarray, np.ndarray]]
    holes: list[BoneKnob]

    @property
    def landmarks(self) -> np.ndarray:  # (16, 3)
        """In the order of ``NAMES``."""
        return np.concatenate([p.landmarks for pair in zip(self.halves, self.femurs, strict=True) for p in pair])


def _unit(*v: float) -> np.ndarray:
    return np.array(v) / np.linalg.norm(v)


def _by(place: np.ndarray, x: float, y: float, z: float) -> np.ndarray:
    return place + np.array([x, y, z])


def _half(rng: np.random.Generator, flare: float) -> HalfPelvis:
    """The left half, with proportions of its own."""
    along = _unit(0.60, -0.80, 0.05)
    up = np.array([flare, 0.18, 1.0])
    up = _unit(*(up - (up @ along) * along))
    outline = np.array(_WING) * rng.normal(1, 0.02, (len(_WING), 1))
    frame = np.stack([along, up, np.cross(along, up)])
    wing = BonePlate(_by(_HIP, 2.0, 8.0, 62.0) + rng.normal(0, 1, 3), frame, outline, -9.0, 2.4, np.array(_RIMS), 1.4)
    front, crest = wing.point(_FRONT_SPINE), wing.point(_CREST)
    tuber = np.array([60.0, 34.0, -74.0]) + rng.normal(0, 1.5, 3)
    high, low, body = np.array([14.0, -48.0, -16.0]), np.array([13.0, -40.0, -42.0]), np.array([88.0, 4.0, 30.0])
    upper = [(68.0, -18.0, 4.0, 11.0), (46.0, -34.0, 0.0, 8.0), (26.0, -47.0, -8.0, 8.5), (*high, 10.0)]
    lower = [(*low, 7.5), (30.0, -16.0, -58.0, 5.5), (46.0, 12.0, -70.0, 6.5), (*tuber, 9.0)]
    ischium = [(82.0, 14.0, 24.0, 15.0), (76.0, 24.0, -22.0, 14.0), (66.0, 32.0, -60.0, 13.0), (*tuber, 11.0)]
    inner_wall = [(68.0, -14.0, 2.0, 9.0), (66.0, 4.0, 12.0, 9.0), (82.0, 14.0, 24.0, 13.0)]
    front_pillar = [(*body, 17.0), (104.0, -14.0, 44.0, 9.0), (*(0.35 * body + 0.65 * front), 5.0), (*front, 5.0)]
    crest_pillar = [(*body, 17.0), (*(0.5 * body + 0.5 * crest), 5.0)]
    arch = [(*body, 17.0), (66.0, 34.0, 44.0, 9.0), (50.0, 54.0, 62.0, 9.0)]  # to the sacrum
    parts: list[BoneTube | BonePlate] = [BoneTube.of(upper, 1.5), BoneTube.of([(*high, 10.0), (*low, 8.5)], 1.4), wing]
    parts += [BoneTube.of(ischium, 1.6), BoneTube.of(lower, 1.5), BoneTube.of(arch, 1.5)]
    parts += [BoneTube.of(tube, 1.4) for tube in (inner_wall, front_pillar, crest_pillar)]
    roof = _unit(-0.62, 0.30, 0.72)
    # In the frontal plane the socket ends where the angle to its middle is 78 degrees.
    end = np.arctan2(roof[2], roof[0]) - np.arccos(SOCKET_COSINE / np.hypot(roof[0], roof[2]))
    rim = _HIP + (HEAD_MM + 4.5) * np.array([np.cos(end), 0.0, np.sin(end)])
    points = [front, crest, rim, _by(tuber, 0.0, 0.0, -11.0), _by(high, -9.0, 0.0, 5.0)]
    return HalfPelvis(parts, _HIP.copy(), HEAD_MM + 2.8, roof, np.array(points))


def _sacrum(rng: np.random.Generator) -> tuple[list[BoneTube | BonePlate], list[BoneKnob]]:
    """Sacrum and coccyx, and the openings."""
    down = _unit(0.0, 0.42, -0.91)
    frame = np.stack([np.array([1.0, 0.0, 0.0]), -down, np.cross([1.0, 0.0, 0.0], -down)])
    outline = np.array([*_SACRUM, *((-a, b) for a, b in _SACRUM[1:-1])])
    origin = np.array([0.0, 62.0, 46.0]) + rng.normal(0, 1, 3)
    plate = BonePlate(origin, frame, outline, -8.0, 8.0, np.full(len(outline), 1.0), 1.3)
    top, tip = origin - 40.0 * down, origin + 60.0 * down
    middle = [(*_by(top, 0, -6, 0), 17.0), (*_by(origin, 0, 2, 0), 11.0), (*tip, 6.0)]
    tail = _by(tip, rng.normal(0, 2), -14.0, -22.0)
    holes = [
        BoneKnob(_by(origin, side * w, 0.0, 0.0) - h * down, np.array([r, 22.0, r]), 0.0)
        for side in (-1, 1)
        for w, h, r in _FORAMINA
    ]
    return [plate, BoneTube.of(middle, 1.2), BoneTube.of([(*tip, 6.0), (*tail, 3.5)], 0.8)], holes


def _lumbar(rng: np.random.Generator, level: int, bend: float) -> tuple[list, tuple[np.ndarray, np.ndarray]]:
    """Arch and processes of a vertebra, and its body: centre, half sizes."""
    middle = np.array([bend * level * 35.0, 36.0 - 4.0 * level, 113.0 + 35.0 * level])
    parts = [BoneTube.of([(*_by(middle, 0, 42, -2), 3.5), (*_by(middle, 0, 44, -16), 5.0)], 1.2)]
    for side in (-1, 1):
        root, tip = _by(middle, side * 15, 18, 3), _by(middle, side * 44, 26, 4 + rng.normal(0, 2))
        joint = _by(middle, side * 15, 32, -18)
        parts += [BoneTube.of([(*root, 6.0), (*(0.5 * (root + tip)), 4.2), (*tip, 4.0)], 1.3)]
        parts += [BoneTube.of([(*_by(root, 0, 10, 6), 5.0), (*joint, 5.5), (*_by(middle, 0, 42, -6), 4.0)], 1.3)]
    return parts, (middle, np.array([24.5 - 0.8 * level, 17.5, 13.5]) * rng.normal(1, 0.02, 3))


def _break(skeleton: PelvisSkeleton, rng: np.random.Generator) -> None:
    """A deformity on one side: the half slipped up, the front of the ring shifted, or the neck of the femur broken."""
    side, kind = int(rng.integers(2)), int(rng.integers(3))
    half, femur = skeleton.halves[side], skeleton.femurs[side]
    sign = 1 - 2 * side
    if kind == 0:
        shift = np.array([sign * rng.uniform(0, 8), rng.uniform(0, 10), rng.uniform(9, 24)])
        turn = rotation(y_deg=sign * float(rng.uniform(-6, 6)))
        skeleton.halves[side] = half.moved(turn, shift)
        skeleton.femurs[side] = femur.moved(np.eye(3), turn @ half.hip + shift - half.hip)
    elif kind == 1:
        shift = np.array([-sign * rng.uniform(0, 5), rng.uniform(-8, 8), rng.choice([-1, 1]) * rng.uniform(6, 14)])
        # The first two parts are the upper branch and the body of the pubis.
        half.parts = [part.moved(np.eye(3), shift) for part in half.parts[:2]] + half.parts[2:]
        half.landmarks[4] += shift
    else:
        turn = rotation(y_deg=sign * float(rng.uniform(8, 22)), z_deg=sign * float(rng.uniform(-25, 0)))
        centre = femur.head.centre
        shift = centre - turn @ centre + np.array([sign * rng.uniform(-2, 8), 0.0, rng.uniform(6, 18)])
        broken = femur.moved(turn, shift)
        broken.head = femur.head
        skeleton.femurs[side] = broken


def draw_pelvis(rng: np.random.Generator, *, fracture_prob: float, implant_prob: float) -> PelvisSkeleton:
    """A pelvis of random size, proportions and pose.

    Args:
        rng: the source of everything.
        fracture_prob: probability of a deformity on one side.
        implant_prob: probability of an artificial hip on one side.
    """
    size, flare, neck = rng.uniform(0.88, 1.08), rng.normal(0.42, 0.05), rng.normal(127, 4)
    turn = rotation(x_deg=float(rng.normal(0, 6)), z_deg=float(rng.normal(0, 3)))
    turn = rotation(y_deg=float(rng.normal(0, 3))) @ turn
    shift = np.array([rng.normal(0, 7), 0.0, rng.normal(-12, 9)])
    apart = rng.normal(0, 3)
    implant = int(rng.integers(2)) if rng.random() < implant_prob else -1
    halves, femurs = [], []
    for side, mirror in enumerate((np.eye(3), _MIRROR)):
        half = _half(rng, flare).moved(mirror, mirror @ np.array([apart, 0.0, 0.0]))
        pose = rotation(
            x_deg=float(rng.normal(0, 5)),
            y_deg=float(np.clip(rng.normal(0, 4), -10, 10)),
            z_deg=float(np.clip(rng.normal(0, 10), -22, 22)),
        )
        femur = draw_femur(rng, neck_deg=neck + rng.normal(0, 1.5), implant=side == implant).moved(
            mirror @ pose, half.hip
        )
        halves.append(half)
        femurs.append(femur)
    sacrum, holes = _sacrum(rng)
    bend = rng.normal(0, 0.03)
    lumbar = [_lumbar(rng, level, bend) for level in range(4)]
    skeleton = PelvisSkeleton(halves, femurs, [sacrum, *(arch for arch, _ in lumbar)], [b for _, b in lumbar], holes)
    if rng.random() < fracture_prob:
        _break(skeleton, rng)
    return _posed(skeleton, turn, shift, size)


def _posed(skeleton: PelvisSkeleton, turn: np.ndarray, shift: np.ndarray, size: float) -> PelvisSkeleton:
    """Everything scaled, turned, shifted."""
    return PelvisSkeleton(
        [half.moved(turn, shift, size) for half in skeleton.halves],
        [femur.moved(turn, shift, size) for femur in skeleton.femurs],
        [[part.moved(turn, shift, size) for part in bone] for bone in skeleton.spine],
        [(size * turn @ centre + shift, size * half) for centre, half in skeleton.vertebrae],
        [hole.moved(turn, shift, size) for hole in skeleton.holes],
    )
