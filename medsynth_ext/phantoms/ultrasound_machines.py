"""Eight ultrasound machines: what differs between scanners as numbers."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MACHINES", "OBSERVED", "UNOBSERVED", "Machine"]


@dataclass(frozen=True)
class Machine:
    """What a scanner and its operator do to an image.

    Args:
        axial_px: full width at half maximum of the pulse along depth, in pixels of the image.
        lateral_px: the same across, at the focus.
        focus: depth of the focus, as a share of the image.
        spread: growth of the lateral width from the focus to the far end of the image, relative.
        wavelength: of the carrier over the axial width.
        dynamic_range_db: of the log compression; what is darker is black.
        gain_db: added before the compression.
        tgc_error_db: error of the time-gain curve at the bottom of the image; the top has none.
        gamma: exponent of the grey levels.
        noise: deviation of the receiver's noise over the typical amplitude of tissue.
        shading_db: loss at the lateral borders.
        near_field_db: clutter below the probe, over the typical amplitude.
        median: size of a median filter at the end; 0 for none.
    """

    axial_px: float
    lateral_px: float
    focus: float = 0.4
    spread: float = 0.6
    wavelength: float = 0.8
    dynamic_range_db: float = 60.0
    gain_db: float = 0.0
    tgc_error_db: float = 0.0
    gamma: float = 1.0
    noise: float = 0.01
    shading_db: float = 0.0
    near_field_db: float = -60.0
    median: int = 0


# Ranges as in the method's card: axial 1 to 4 px, lateral 1.5 to 6 px, 40 to 80 dB, gamma 0.6 to 1.6, noise to 5 %.
MACHINES: tuple[Machine, ...] = (
    Machine(1.2, 1.8, dynamic_range_db=50, gain_db=0, gamma=0.9, noise=0.005),
    Machine(2.2, 4.5, spread=1.0, dynamic_range_db=70, gain_db=-4, tgc_error_db=-12, gamma=1.3, noise=0.02),
    Machine(1.5, 3.0, focus=0.6, dynamic_range_db=40, gain_db=2, tgc_error_db=6, gamma=1.0, noise=0.01, shading_db=10),
    Machine(3.2, 3.2, dynamic_range_db=60, gain_db=-2, gamma=0.7, noise=0.04, near_field_db=2),
    Machine(1.8, 6.0, focus=0.3, spread=0.3, dynamic_range_db=80, gain_db=-16, gamma=0.75, noise=0.03, median=3),
    Machine(
        3.8, 5.0, spread=0.8, dynamic_range_db=50, gain_db=-6, tgc_error_db=-6, gamma=1.6, noise=0.01, shading_db=5
    ),
    Machine(1.4, 5.2, focus=0.5, dynamic_range_db=40, gain_db=2, tgc_error_db=-8, gamma=1.4, noise=0.05, shading_db=14),
    Machine(3.4, 2.0, focus=0.2, spread=1.2, dynamic_range_db=80, gain_db=-18, tgc_error_db=8, gamma=0.8, noise=0.05),
)
OBSERVED, UNOBSERVED = (0, 1, 2, 3, 4, 5), (6, 7)
