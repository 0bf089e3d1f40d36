"""The study of semi-paired translation on pelvis phantoms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medsynth_ext.claims import Arm, Claim, Progress, SettingsStudy
from medsynth_ext.data.files import replacing
from medsynth_ext.handlers.weights import load_weights
from medsynth_ext.methods.semipaired.claims.judges import TissueFeatures, segmenter, train_features, train_segmenter
from medsynth_ext.methods.semipaired.claims.judging import make_claims
from medsynth_ext.methods.semipaired.claims.patients import draw_split
from medsynth_ext.methods.semipaired.claims.scoring import score, structure_dice
from medsynth_ext.methods.semipaired.claims.settings import ARMS, Settings
from medsynth_ext.methods.semipaired.claims.training import ArmTraining

__all__ = ["SemiPairedStudy"]

_JUDGES = ("ct", "mr", "features")


class SemiPairedStudy(SettingsStudy[Settings]):
    """The arms and claims of the method.

    Args:
        settings: the numbers of one scale.
        device: where networks are trained.
        split: ``test``, or ``validation`` while choices are made.

    Raises:
        ValueError: for another split, or settings that are missing or unknown.
    """

    settings_type = Settings

    def arms(self) -> list[Arm]:
        shared = self.shared()
        seeds = self.settings.seeds
        return [Arm(name, arm.description, seeds, {**shared, "arm": asdict(arm)}) for name, arm in ARMS.items()]

    def claims(self) -> list[Claim]:
        return make_claims(self.settings.thresholds)

    # Data

    def _file(self, item: str, data: Path) -> Path:
        s = self.settings
        count = f"{s.train_mr}-{s.train_ct}" if item == "train" else f"{s.test_mr}-{s.test_ct}"
        return data / f"{item}-{count}-{s.size}-{s.spacing_mm:g}-{s.slices}-{s.views}-{s.photons:g}.pt"

    def _judge_file(self, name: str, data: Path) -> Path:
        s = self.settings
        return data / f"judge-{name}-{s.judge_features}-{s.judge_steps}-{self._file('train', data).name}"

    def items(self, arms: Sequence[Arm]) -> list[str]:
        return ["train", self.split, "judges"] if arms else []

    def _record(self, item: str, data: Path, progress: Progress) -> dict[str, Tensor]:
        path = self._file(item, data)
        if not path.is_file():
            record = draw_split(item, self.settings, progress)
            with replacing(path) as temporary:
                torch.save(record, temporary)
        return torch.load(path, weights_only=True)

    def prepare(self, item: str, *, data: Path, progress: Progress) -> None:
        if item != "judges":
            self._record(item, data, progress)
            return
        record = self._record("train", data, progress)
        for i, name in enumerate(_JUDGES):
            path = self._judge_file(name, data)
            if path.is_file():
                continue
            torch.manual_seed(i)
            network = self._new_judge(name)

            def report(fraction: float, text: str = "", *, done: int = i, of: str = name) -> None:
                progress((done + fraction) / len(_JUDGES), f"judge of {of}, {text}")

            self._train_judge(name, network, record, report)
            with replacing(path) as temporary:
                torch.save(network.state_dict(), temporary)

    def _new_judge(self, name: str) -> nn.Module:
        f = self.settings.judge_features
        return (TissueFeatures(f) if name == "features" else segmenter(f)).to(self.device)

    def _train_judge(self, name: str, network: Any, record: Mapping[str, Tensor], progress: Progress) -> None:
        options: dict[str, Any] = {"steps": self.settings.judge_steps, "batch_size": 8, "progress": progress}
        record = {key: value.to(self.device) for key, value in record.items()}
        if name != "features":
            train_segmenter(network, record[name], record[f"{name}_labels"], **options)
            return
        modality = torch.cat([torch.full((len(record[key]),), i) for i, key in enumerate(("mr", "ct"))]).to(self.device)
        images, labels = (torch.cat([record[f"mr{end}"], record[f"ct{end}"]]) for end in ("", "_labels"))
        train_features(network, images, labels, modality, **options)

    # Arms

    def run(self, arm: Arm, seed: int, *, folder: Path, data: Path, progress: Progress) -> dict[str, Any]:
        training = ArmTraining(ARMS[arm.name], self.settings, seed, self.device)
        weights = folder / "weights.pt"
        networks = nn.ModuleDict(training.generators)
        if weights.is_file():  # left by a run that was stopped during the evaluation
            load_weights(networks, weights)
        else:
            record = self._record("train", data, progress)
            training.run(record, folder, lambda f, text="": progress(0.9 * f, text))
            with replacing(weights) as temporary:
                torch.save(networks.state_dict(), temporary)
        progress(0.95, "testing")
        return self._score(training.generators, folder, data, progress)

    def _score(
        self, generators: Mapping[str, nn.Module], folder: Path, data: Path, progress: Progress
    ) -> dict[str, Any]:
        judges = {}
        for name in _JUDGES:
            judges[name] = self._new_judge(name).eval()
            load_weights(judges[name], self._judge_file(name, data))
        record, s = self._record(self.split, data, progress), self.settings
        segmenters = {name: judges[name] for name in ("ct", "mr")}
        figures: dict[str, Any] = {
            "segmenter_dice": {
                name: structure_dice(network, record[name].to(self.device), record[f"{name}_labels"], s.slices)
                for name, network in segmenters.items()
            }
        }
        for direction, generator in generators.items():
            options: dict[str, Any] = {"slices": s.slices, "kid_subset": s.kid_subset, "device": self.device}
            figures[direction], pred = score(
                generator, direction, record, segmenters=segmenters, features=judges["features"], **options
            )
            with replacing(folder / f"{direction}.pt") as temporary:
                torch.save(pred.half(), temporary)
        return figures
