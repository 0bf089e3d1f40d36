"""Hospitals in memory and their trained simulators, kept in files between the arms."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medsynth_ext.claims import Progress
from medsynth_ext.data.files import replacing
from medsynth_ext.engines import LatentGaussian
from medsynth_ext.losses import ConditionalAdversarialLoss, FeatureDistance
from medsynth_ext.methods.fedsim.claims.settings import POPULATIONS, Settings
from medsynth_ext.methods.fedsim.ct_simulator import CTSimulator
from medsynth_ext.methods.fedsim.fixed_material import FixedMaterial
from medsynth_ext.methods.fedsim.generation import HeartSimulator
from medsynth_ext.methods.fedsim.latent_networks import MaterialGenerator
from medsynth_ext.methods.fedsim.model import HeartModel
from medsynth_ext.methods.fedsim.phantom_sites import phantom_case
from medsynth_ext.methods.fedsim.schedule import StageSchedule
from medsynth_ext.methods.fedsim.shape_model import ShapeModel
from medsynth_ext.methods.fedsim.shared import SharedOptimizers
from medsynth_ext.methods.fedsim.site import PHASES, Site
from medsynth_ext.methods.fedsim.spade import SpadeGenerator
from medsynth_ext.methods.fedsim.training import SiteStep, run_stage
from medsynth_ext.methods.fedsim.volumes import SiteVolumes
from medsynth_ext.networks import MultiScaleDiscriminator, VGGFeatures, xavier_init

__all__ = ["Hospital", "Workshop", "stretched"]

# What a trained simulator depends on.
_SIMULATOR_SETTINGS = (
    "train",
    "size",
    "coarse",
    "latent",
    "views",
    "full_views",
    "material_features",
    "features",
    "hidden",
    "discriminator_features",
    "vgg_width",
    "steps",
    "rates",
    "slices",
)


def stretched(tell: Progress, low: float, high: float) -> Progress:
    """Tells of a part of the work as a share of the whole."""

    def told(fraction: float, text: str = "") -> None:
        tell(low + (high - low) * fraction, text)

    return told


class Hospital:
    """All volumes of one site: ``images`` (M, 1, N, N, N) in [-1, 1] and ``parts`` (M, 1, N, N, N) per part."""

    def __init__(self, record: dict[str, Tensor]) -> None:
        self.record = record

    def part(self, name: str) -> tuple[Tensor, Tensor]:
        """Images and hearts (float) of ``train``, ``validation`` or ``test``."""
        return self.record[f"{name}_images"].float(), (self.record[f"{name}_parts"] > 0).float()


class Workshop:
    """Makes what the arms share, once, from names and seeds.

    ``variants`` are the simulators that it trains of every site: with fixed materials, after stage B, after stage C
    with a frozen discriminator, and with one that learns.

    Args:
        settings: the numbers of one scale.
        shape_model: file of the shape model.
        device: where networks are trained.
        data: folder of the files.
    """

    variants: tuple[str, ...] = ("fix_mat", "pre", "full", "unfrozen")

    def __init__(self, settings: Settings, shape_model: str | Path, *, device: str, data: Path) -> None:
        self.settings, self.shape_file = settings, Path(shape_model)
        self.shape_model = ShapeModel.load(shape_model)
        self.device, self.data = device, data

    # Data

    def hospital(self, site: str, tell: Progress | None = None) -> Hospital:
        """Render the site's patients, or read them."""
        s = self.settings
        path = self.data / f"site-{site}-{s.size}-{s.train}-{s.validation}-{s.test}.pt"
        if not path.is_file():
            record: dict[str, Tensor] = {}
            counts = {"train": s.train, "validation": s.validation, "test": s.test}
            done = 0
            for name, count in counts.items():
                cases = []
                for i in range(count):
                    cases.append(phantom_case(site, POPULATIONS[name], i, size=s.size))
                    done += 1
                    if tell is not None:
                        tell(done / sum(counts.values()), f"patient {done} of site {site}")
                record[f"{name}_images"] = torch.stack([image for image, _ in cases]).half()
                record[f"{name}_parts"] = torch.stack([parts for _, parts in cases])
            with replacing(path) as temporary:
                torch.save(record, temporary)
        return Hospital(torch.load(path, weights_only=True))

    # Simulators

    def model(self) -> HeartModel:
        """The shared networks, untrained."""
        s = self.settings
        material = MaterialGenerator(s.latent, s.coarse, features=s.material_features, norm="group")
        simulator = CTSimulator(s.coarse, fov_mm=self.shape_model.fov_mm, views=s.views)
        return HeartModel(self.shape_model, simulator, size=s.size, latent=s.latent, material=material).to(self.device)

    def generator(self) -> nn.Module:
        """A slice generator, untrained."""
        s = self.settings
        return xavier_init(SpadeGenerator(size=s.size, features=s.features, hidden=s.hidden)).to(self.device)

    def fixed_material(self) -> FixedMaterial:
        """The table of HU and the scanner on the full grid."""
        s = self.settings
        simulator = CTSimulator(s.size, fov_mm=self.shape_model.fov_mm, views=s.full_views, pitch=1.0)
        return FixedMaterial(simulator).to(self.device)

    def _site(
        self, hospital: Hospital, count: int, seed: int, model: HeartModel, **options: Any
    ) -> tuple[Site, SharedOptimizers]:
        s = self.settings
        images, _ = hospital.part("train")
        parts = hospital.record["train_parts"]
        labels = [parts[i] if i < count else None for i in range(len(images))]
        volumes = SiteVolumes.from_tensors(images, labels, coarse=s.coarse)
        distance = FeatureDistance(VGGFeatures(width=s.vgg_width)).to(self.device)
        discriminator = xavier_init(MultiScaleDiscriminator(4, features=s.discriminator_features)).to(self.device)
        rates = {phase: {n: r for n, r in s.rates[phase].items() if n != "shared"} for phase in PHASES}
        site = Site(
            volumes,
            model,
            self.generator(),
            ConditionalAdversarialLoss(discriminator, distance),
            rates=rates,
            distance=distance,
            seed=seed,
            slices_per_step=s.slices,
            **options,
        )
        site.prepare()
        shared = {phase: r["shared"] for phase, r in s.rates.items() if "shared" in r}
        return site, SharedOptimizers(model, shared)

    def _fingerprint(self) -> str:
        """Of everything that a simulator depends on beside site, labels and seed."""
        numbers = asdict(self.settings)
        numbers = {name: numbers[name] for name in _SIMULATOR_SETTINGS}
        content = json.dumps(numbers, sort_keys=True).encode() + self.shape_file.read_bytes()
        return hashlib.sha256(content).hexdigest()[:8]

    def files(self, site: str, count: int, seed: int) -> dict[str, Path]:
        """Where the simulators of a site, a number of labels and a seed are kept."""
        stem = f"simulator-{site}-{count}-{seed}-{self._fingerprint()}"
        return {name: self.data / f"{stem}-{name}.pt" for name in self.variants}

    def train_simulators(self, site: str, count: int, seed: int, tell: Progress) -> None:
        """Stages A and B, then C with a frozen and with a learning discriminator, and the fixed materials."""
        files = self.files(site, count, seed)
        if all(path.is_file() for path in files.values()):
            return
        hospital = self.hospital(site, stretched(tell, 0.0, 0.1))
        torch.manual_seed(seed)
        model = self.model()
        ours, shared = self._site(hospital, count, seed, model)
        s = self.settings

        def run(owner: Site, optimizers: SharedOptimizers, stage: str, low: float, high: float) -> None:
            pull = s.steps["pull"] if stage == "semi_supervised" else 0
            step = SiteStep(owner, optimizers, StageSchedule(stage, s.steps[stage], pull=pull))
            run_stage(step, progress=stretched(tell, low, high))

        run(ours, shared, "parameters", 0.1, 0.2)
        fitted = self._fit_quality(ours)
        if "fix_mat" in files:
            torch.manual_seed(seed)
            fixed, _ = self._site(hospital, count, seed, model, fixed_material=self.fixed_material())
            fixed.latents.load_state_dict(ours.latents.state_dict())
            run(fixed, shared, "gan", 0.2, 0.4)
            self._save(files["fix_mat"], fixed, labelled_only=True, figures={})
        run(ours, shared, "gan", 0.4, 0.6)
        self._save(files["pre"], ours, labelled_only=True, figures=fitted)
        before = {"site": ours.state_dict(), "model": model.state_dict(), "shared": shared.state_dict()}
        before = _copied(before)
        for name, low in (("full", 0.6), ("unfrozen", 0.8)):
            if name not in files:
                continue
            model.load_state_dict(before["model"])
            shared.load_state_dict(_copied(before["shared"]))
            ours.load_state_dict(_copied(before["site"]))
            ours.freeze_discriminator = name == "full"
            run(ours, shared, "semi_supervised", low, low + 0.2)
            self._save(files[name], ours, labelled_only=False, figures=self._fit_quality(ours))

    @torch.no_grad()
    def _fit_quality(self, site: Site) -> dict[str, float]:
        """How well shape and material of the labelled volumes are matched."""
        index = site.volumes.labelled
        site.model.eval()
        z = site.latents(index)
        heart, target = site.model.heart(z).cpu(), site.volumes.hearts(index)
        both, either = (heart * target).flatten(1).sum(1), torch.maximum(heart, target).flatten(1).sum(1)
        wanted = site.volumes.material[index]
        error = (site.model.coarse_ct(z).cpu() - wanted).square().mean().sqrt() / wanted.std()
        return {"shape_iou": (both / either).mean().item(), "material_error": error.item()}

    def _save(self, path: Path, site: Site, *, labelled_only: bool, figures: dict[str, float]) -> None:
        record = {
            "model": site.model.state_dict(),
            "generator": site.generator.state_dict(),
            "gaussian": site.latent_gaussian(labelled_only=labelled_only).state_dict(),
            "figures": figures,
        }
        with replacing(path) as temporary:
            torch.save(record, temporary)

    def simulator(self, site: str, count: int, seed: int, name: str, **options: Any) -> HeartSimulator:
        """A trained simulator: ``fix_mat``, ``pre``, ``full`` or ``unfrozen``."""
        record = torch.load(self.files(site, count, seed)[name], weights_only=True, map_location="cpu")
        model, generator = self.model(), self.generator()
        model.load_state_dict(record["model"])
        generator.load_state_dict(record["generator"])
        fixed = self.fixed_material() if name == "fix_mat" else None
        gaussian = LatentGaussian.from_state(record["gaussian"])
        return HeartSimulator(model, generator, gaussian, fixed_material=fixed, **options)

    def figures(self, site: str, count: int, seed: int, name: str) -> dict[str, float]:
        """Figures that were measured when a simulator was trained."""
        return torch.load(self.files(site, count, seed)[name], weights_only=True)["figures"]

    def generate(self, simulator: HeartSimulator, count: int, seed: int, tell: Progress) -> tuple[Tensor, Tensor]:
        """Generated volumes and hearts, as float tensors."""
        images, hearts = [], []
        for n in range(count):
            case = simulator.generate(n, seed=seed)
            images.append(case.image)
            hearts.append((case.parts > 0).float())
            tell((n + 1) / count, f"generated volume {n + 1}")
        return torch.stack(images), torch.stack(hearts)


def _copied(state: Any) -> Any:
    """A deep copy of nested containers of tensors."""
    if isinstance(state, Tensor):
        return state.detach().clone()
    if isinstance(state, dict):
        return {key: _copied(value) for key, value in state.items()}
    return [_copied(value) for value in state] if isinstance(state, list) else state
