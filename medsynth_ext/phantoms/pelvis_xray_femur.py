"""A thigh bone of the pelvis phantom."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medsynth_ext.phantoms.bone_tubes import BoneKnob, BoneTube

__all__ = ["HEAD_MM", "Femur", "draw_femur"]

HEAD_MM = 23.5


@dataclass
class Femur:
    """One thigh bone.

    Args:
        head: its head.
        shaft: from the trochanters down.
        neck: from the head to the shaft.
        great: the greater trochanter.
        small: the lesser trochanter.
        medial: -1 where the middle of the body lies at lower x, else 1.
        implant: whether a metal one replaces head and neck.
    """

    head: BoneKnob
    shaft: BoneTube
    neck: BoneTube
    great: BoneKnob
    small: BoneKnob
    medial: float
    implant: bool

    @property
    def parts(self) -> list[BoneTube | BoneKnob]:
        """All but the head."""
        return [self.shaft, self.neck, self.great, self.small]

    @property
    def landmarks(self) -> np.ndarray:  # (3, 3)
        """The last three of a side."""
        tip = self.great.centre + self.great.radii * (0, 0, 1)
        return np.array([self.head.centre, tip, self.small.centre + self.small.radii * (self.medial, 0, 0)])

    def moved(self, turn: np.ndarray, shift: np.ndarray, scale: float = 1.0) -> Femur:
        """Scaled, turned, shifted."""
        head, great, small = (knob.moved(turn, shift, scale) for knob in (self.head, self.great, self.small))
        shaft, neck = (tube.moved(turn, shift, scale) for tube in (self.shaft, self.neck))
        medial = self.medial * float(np.sign(np.linalg.det(turn)))
        return Femur(head, shaft, neck, great, small, medial, self.implant)


def draw_femur(rng: np.random.Generator, *, neck_deg: float, implant: bool) -> Femur:
    """The left thigh bone around its head at the origin, toes forward."""
    angle = np.radians(neck_deg - 90.0)
    top = np.array([np.cos(angle), 0.16, -np.sin(angle)]) * (46.0 + rng.normal(0, 1.5))
    down = top + np.array([[0.0, 0.0, 0.0], [-3.0, 2.0, -34.0], [-5.0, 0.0, -72.0], [-12.0, 0.0, -230.0]])
    return Femur(
        BoneKnob(np.zeros(3), np.full(3, HEAD_MM), 1.2),
        BoneTube.of(np.c_[down, [17.0, 16.0, 14.0, 13.5]], (1.5, 3.5, 6.0, 6.5)),
        BoneTube.of([(*(0.3 * top), 16.5), (*(0.6 * top), 14.5), (*top, 17.0)], 1.6),
        BoneKnob(top + np.array([10.0, 4.0, 3.0]), np.array([12.0, 14.0, 19.0]), 1.3),
        BoneKnob(top + np.array([-17.0, 12.0, -38.0]), np.array([9.0, 9.0, 11.0]), 1.3),
        -1.0,
        implant,
    )
