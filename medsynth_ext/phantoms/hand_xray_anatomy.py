"""The bones of a left hand in the palm-down view: an articulated chain per ray, the carpals, radius and ulna.

Millimetres of an average adult, x towards the thumb, y towards the palm, z towards the fingers; the origin is the
middle of the wrist joint.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from medsynth_ext.phantoms.bone_tubes import BoneTube
from medsynth_ext.phantoms.xray_film import rotation

__all__ = ["NAMES", "HandSkeleton", "draw_hand"]

FINGERS = ("thumb", "index", "middle", "ring", "little")
_LENGTHS = (  # metacarpal and phalanges
    (46.0, 32.0, 22.0),
    (68.0, 40.0, 23.0, 16.0),
    (65.0, 45.0, 27.0, 18.0),
    (58.0, 42.0, 26.0, 18.0),
    (54.0, 33.0, 18.0, 16.0),
)
_ROOTS = ((23.0, 2.0, 25.0), (13.0, 0.0, 30.0), (3.0, 0.0, 31.5), (-6.5, 0.5, 30.0), (-14.5, 1.5, 27.5))
_FAN_DEG = (38.0, 9.0, 0.0, -8.0, -17.0)  # metacarpals, towards the thumb
_SPREAD_DEG = (-14.0, 3.0, 0.0, -3.0, -6.0)  # fingers against their metacarpals
_JOINTS = {0: ("carpometacarpal", "metacarpophalangeal", "interphalangeal")}
_FINGER_JOINTS = ("carpometacarpal", "metacarpophalangeal", "proximal_interphalangeal", "distal_interphalangeal")
# Radii along a bone, in mm of an average middle finger (base, neck, shaft, neck, head), and the wall of the shaft.
_PROFILES = {
    "metacarpal": ((6.6, 5.4, 4.2, 5.2, 6.6), 2.1),
    "proximal": ((7.2, 5.6, 4.4, 4.6, 5.6), 1.9),
    "middle": ((6.2, 4.8, 3.8, 4.0, 4.8), 1.6),
    "distal": ((5.2, 3.6, 2.5, 2.8, 3.6), 1.1),
}
_THICKNESS = (1.02, 1.02, 1.04, 0.95, 0.86)
_CARPALS = (  # centre, semi-axes, pitch in the plane of the film
    ((11.5, 1.0, 10.5), (6.5, 5.5, 10.0), 35.0),  # scaphoid
    ((0.5, 0.0, 8.5), (7.0, 6.4, 6.8), 0.0),  # lunate
    ((-11.0, 0.0, 12.0), (6.5, 5.1, 7.5), -25.0),  # triquetrum
    ((-15.0, 8.0, 13.0), (4.5, 3.8, 5.5), 0.0),  # pisiform
    ((21.5, 3.0, 19.5), (6.8, 5.5, 6.2), 20.0),  # trapezium
    ((12.5, 0.0, 23.0), (5.4, 5.1, 6.2), 0.0),  # trapezoid
    ((3.0, 0.0, 21.0), (6.2, 6.0, 10.0), 0.0),  # capitate
    ((-7.5, 1.5, 21.5), (6.6, 6.0, 8.6), -15.0),  # hamate
)


def _names() -> tuple[str, ...]:
    out = []
    for number, finger in enumerate(FINGERS):
        out += [f"{finger}_{joint}" for joint in _JOINTS.get(number, _FINGER_JOINTS)]
    return (*out, *(f"{finger}_tip" for finger in FINGERS), "wrist")


NAMES = _names()  # 19 joints in front of the 19 bones, 5 tips, the wrist


@dataclass
class HandSkeleton:
    """A posed hand.

    Args:
        places: (25, 3) landmarks in the order of ``NAMES``.
        bones: long bones.
        carpals: centre, semi-axes, turn in degrees about the axis of the rays.
        flesh: tubes of soft tissue.
        ring: place, direction of the finger and radius of a ring; ``None`` for none.
        wires: metal rods.
    """

    places: np.ndarray
    bones: list[BoneTube] = field(default_factory=list)
    carpals: list[tuple[np.ndarray, np.ndarray, float]] = field(default_factory=list)
    flesh: list[BoneTube] = field(default_factory=list)
    ring: tuple[np.ndarray, np.ndarray, float] | None = None
    wires: list[BoneTube] = field(default_factory=list)

    def add_flesh(self, start: np.ndarray, end: np.ndarray, radii: tuple[float, float]) -> None:
        """A tube of soft tissue between two places."""
        self.flesh.append(BoneTube.of([(*start, radii[0]), (*end, radii[1])]))


def _long_bone(start: np.ndarray, end: np.ndarray, profile: str, thickness: float, young: bool) -> list[BoneTube]:
    """A bone between two joints with its cortex, thick in the shaft; a young one has its growth plate open."""
    radii, cortex = np.array(_PROFILES[profile][0]) * thickness, _PROFILES[profile][1] * thickness
    step, length = end - start, float(np.linalg.norm(end - start))
    gap, last = 0.9 * thickness, 0.0 if profile == "distal" else 0.9 * thickness
    low, high = (radii[0] * 0.8 + gap) / length, 1 - (radii[-1] * 0.95 + last) / length
    at = np.array([low, low + 0.22 * (high - low), 0.5 * (low + high), high - 0.22 * (high - low), high])
    walls = cortex * np.array([0.28, 0.6, 1.0, 0.6, 0.28])
    if not young:
        return [BoneTube(np.c_[start + at[:, None] * step, radii], walls)]
    # The epiphysis is a short bar across, 2.6 mm before the shaft.
    cap = 0.55 * radii[0]
    side = np.cross(step / length, [0.0, 1.0, 0.0]) * 0.4 * radii[0]
    bar = [(*(start + (cap + gap) / length * step + k * side), cap) for k in (-1, 1)]
    at[0] = min((2 * cap + gap + 2.6 * thickness + 0.5 * radii[1]) / length, at[1] - 0.02)
    radii[0] *= 0.9
    return [BoneTube.of(bar, 0.6 * thickness), BoneTube(np.c_[start + at[:, None] * step, radii], walls)]


def _ray(
    skeleton: HandSkeleton, number: int, rng: np.random.Generator, scale: float, open_deg: float, young: bool
) -> list[np.ndarray]:
    """Bones and flesh of one ray; returns its joints and its tip."""
    thickness = _THICKNESS[number] * scale * rng.normal(1, 0.04)
    place = (np.array(_ROOTS[number]) + rng.normal(0, 0.6, 3)) * scale
    angle = _FAN_DEG[number] * (1 + rng.normal(0, 0.06)) + (rng.normal(0, 4) if number == 0 else 0)
    flex = rng.uniform(4, 14) if number == 0 else 0.0
    out, profiles = [place], ["metacarpal", "proximal", "middle", "distal"]
    if number == 0:
        profiles.remove("middle")
    curl = abs(rng.normal(0, 5))
    for k, (profile, length) in enumerate(zip(profiles, _LENGTHS[number], strict=True)):
        if k == 1:
            angle += _SPREAD_DEG[number] * (1 + open_deg / 4) + rng.normal(0, 2.5)
        elif k > 1:
            angle += rng.normal(0, 2.0)
        if k:
            flex += max(0.0, curl + rng.normal(0, 3))
        roll = rotation(x_deg=-flex, y_deg=angle)
        end = place + roll @ np.array([0.0, 0.0, length * scale * rng.normal(1, 0.08 / 2)])
        skeleton.bones += _long_bone(place, end, profile, thickness, young and not (k == 0 and number == 0))
        width = {"metacarpal": 12.5, "proximal": 9.6, "middle": 8.6, "distal": 7.6}[profile] * thickness
        tip = width * (0.88 if profile == "distal" else 0.94)
        skeleton.add_flesh(place, end, (width, tip))
        place = end
        out.append(place)
    return out


def _wrist(skeleton: HandSkeleton, rng: np.random.Generator, scale: float, tilt_deg: float) -> None:
    """Carpals, radius, ulna and the forearm's flesh; the hand is tilted against the forearm."""
    for centre, radii, turn in _CARPALS:
        place = (np.array(centre) + rng.normal(0, 0.5, 3)) * scale
        skeleton.carpals.append((place, np.array(radii) * scale * rng.normal(1, 0.04, 3), turn + rng.normal(0, 5)))
    tilt, still = rotation(y_deg=tilt_deg), np.zeros(3)
    radius = [(14.0, 0.0, -5.0, 5.5), (8.0, 0.0, -12.0, 10.5), (7.0, 0.0, -30.0, 8.0), (8.0, 0.0, -90.0, 7.0)]
    plate = [(1.0, 0.0, -8.5, 6.0), (8.0, 0.0, -12.0, 10.0)]
    ulna = [(-15.0, -1.0, -5.5, 2.6), (-13.0, 0.0, -11.0, 6.6), (-12.0, 0.0, -28.0, 5.2), (-10.0, 0.0, -90.0, 6.0)]
    for rows, walls in ((radius, (0.6, 0.9, 2.0, 2.6)), (plate, (0.6, 0.9)), (ulna, (0.6, 0.9, 1.8, 2.2))):
        skeleton.bones.append(BoneTube.of(rows, walls).moved(tilt, still, scale))
    for forearm in (
        [(9.0, 0.0, 12.0, 17.0), (8.0, 0.0, -100.0, 22.0)],
        [(-9.0, 0.0, 14.0, 16.0), (-9.0, 0.0, -100.0, 21.0)],
    ):
        skeleton.flesh.append(BoneTube.of(forearm).moved(tilt, still, scale))


