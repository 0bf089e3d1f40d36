"""Which phases a stage's iterations consist of, and with which rates; the same for one site and for many."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["STAGES", "StageSchedule"]

STAGES = ("parameters", "gan", "semi_supervised")


@dataclass(frozen=True)
class StageSchedule:
    """The phases of a stage.

    ``parameters`` (A) consists of ``fit`` and ``gan`` (B) of ``gan`` with constant rates. ``semi_supervised`` (C) pulls
    the latents of unlabelled volumes first, then every iteration is a ``labelled`` and an ``unlabelled`` step, with
    rates that are constant at first and then fall to zero.

    Args:
        stage: one of ``STAGES``.
        iterations: of the stage.
        pull: first iterations of stage C that only pull latents; part of ``iterations``.
        constant: share of the alternating iterations before the rates fall.

    Raises:
        ValueError: for another stage, or numbers that do not fit.
    """

    stage: str
    iterations: int
    pull: int = 0
    constant: float = 0.5

    def __post_init__(self) -> None:
        if self.stage not in STAGES:
            raise ValueError(f"stage must be one of {', '.join(STAGES)}, got {self.stage!r}")
        if self.iterations < 1 or not 0 <= self.pull < self.iterations:
            raise ValueError(f"pull must be from 0 to below iterations, got {self.pull} and {self.iterations}")
        if not 0 <= self.constant <= 1:
            raise ValueError(f"constant must be between 0 and 1, got {self.constant}")

    def phases(self, iteration: int) -> list[tuple[str, float, float]]:
        """``(phase, factor of the rates, finished share)`` of an iteration from 1.

        >>> StageSchedule("semi_supervised", 9, pull=1).phases(9)
        [('labelled', 0.25, 0.875), ('unlabelled', 0.25, 0.875)]
        """
        progress = (iteration - 1) / self.iterations
        if self.stage == "parameters":
            return [("fit", 1.0, progress)]
        if self.stage == "gan":
            return [("gan", 1.0, progress)]
        if iteration <= self.pull:
            return [("pull", 1.0, 0.0)]
        progress = (iteration - 1 - self.pull) / (self.iterations - self.pull)
        factor = 1.0 if progress < self.constant else (1 - progress) / (1 - self.constant)
        return [("labelled", factor, progress), ("unlabelled", factor, progress)]
