"""The heart's claim: networks trained on maps of MR images segment CT, and need the sub-labels for it."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.transforms import ScaleIntensityRangePercentiles
from torch import Tensor, nn

from medsynth_ext.claims import Arm, Claim, Condition, Progress, Results, SettingsStudy
from medsynth_ext.data.files import replacing, write_json
from medsynth_ext.generators import SynthSegGenerator
from medsynth_ext.handlers.weights import load_weights
from medsynth_ext.methods.synthseg.claims.evaluation import dice_per_channel
from medsynth_ext.methods.synthseg.claims.heart_settings import ARMS, SPLITS, TEST_SETS, HeartSettings
from medsynth_ext.methods.synthseg.claims.training import SyntheticPairs, train
from medsynth_ext.methods.synthseg.heart_cases import heart_image
from medsynth_ext.methods.synthseg.labels import LabelTable
from medsynth_ext.methods.synthseg.network import SynthSegUNet
from medsynth_ext.methods.synthseg.preprocessing import ClipCT
from medsynth_ext.methods.synthseg.sub_labels import split_labels, sub_label_table
from medsynth_ext.phantoms.heart_meshes import PARTS
from medsynth_ext.phantoms.whole_heart import WholeHeartPhantom, whole_heart_phantom

__all__ = ["HeartStudy"]

_POPULATION = 1  # seed of the people


class HeartStudy(SettingsStudy[HeartSettings]):
    """The arms and the claim of SynthSeg on hearts.

    Args:
        settings: the numbers of one scale.
        device: where networks are trained.
        split: ``test``, or ``validation`` while choices are made.

    Raises:
        ValueError: for another split, or settings that are missing or unknown.
    """

    settings_type = HeartSettings

    def __init__(self, settings: Mapping[str, Any], *, device: str | torch.device = "cpu", split: str = "test") -> None:
        super().__init__(settings, device=device, split=split)
        names = dict(enumerate(PARTS, start=1))
        options = {"background": max(self.settings.backgrounds), "foreground": self.settings.foreground}
        self.table = LabelTable.from_dict(sub_label_table(names, **options))

    def arms(self) -> list[Arm]:
        shared = self.shared()
        return [Arm(name, text, self.settings.seeds, shared) for name, text in ARMS.items()]

    def claims(self) -> list[Claim]:
        limits = self.settings.thresholds

        def mean(figures: Mapping[str, Any], *sets: str) -> float:
            return 100 * statistics.fmean(value for name in sets for value in figures["dice"][name])

        def judge(results: Results) -> Iterable[Condition]:
            learned = results.per_seed(lambda f: mean(f, "MR"), "sub_labels")
            across = results.per_seed(lambda f: mean(f, "CT") - mean(f, "MR"), "sub_labels")
            gain = results.per_seed(lambda a, b: mean(a, "MR", "CT") - mean(b, "MR", "CT"), *ARMS)
            return [
                Condition("Dice on CT minus Dice on MR, points", tuple(across), ">=", limits["ct_gap"]),
                Condition("Dice with sub-labels minus Dice without", tuple(gain), ">=", limits["sub_label_gain"]),
                Condition("precondition: Dice on MR, %", tuple(learned), ">=", limits["learned"]),
            ]

        sentence = (
            "A network trained on label maps of MR images alone segments CT as well as MR, and sub-labels of the "
            "background by intensity are what makes it work."
        )
        return [Claim("10", sentence, tuple(ARMS), judge)]

    # Data

    def items(self, arms: Sequence[Arm]) -> list[str]:
        return ["train", *TEST_SETS] if arms else []

    def prepare(self, item: str, *, data: Path, progress: Progress) -> None:
        path, s = self._file(item, data), self.settings
        if path.is_file():
            return
        count = s.train_people if item == "train" else s.test_people
        parts: list[dict[str, Tensor]] = []
        for k in range(count):
            index = SPLITS["train" if item == "train" else self.split] + k
            phantom = whole_heart_phantom(_POPULATION, index, size=s.size, fov_mm=s.size * s.spacing_mm)
            parts.append(self._maps(phantom) if item == "train" else self._scan(phantom, item))
            progress((k + 1) / count, f"{item} {k + 1}")
        with replacing(path) as temporary:
            torch.save({name: torch.cat([part[name] for part in parts]) for name in parts[0]}, temporary)

    def _file(self, item: str, data: Path) -> Path:
        s = self.settings
        count = s.train_people if item == "train" else s.test_people
        parts = [item.replace(" ", "_"), "" if item == "train" else self.split, count, s.size, f"{s.spacing_mm:g}"]
        if item == "train":
            parts += ["-".join(map(str, s.backgrounds)), s.foreground, s.least_voxels]
        return data / ("_".join(str(part) for part in parts if part != "") + ".pt")

    def _maps(self, phantom: WholeHeartPhantom) -> dict[str, Tensor]:
        s = self.settings
        image = heart_image(phantom, "bssfp", seed=phantom.index)[0]
        versions = [
            split_labels(
                torch.as_tensor(image),
                phantom.labels,
                background=background,
                foreground=s.foreground,
                least_voxels=s.least_voxels,
                seed=phantom.index,
            )[0]
            for background in s.backgrounds
        ]
        return {
            "sub_labels": torch.stack(versions)[:, None].short(),
            "one_background": phantom.labels[None, None].short(),
        }

    def _scan(self, phantom: WholeHeartPhantom, item: str) -> dict[str, Tensor]:
        test = TEST_SETS[item]
        image = heart_image(phantom, test.modality, seed=phantom.index)
        clip = ClipCT(test.modality.startswith("ct"), window_hu=self.settings.ct_window_hu)
        scaled = torch.as_tensor(ScaleIntensityRangePercentiles(0.5, 99.5, 0.0, 1.0, clip=True)(clip(image)))
        return {"image": scaled[None].half(), "truth": phantom.labels[None]}

    # One network

    def run(self, arm: Arm, seed: int, *, folder: Path, data: Path, progress: Progress) -> dict[str, Any]:
        s = self.settings
        torch.manual_seed(seed)
        network = SynthSegUNet(1, self.table.n_targets, features=s.features, norm=s.norm)
        network.to(self.device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        weights = folder / "weights.pt"
        if weights.is_file():  # left by a run that was stopped during the evaluation
            load_weights(network, weights)
        else:
            generator = SynthSegGenerator(
                self.table,
                crop_size=s.crop_size,
                spacing_mm=s.spacing_mm,
                map_spacing_mm=s.spacing_mm,
                validate=False,
                **s.generator,
            )
            maps = torch.load(self._file("train", data), weights_only=True)[arm.name].to(self.device)
            pairs = SyntheticPairs(generator, maps)
            losses = train(network, pairs, s, seed=seed, progress=lambda f, text="": progress(0.9 * f, text))
            last = losses[-max(1, len(losses) // 20) :]
            write_json(folder / "loss.json", {"final": round(sum(last) / len(last), 4), "steps": losses})
            with replacing(weights) as temporary:
                torch.save(network.state_dict(), temporary)
        figures = self._evaluate(network, data, progress)
        return {**figures, "final_loss": json.loads((folder / "loss.json").read_text(encoding="utf-8"))["final"]}

    @torch.inference_mode()
    def _evaluate(self, network: nn.Module, data: Path, progress: Progress) -> dict[str, Any]:
        network.eval()
        dice: dict[str, list[float]] = {}
        parts: dict[str, dict[str, float]] = {}
        for name, test in TEST_SETS.items():
            progress(0.95, f"testing on {name}")
            record = torch.load(self._file(name, data), weights_only=True)
            rows = []
            for image, truth in zip(record["image"], record["truth"], strict=True):
                x = image[None].to(self.device).float().contiguous(memory_format=torch.channels_last_3d)
                with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.settings.amp):
                    predicted = network(x).argmax(1)[0].cpu()
                rows.append(dice_per_channel(predicted, truth, self.table.n_targets))
            values = torch.stack(rows)
            if test.only is not None:
                values = values[:, test.only - 1 : test.only]
            dice[name] = [round(float(v), 5) for v in values.nanmean(1)]
            titles = PARTS if test.only is None else PARTS[test.only - 1 : test.only]
            parts[name] = {title: round(float(v), 5) for title, v in zip(titles, values.nanmean(0), strict=True)}
        return {"dice": dice, "parts": parts}
