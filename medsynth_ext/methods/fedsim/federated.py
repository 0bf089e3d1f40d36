"""The simulator's part in a federation: a hospital as a site, and the stages as exchanges."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medsynth_ext.data.files import replacing
from medsynth_ext.engines import LatentGaussian
from medsynth_ext.engines.federated import Exchange, SiteResult
from medsynth_ext.handlers import half_state_dict
from medsynth_ext.methods.fedsim.schedule import StageSchedule
from medsynth_ext.methods.fedsim.site import Site
from medsynth_ext.methods.fedsim.weights import SimulatorWeights

__all__ = ["FederatedHospital", "federated_plan"]


def federated_plan(
    schedules: Iterable[StageSchedule], *, shared_phases: Iterable[str], own_steps: int = 20
) -> list[Exchange]:
    """The exchanges of some stages.

    Every step of a phase that moves the shared networks is an exchange, as in the paper; the steps of the others are a
    site's own business and go in packs.

    Args:
        schedules: stages, in their order.
        shared_phases: phases whose gradients the server wants.
        own_steps: steps in a pack.

    Raises:
        ValueError: for packs of less than one step.

    >>> plan = federated_plan([StageSchedule("gan", 5)], shared_phases=["fit"], own_steps=3)
    >>> [len(exchange.work) for exchange in plan]
    [3, 2]
    """
    if own_steps < 1:
        raise ValueError(f"own_steps must be at least 1, got {own_steps}")
    shared = set(shared_phases)
    plan: list[Exchange] = []
    for schedule in schedules:
        pack: list[dict[str, Any]] = []
        for iteration in range(1, schedule.iterations + 1):
            for place, (phase, factor, progress) in enumerate(schedule.phases(iteration)):
                item = {"stage": schedule.stage, "phase": phase, "iteration": iteration}
                item |= {"factor": factor, "progress": progress, "begins": iteration == 1 and place == 0}
                if phase not in shared:
                    pack.append(item)
                if pack and (phase in shared or len(pack) == own_steps):
                    plan.append(Exchange(tuple(pack)))
                    pack = []
                if phase in shared:
                    plan.append(Exchange((item,), phase, factor))
        if pack:
            plan.append(Exchange(tuple(pack)))
    return plan


class FederatedHospital:
    """A ``Site`` that takes part in a federation.

    Args:
        site: with a copy of the shared networks of its own.
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        self.semi_supervised = False  # whether latents of unlabelled volumes are learned

    def prepare(self) -> None:
        """Read the volumes, draw the latents and make the optimisers."""
        self.site.prepare()

    def size(self) -> int:
        """Number of volumes, labelled or not."""
        return len(self.site.volumes)

    def run(self, state: Mapping[str, Tensor], work: Sequence[Mapping[str, Any]]) -> SiteResult:
        """Steps of the site; gradients are those of the last one.

        Raises:
            FloatingPointError: when the first step comes to something not finite; nothing was changed then.
            ValueError: when a later one does.
        """
        self.site.model.load_state_dict(dict(state))
        for place, item in enumerate(work):
            if item["stage"] == "semi_supervised" and item["begins"]:
                self.site.draw_unlabelled_latents()
                self.semi_supervised = True
            try:
                found = self.site.gradients(
                    None, item["phase"], item["iteration"], factor=item["factor"], progress=item["progress"]
                )
            except FloatingPointError as error:
                if place:  # the steps before it were made, so the site has to go back to before the pack
                    raise ValueError(str(error)) from error
                raise
        return SiteResult(found.gradients, found.scalars, found.samples)

    def latents(self) -> LatentGaussian:
        """Moments of the learned latents."""
        return self.site.latent_gaussian(labelled_only=not self.semi_supervised)

    def finish(self, state: Mapping[str, Tensor], gaussian: LatentGaussian | None, folder: Path) -> None:
        """Write ``simulator.pt``: everybody's shapes and materials, seen by this site's scanner."""
        if gaussian is None:
            raise ValueError("a simulator needs the Gaussian of the latents; set pool_latents")
        self.site.model.load_state_dict(dict(state))
        pooled = LatentGaussian(gaussian.mean, gaussian.covariance, gaussian.count, shrinkage=self.site.shrinkage)
        weights = SimulatorWeights(self.site.model, self.site.generator, pooled, self.site.fixed_material)
        with replacing(folder / "simulator.pt") as temporary:
            torch.save(half_state_dict(weights), temporary)

    def state_dict(self) -> dict[str, Any]:
        """Everything private that training changes."""
        return {"site": self.site.state_dict(), "semi_supervised": self.semi_supervised}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""
        self.site.load_state_dict(state["site"])
        self.semi_supervised = bool(state["semi_supervised"])
