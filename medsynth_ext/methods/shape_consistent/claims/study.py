"""The study of shape-consistent translation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from medsynth_ext.claims import Arm, Claim, Progress, SettingsStudy
from medsynth_ext.claims.store import fingerprint
from medsynth_ext.data.files import replacing
from medsynth_ext.engines import Stages
from medsynth_ext.methods.shape_consistent.claims.hearts import Hearts, draw_hearts
from medsynth_ext.methods.shape_consistent.claims.judging import make_claims
from medsynth_ext.methods.shape_consistent.claims.networks import (
    MODALITIES,
    augmentation,
    build_networks,
    segmentation_loss,
    train_networks,
)
from medsynth_ext.methods.shape_consistent.claims.scores import dice_scores, high_frequency_share, translation_scores
from medsynth_ext.methods.shape_consistent.claims.settings import JointArm, Settings, joint_arms
from medsynth_ext.methods.shape_consistent.offline import generate_offline, tune_offline
from medsynth_ext.methods.shape_consistent.run_network import predicted

__all__ = ["ShapeConsistentStudy"]

_REFERENCE, _WARM, _PLAIN = "reference", "warm", "plain"
_REFERENCE_SEED = 50_000  # references have first weights and draws of their own
_PLAIN_SEED = 70_000  # plain pairs go on with other draws than they began with, as the joint stage does


class ShapeConsistentStudy(SettingsStudy[Settings]):
    """The arms and claims of shape-consistent translation.

    Every seed has its own references (segmenters of all labelled real hearts, which judge translations and are trained
    with none), one warm pair of generators that all arms start from, and a plain pair that went on from there as a
    CycleGAN for as long as the joint stage lasts.

    Args:
        settings: the numbers of one scale.
        device: where networks are trained.
        split: ``test``, or ``validation`` while choices are made.

    Raises:
        ValueError: for another split, or settings that are missing or unknown.
    """

    settings_type = Settings

    def arms(self) -> list[Arm]:
        shared = self.shared("segmenters", "half_sources")
        kinds = self._kinds()
        seeds = self.settings.seeds
        return [Arm(name, arm.description, seeds, {**shared, "arm": asdict(arm)}) for name, arm in kinds.items()]

    def _kinds(self) -> dict[str, JointArm]:
        return joint_arms(self.settings.segmenters, half_sources=self.settings.half_sources)

    def claims(self) -> list[Claim]:
        return make_claims(self.settings.thresholds, self.settings.segmenters, half_sources=self.settings.half_sources)

    # What arms share

    def items(self, arms: Sequence[Arm]) -> list[str]:
        parts = [f"hearts-{part}-{m}" for part in ("train", self.split) for m in MODALITIES]
        seeds = self.settings.seeds
        # In this order: one needs what stands before it.
        return parts + [f"{kind}-{seed}" for kind in (_REFERENCE, _WARM, _PLAIN) for seed in seeds]

    def prepare(self, item: str, *, data: Path, progress: Progress) -> None:
        kind, *rest = item.split("-")
        path = self._file(item, data)
        if path.is_file():
            return
        if kind == "hearts":
            save(path, draw_hearts(rest[1], rest[0], self.settings, progress))
            return
        s, seed = self.settings, int(rest[0])
        networks = build_networks(s, s.segmenters[0], seed + (_REFERENCE_SEED if kind == _REFERENCE else 0))
        if kind == _REFERENCE:
            epochs = s.segmenter_epochs + s.joint_epochs
            stages = Stages(epochs, {}, last="segmenters", decay=s.decay_epochs)
        elif kind == _WARM:
            stages = Stages(s.generator_epochs, {}, last="generators")
        else:
            self._load(networks, f"{_WARM}-{seed}", data, ("generators", "discriminators"))
            stages = Stages(s.joint_epochs, {}, last="generators", decay=s.decay_epochs)
        folder = data / f"training-{path.stem}"
        draws = seed + _PLAIN_SEED if kind == _PLAIN else seed
        self._train(networks, stages, draws, folder, data, progress)
        save(path, {name: pair.state_dict() for name, pair in networks.items()})

    def _file(self, item: str, data: Path) -> Path:
        s = self.settings
        key = asdict(s)
        drawn = ("size", "fov_mm", "views", "ct_window_hu", "mr_percentiles", "train", "test")
        used = {k: v for k, v in key.items() if k in drawn or not item.startswith("hearts")}
        used = {
            k: v for k, v in used.items() if k not in ("thresholds", "seeds", "segmenters", "labelled", "half_sources")
        }
        return data / f"{item}-{fingerprint(used)}.pt"

    def _hearts(self, part: str, data: Path) -> dict[str, Hearts]:
        files = {m: self._file(f"hearts-{part}-{m}", data) for m in MODALITIES}
        return {m: torch.load(file, weights_only=True) for m, file in files.items()}

    def _load(self, networks: Mapping[str, nn.ModuleList], item: str, data: Path, names: Sequence[str]) -> None:
        states = torch.load(self._file(item, data), weights_only=True)
        for name in names:
            networks[name].load_state_dict(states[name])
            networks[name].to(self.device)

    def _train(
        self,
        networks: Mapping[str, nn.ModuleList],
        stages: Stages,
        seed: int,
        folder: Path,
        data: Path,
        progress: Progress,
        **limits: Any,
    ) -> None:
        options = {"seed": seed, "folder": folder, "device": self.device, "progress": progress, **limits}
        train_networks(networks, self._hearts("train", data), self.settings, stages, **options)

    # Arms

    def run(self, arm: Arm, seed: int, *, folder: Path, data: Path, progress: Progress) -> dict[str, Any]:
        kind = self._kinds()[arm.name]
        way = {
            "without": self._without,
            "transposed": self._transposed,
            "real": self._real,
            "ada": self._ada,
            "joint": self._joint,
        }[kind.way]
        return way(kind, seed, folder, data, part_of(progress, 0.0, 0.95))

    def _references(self, seed: int, data: Path) -> nn.ModuleList:
        networks = build_networks(self.settings, self.settings.segmenters[0], seed)
        self._load(networks, f"{_REFERENCE}-{seed}", data, ("segmenters",))
        return networks["segmenters"]

    def _translation(self, generators: nn.ModuleList, seed: int, data: Path) -> dict[str, Any]:
        """Both directions; a generator of ct makes mr, which the reference of mr judges."""
        tests, references = self._hearts(self.split, data), self._references(seed, data)
        voxel = self.settings.fov_mm / self.settings.size
        return {
            f"from_{source}": translation_scores(generators[i], references[1 - i], tests[source], voxel)
            for i, source in enumerate(MODALITIES)
        }

    def _dice(self, segmenters: Sequence[nn.Module], data: Path) -> dict[str, list[float]]:
        tests = self._hearts(self.split, data)
        return {m: dice_scores(network, tests[m]) for m, network in zip(MODALITIES, segmenters, strict=True)}

    def _without(self, kind: JointArm, seed: int, folder: Path, data: Path, progress: Progress) -> dict[str, Any]:
        networks = build_networks(self.settings, kind.segmenter, seed)
        self._load(networks, f"{_PLAIN}-{seed}", data, ("generators",))
        figures = self._translation(networks["generators"], seed, data)
        figures["reference_dice"] = self._dice(list(self._references(seed, data)), data)
        self._load(networks, f"{_WARM}-{seed}", data, ("generators",))
        return {**figures, "spectrum": self._spectrum(networks["generators"], data)}

    def _transposed(self, kind: JointArm, seed: int, folder: Path, data: Path, progress: Progress) -> dict[str, Any]:
        networks = build_networks(self.settings, kind.segmenter, seed, upsampling="transposed")
        stages = Stages(self.settings.generator_epochs, {}, last="generators")
        self._train(networks, stages, seed, folder, data, progress)
        return {"spectrum": self._spectrum(networks["generators"], data)}

    def _spectrum(self, generators: nn.ModuleList, data: Path) -> float:
        """Energy in the top octave of translations over that of real volumes, the mean of both directions."""
        tests = self._hearts(self.split, data)
        ratios = []
        for i, source in enumerate(MODALITIES):
            fakes = torch.stack([predicted(image, generators[i]).cpu() for image in tests[source]["images"]])
            real = tests[MODALITIES[1 - i]]["images"]
            ratios.append(high_frequency_share(fakes) / high_frequency_share(real))
        return sum(ratios) / len(ratios)

    def _limits(self, kind: JointArm) -> dict[str, int | None]:
        scarce = MODALITIES if kind.scarce == "both" else (kind.scarce,)
        return {m: self.settings.labelled if m in scarce else None for m in MODALITIES}

    def _real(self, kind: JointArm, seed: int, folder: Path, data: Path, progress: Progress) -> dict[str, Any]:
        s = self.settings
        networks = build_networks(s, kind.segmenter, seed)
        stages = Stages(s.segmenter_epochs + s.joint_epochs, {}, last="segmenters", decay=s.decay_epochs)
        self._train(networks, stages, seed, folder, data, progress, labelled=self._limits(kind))
        return self._dice(list(networks["segmenters"]), data)

    def _joint(self, kind: JointArm, seed: int, folder: Path, data: Path, progress: Progress) -> dict[str, Any]:
        s = self.settings
        networks = build_networks(s, kind.segmenter, seed)
        self._load(networks, f"{_WARM}-{seed}", data, ("generators", "discriminators"))
        epochs = s.segmenter_epochs + s.joint_epochs
        stages = Stages(epochs, {"segmenters": s.segmenter_epochs}, last="joint", decay=s.decay_epochs)
        counts = {m: s.train if m == kind.scarce else max(2, round(s.train * kind.sources)) for m in MODALITIES}
        self._train(networks, stages, seed, folder, data, progress, labelled=self._limits(kind), counts=counts)
        figures: dict[str, Any] = dict(self._dice(list(networks["segmenters"]), data))
        if not kind.scarce:
            figures |= self._translation(networks["generators"], seed, data)
            save(folder / "generators.pt", networks["generators"].state_dict())
        return figures

    def _ada(self, kind: JointArm, seed: int, folder: Path, data: Path, progress: Progress) -> dict[str, Any]:
        s = self.settings
        networks = build_networks(s, kind.segmenter, seed)
        stages = Stages(s.segmenter_epochs, {}, last="segmenters")
        limits = self._limits(kind)
        self._train(networks, stages, seed, folder, data, part_of(progress, 0.0, 0.4), labelled=limits)
        self._load(networks, f"{_PLAIN}-{seed}", data, ("generators",))
        hearts, steps = self._hearts("train", data), s.joint_epochs * s.train
        fall = Stages(s.joint_epochs, {}, last="joint", decay=s.decay_epochs)
        reports = [part_of(progress, 0.4 + 0.3 * i, 0.3) for i in range(2)]
        for i, (own, other) in enumerate(zip(MODALITIES, reversed(MODALITIES), strict=True)):
            network, generators = networks["segmenters"][i], networks["generators"]
            images, labels = (hearts[own][name][: limits[own]] for name in ("images", "labels"))
            made = generate_offline(images, hearts[other]["images"], to_own=generators[1 - i], to_other=generators[i])
            synthetic = torch.cat(made), torch.cat([hearts[other]["labels"], labels])
            optimizer = torch.optim.Adam(network.parameters(), s.segmenter_learning_rate)
            tune_offline(
                network,
                (images, labels),
                synthetic,
                loss=segmentation_loss(s),
                optimizer=optimizer,
                rate=lambda done: fall.rate(done // s.train),
                steps=steps,
                transform=augmentation(s),
                seed=seed,
                progress=reports[i],
            )
        return self._dice(list(networks["segmenters"]), data)


def part_of(progress: Progress, start: float, share: float) -> Progress:
    """Tells ``progress`` of a part of the whole."""

    def tell(fraction: float, text: str = "") -> None:
        progress(start + share * fraction, text)

    return tell


def save(path: Path, value: Mapping[str, Any]) -> None:
    """Write tensors whole or not at all."""
    with replacing(path) as temporary:
        torch.save(value, temporary)
