"""Training of one site, with a trainer or in a plain loop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medsynth_ext.data.files import replacing
from medsynth_ext.engines import StepTrainer
from medsynth_ext.handlers import half_state_dict
from medsynth_ext.methods.fedsim.schedule import StageSchedule
from medsynth_ext.methods.fedsim.shared import SharedOptimizers
from medsynth_ext.methods.fedsim.site import Contribution, Site
from medsynth_ext.methods.fedsim.weights import SimulatorWeights

__all__ = ["SiteStep", "finish", "run_stage"]


class SiteStep:
    """A trainer's step: one iteration of a stage at one site, whose model is the shared one.

    Args:
        site: prepared before the first step.
        shared: optimisers of the shared networks.
        schedule: of the stage.
    """

    def __init__(self, site: Site, shared: SharedOptimizers, schedule: StageSchedule) -> None:
        self.site = site
        self.shared = shared
        self.schedule = schedule

    def iterate(self, iteration: int) -> tuple[dict[str, float], Contribution]:
        """Run an iteration, from 1; returns all scalars, and the last contribution."""
        if self.schedule.stage == "semi_supervised" and iteration == 1:
            self.site.draw_unlabelled_latents()
        scalars: dict[str, float] = {}
        for phase, factor, progress in self.schedule.phases(iteration):
            found = self.site.gradients(None, phase, iteration, factor=factor, progress=progress)
            self.shared.apply(found.gradients, phase, factor=factor)
            scalars |= {n if n == "loss" else f"{phase}_{n}": value for n, value in found.scalars.items()}
        return scalars, found

    def __call__(self, engine: StepTrainer, batch: Any) -> dict[str, Tensor]:
        scalars, found = self.iterate(engine.state.iteration)
        return {**{name: torch.tensor(value) for name, value in scalars.items()}, **found.pictures}


def run_stage(step: SiteStep, *, progress: Callable[[float, str], None] | None = None) -> dict[str, float]:
    """Run all iterations of a stage in a loop; returns the scalars of the last one."""
    count = step.schedule.iterations
    scalars: dict[str, float] = {}
    for iteration in range(1, count + 1):
        scalars, _ = step.iterate(iteration)
        if progress is not None and iteration % 10 == 0:
            progress(iteration / count, f"{step.schedule.stage} {iteration}, loss {scalars['loss']:.3f}")
    return scalars


def finish(site: Site, path: str | Path, *, labelled_only: bool = False) -> None:
    """Write the trained simulator in half precision, with the Gaussian of the site's latents.

    Args:
        site: after its last stage.
        path: the file.
        labelled_only: fit the Gaussian to labelled volumes alone, when there was no semi-supervised stage.
    """
    gaussian = site.latent_gaussian(labelled_only=labelled_only)
    weights = SimulatorWeights(site.model, site.generator, gaussian, site.fixed_material)
    with replacing(path) as temporary:
        torch.save(half_state_dict(weights), temporary)
