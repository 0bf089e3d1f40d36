"""Federated simulators and segmenters of phantom hospitals, in one process."""

from __future__ import annotations

import copy
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medsynth_ext.claims import Progress
from medsynth_ext.data.files import replacing
from medsynth_ext.engines.federated import FederatedServer, LocalSites, SiteRunner
from medsynth_ext.methods.fedsim.claims.building import Hospital, Workshop
from medsynth_ext.methods.fedsim.federated import FederatedHospital, federated_plan
from medsynth_ext.methods.fedsim.federated_segmenter import SegmenterHospital, segmenter_plan
from medsynth_ext.methods.fedsim.schedule import StageSchedule
from medsynth_ext.methods.fedsim.segmenter import score_segmenter
from medsynth_ext.methods.fedsim.shared import SharedOptimizers
from medsynth_ext.methods.fedsim.site import Site

__all__ = ["FederatedWorkshop"]

STAGES = ("parameters", "gan", "semi_supervised")


class FederatedWorkshop(Workshop):
    """A ``Workshop`` whose hospitals also train together; of each alone it makes what is compared with that."""

    variants = ("pre", "full")

    def files(self, site: str, count: int, seed: int) -> dict[str, Path]:
        """Those of the site alone, and ``federated``."""
        return {
            **super().files(site, count, seed),
            "federated": self.data / f"simulator-{site}-{count}-{seed}-federated.pt",
        }

    def train_simulators(self, site: str, count: int, seed: int, tell: Progress) -> None:
        """Those of the site alone."""
        if not all(path.is_file() for path in super().files(site, count, seed).values()):
            super().train_simulators(site, count, seed, tell)

    def train_federation(self, count: int, seed: int, tell: Progress) -> None:
        """All stages over all sites, batch 1 each; writes every site's ``federated`` simulator."""
        s = self.settings
        files = {site: self.files(site, count, seed)["federated"] for site in s.sites}
        if all(path.is_file() for path in files.values()):
            return
        folder = self.data / f"federation-{count}-{seed}"
        runners, sites = {}, {}
        for i, name in enumerate(s.sites):
            hospital = self.hospital(name, lambda f, text="", i=i: tell(0.1 * (i + f) / len(s.sites), text))
            own_seed = seed + zlib.crc32(name.encode())
            torch.manual_seed(own_seed)
            sites[name], _ = self._site(hospital, count, own_seed, self.model(), volumes_per_step=1)
            hospital_of_site = FederatedHospital(sites[name])
            runners[name] = SiteRunner(hospital_of_site, folder / name, name=name, minimum_latents=1)
        torch.manual_seed(seed)
        model = self.model()
        pulls = {"semi_supervised": s.steps["pull"]}
        schedules = [StageSchedule(stage, s.steps[stage], pull=pulls.get(stage, 0)) for stage in STAGES]
        rates = {phase: rate["shared"] for phase, rate in s.rates.items() if "shared" in rate}
        plan = federated_plan(schedules, shared_phases=rates)
        server = FederatedServer(model, SharedOptimizers(model, rates), plan, folder / "server", save_every=50)
        gaussian = server.run(LocalSites(runners), progress=lambda f, text: tell(0.1 + 0.9 * f, text))
        assert gaussian is not None
        for name, site in sites.items():
            site.model.load_state_dict(model.state_dict())
            record = {"model": model.state_dict(), "generator": site.generator.state_dict()}
            record |= {"gaussian": gaussian.state_dict(), "figures": self._fit_quality(site)}
            with replacing(files[name]) as temporary:
                torch.save(record, temporary)

    def train_segmenter_together(self, network: nn.Module, count: int, seed: int, tell: Progress) -> nn.Module:
        """The U-Net trained with the mean of one gradient per site; the best on the union of the validation sets."""
        s = self.settings
        steps = s.unet_steps["scratch"]
        runners = {}
        for name in s.sites:
            images, hearts = self.hospital(name).part("train")
            own_seed = seed + zlib.crc32(name.encode())
            hospital = SegmenterHospital(copy.deepcopy(network), images[:count], hearts[:count], seed=own_seed)
            runners[name] = SiteRunner(hospital, self.data / f"direct-{count}-{seed}" / name, name=name)
        parts = [self.hospital(name).part("validation") for name in s.sites]
        validation = tuple(torch.cat(volumes) for volumes in zip(*parts, strict=True))
        best: dict[str, Any] = {"dice": -1.0}

        def check(fraction: float, text: str) -> None:
            tell(fraction, text)
            if server.done % s.check_every == 0 or server.done == steps:
                dice = score_segmenter(network, *validation)["dice"]
                if dice > best["dice"]:
                    best.update(dice=dice, state=copy.deepcopy(network.state_dict()))

        server = FederatedServer(
            network,
            SharedOptimizers(network, {"fit": s.unet_rates["scratch"]}),
            segmenter_plan(steps),
            self.data / f"direct-{count}-{seed}" / "server",
            save_every=steps,
            pool_latents=False,
        )
        server.run(LocalSites(runners), progress=check)
        network.load_state_dict(best["state"])
        return network

    def federated_step(self, seed: int, folder: Path) -> dict[str, float]:
        """Largest difference of a shared parameter after a federated step and after one on all volumes, per precision.

        Adam's first step is ``rate * g / (|g| + 1e-8)``: where a gradient is about as small as that, it is float32's
        rounding error that decides. Double precision tells whether the two steps are the same step.
        """
        figures: dict[str, float] = {}
        for dtype in (torch.float32, torch.float64):
            name = str(dtype).removeprefix("torch.")
            start, central, federated = self._both_steps(seed, folder / name, dtype)
            pairs = [(federated[key] - central[key]).abs().max().item() for key in central]
            figures[f"difference_{name}"] = max(pairs)
            figures["moved"] = max((federated[key] - start[key]).abs().max().item() for key in central)
        return figures

    def _both_steps(self, seed: int, folder: Path, dtype: torch.dtype) -> tuple[dict[str, Tensor], ...]:
        """The shared parameters at first, after the step on all volumes, and after the federated one."""
        s = self.settings
        record = self.hospital(s.sites[0]).record
        count = min(3, s.train)

        def make(first: int, volumes: int) -> tuple[Site, SharedOptimizers]:
            part = {name: record[name][first : first + volumes] for name in ("train_images", "train_parts")}
            torch.manual_seed(seed)
            model = self.model().to(dtype)
            site, shared = self._site(Hospital(part), volumes, seed, model, volumes_per_step=volumes)
            site.latents.to(dtype)
            site.distance.to(dtype)
            site.volumes.material = site.volumes.material.to(dtype)
            return site, shared

        together, shared = make(0, count)
        runners = {}
        for i in range(count):
            site, _ = make(i, 1)
            site.latents.set([0], together.latents([i]).detach())
            runners[str(i)] = SiteRunner(FederatedHospital(site), folder / str(i), name=str(i), minimum_latents=1)
        start = copy.deepcopy(together.model.state_dict())
        shared.apply(together.gradients(None, "fit", 1).gradients, "fit")
        torch.manual_seed(seed)
        model = self.model().to(dtype)
        plan = federated_plan([StageSchedule("parameters", 1)], shared_phases=["fit"])
        optimizers = SharedOptimizers(model, {"fit": s.rates["fit"]["shared"]})
        FederatedServer(model, optimizers, plan, folder / "server").run(LocalSites(runners))
        return start, together.model.state_dict(), model.state_dict()