def draw_hand(
    rng: np.random.Generator, *, implant_prob: float, scale: tuple[float, float] = (0.75, 1.2)
) -> HandSkeleton:
    """A hand of random size, proportions and pose, around its middle and as it lies on the film.

    Args:
        rng: the source of everything.
        implant_prob: probability of a ring, and of a wire through a metacarpal.
        scale: range of its size; below 0.88 the growth plates are open.
    """
    size = rng.uniform(*scale)
    young = size < 0.88
    skeleton = HandSkeleton(np.empty(0))
    open_deg = rng.normal(3, 3)
    rays = [_ray(skeleton, k, rng, size, open_deg, young) for k in range(5)]
    _wrist(skeleton, rng, size, rng.normal(0, 7))
    for a, b in pairwise(rays[1:]):  # the palm and the webs of skin
        skeleton.add_flesh(a[0], b[1], (13.0 * size, 10.0 * size))
    skeleton.add_flesh(rays[1][0], rays[0][1], (14.0 * size, 11.0 * size))  # the ball of the thumb
    skeleton.add_flesh(0.5 * (rays[1][0] + rays[1][1]), rays[0][1], (12.0 * size, 8.0 * size))
    if rng.random() < implant_prob:
        finger = rays[3 if rng.random() < 0.7 else 2]
        along = finger[2] - finger[1]
        skeleton.ring = (finger[1] + 0.45 * along, along / np.linalg.norm(along), 8.6 * size)
    if rng.random() < 0.5 * implant_prob:
        bone = rays[int(rng.integers(1, 5))]
        skeleton.wires.append(BoneTube.of([(*(bone[0] + t * (bone[1] - bone[0])), 0.9) for t in (0.12, 0.88)]))
    joints = [p for ray in rays for p in ray[:-1]]
    skeleton.places = np.array([*joints, *(ray[-1] for ray in rays), [0.0, 0.0, 0.0]])
    return _posed(skeleton, rng, size)


def _posed(skeleton: HandSkeleton, rng: np.random.Generator, size: float) -> HandSkeleton:
    """Turn the forearm by up to 20 degrees, the hand on the film by up to 15, and put its middle near the origin."""
    lean = float(rng.uniform(-15, 15))
    turn = rotation(y_deg=lean) @ rotation(z_deg=float(np.clip(rng.normal(0, 8), -20, 20)))
    shift = np.array([rng.normal(0, 6), 0.0, rng.normal(0, 6)]) - turn @ np.array([0.0, 4.0, 86.0]) * size
    ring = skeleton.ring
    return HandSkeleton(
        skeleton.places @ turn.T + shift,
        [bone.moved(turn, shift) for bone in skeleton.bones],
        [(turn @ place + shift, radii, angle + lean) for place, radii, angle in skeleton.carpals],
        [tube.moved(turn, shift) for tube in skeleton.flesh],
        None if ring is None else (turn @ ring[0] + shift, turn @ ring[1], ring[2]),
        [wire.moved(turn, shift) for wire in skeleton.wires],
    )
