"""SynthSeg's study: networks trained on head phantoms, tested on scans of other phantoms."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from medsynth_ext.claims import Arm, Claim, Progress, Results, Study
from medsynth_ext.data.files import replacing, write_json
from medsynth_ext.generators import SynthSegGenerator
from medsynth_ext.handlers.weights import load_weights
from medsynth_ext.methods.synthseg.claims.arms import ARMS, NetworkArm
from medsynth_ext.methods.synthseg.claims.evaluation import Evaluator
from medsynth_ext.methods.synthseg.claims.figure import draw_results, save_slices
from medsynth_ext.methods.synthseg.claims.generation import measure_repeatability, measure_speed
from medsynth_ext.methods.synthseg.claims.heads import Heads, Person
from medsynth_ext.methods.synthseg.claims.judging import make_claims
from medsynth_ext.methods.synthseg.claims.settings import Settings, plain
from medsynth_ext.methods.synthseg.claims.training import PairSource, ScanPairs, SyntheticPairs, train
from medsynth_ext.methods.synthseg.network import SynthSegUNet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["SynthSegStudy"]

MEASUREMENTS = {
    "repeatability": "the same samples with other threads, batches and devices",
    "speed": "time of a training pair against plain PyTorch",
}


class SynthSegStudy(Study):
    """The arms and claims of SynthSeg.

    Args:
        settings: the numbers of one scale.
        device: where networks are trained.
        split: ``test``, or ``validation`` while choices are made.
    """

    def __init__(self, settings: Mapping[str, Any], *, device: str | torch.device = "cpu", split: str = "test") -> None:
        self.settings = Settings.from_config(settings)
        self.device = str(device)
        self.heads = Heads(self.settings.training, self.settings.evaluation, split=split)

    def arms(self) -> list[Arm]:
        shared = {
            "training": plain(self.settings.training),
            "evaluation": plain(self.settings.evaluation),
            "split": self.heads.split,
            "device": torch.device(self.device).type,
        }
        seeds = self.settings.training.seeds
        arms = [Arm(name, arm.description, seeds, {**shared, "arm": plain(arm)}) for name, arm in ARMS.items()]
        speed = {"speed": plain(self.settings.speed), "device": shared["device"]}
        return arms + [Arm(name, text, (0,), speed, alone=True) for name, text in MEASUREMENTS.items()]

    def claims(self) -> list[Claim]:
        native, evaluation = self.settings.training.spacing_mm, self.settings.evaluation
        cuda = torch.cuda.is_available()
        return make_claims(self.settings.thresholds, evaluation, native_mm=native, device=self.device, cuda=cuda)

    def items(self, arms: Sequence[Arm]) -> list[str]:
        networks = [ARMS[arm.name] for arm in arms if arm.name in ARMS]
        if not networks:
            return []
        kinds = ["young map"]
        kinds += ["old map"] if any(network.old for network in networks) else []
        kinds += ["T1 scan"] if any(network.scans for network in networks) else []
        training = [item for kind in kinds for item in self.heads.training_items(kind)]
        people = self.heads.people(sorted({group for network in networks for group in network.groups}))
        return training + [person.name for person in people]

    def prepare(self, item: str, *, data: Path, progress: Progress) -> None:
        everybody = self.heads.people(sorted({group for network in ARMS.values() for group in network.groups}))
        self.heads.prepare(item, everybody, data=data, progress=progress)

    def run(self, arm: Arm, seed: int, *, folder: Path, data: Path, progress: Progress) -> dict[str, Any]:
        if arm.name == "repeatability":
            return measure_repeatability(self.settings.speed, seed=seed, progress=progress)
        if arm.name == "speed":
            kind = torch.device(self.device).type
            return measure_speed(self.settings.speed, seed=seed, device=kind, progress=progress)
        return self._run_network(ARMS[arm.name], seed, folder=folder, data=data, progress=progress)

    def draw(self, results: Results, folders: Mapping[str, Path]) -> Figure | None:
        return draw_results(results, folders, self.settings, self.heads.table)

    # One network

    def _run_network(
        self, arm: NetworkArm, seed: int, *, folder: Path, data: Path, progress: Progress
    ) -> dict[str, Any]:
        setting = self.settings.training
        torch.manual_seed(seed)
        network = SynthSegUNet(1, self.heads.table.n_targets, features=setting.features, norm=setting.norm)
        network.to(self.device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        weights = folder / "weights.pt"
        if weights.is_file():  # left by a run that was stopped during the evaluation
            load_weights(network, weights)
        else:
            pairs = self._pairs(arm, seed, data)
            losses = train(network, pairs, setting, seed=seed, progress=lambda f, text="": progress(0.8 * f, text))
            last = losses[-max(1, len(losses) // 20) :]
            write_json(folder / "loss.json", {"final": round(sum(last) / len(last), 4), "steps": losses})
            with replacing(weights) as temporary:
                torch.save(network.state_dict(), temporary)
        evaluator = Evaluator(
            network,
            self.heads.table,
            amp=setting.amp,
            batch_size=self.settings.evaluation.batch_size,
            voxel_mm3=setting.spacing_mm**3,
        )
        self._evaluate(arm, evaluator, folder, data, progress)
        loss = json.loads((folder / "loss.json").read_text(encoding="utf-8"))["final"]
        return {**evaluator.figures(), "final_loss": loss}

    def _pairs(self, arm: NetworkArm, seed: int, data: Path) -> PairSource:
        setting = self.settings.training
        generator = SynthSegGenerator(
            self.heads.table,
            crop_size=setting.crop_size,
            spacing_mm=setting.spacing_mm,
            map_spacing_mm=setting.spacing_mm,
            validate=False,
            **{**setting.generator, **arm.ranges},
        )
        maps = self.heads.load_training("young map", data)
        if arm.maps is not None:  # other maps for every seed
            chosen = torch.randperm(len(maps), generator=torch.Generator().manual_seed(seed))[: arm.maps]
            maps = maps[chosen]
        if arm.old:
            maps = torch.cat([maps, self.heads.load_training("old map", data)])
        maps = maps.to(self.device)
        if arm.scans:
            return ScanPairs(generator, maps, self.heads.load_training("T1 scan", data).to(self.device))
        return SyntheticPairs(generator, maps)

    def _evaluate(self, arm: NetworkArm, evaluator: Evaluator, folder: Path, data: Path, progress: Progress) -> None:
        people: list[Person] = self.heads.people(arm.groups)
        for i, person in enumerate(people):
            progress(0.8 + 0.2 * i / len(people), f"testing {person.name}")
            record = self.heads.load_person(person, data)
            evaluator.add(person, record)
            if arm.flip:
                evaluator.add_flip(person, record, self.settings.training.spacing_mm)
            if i == 0:
                save_slices(folder / "slices.pt", person, record, evaluator, self.settings.training.spacing_mm)
