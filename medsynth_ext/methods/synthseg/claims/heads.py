"""Phantoms and scans of SynthSeg's claims, kept in files that all arms share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medsynth_ext.claims import Progress
from medsynth_ext.claims.store import fingerprint
from medsynth_ext.data.files import replacing
from medsynth_ext.methods.synthseg.claims.settings import SPLITS, EvaluationSettings, TrainingSettings
from medsynth_ext.methods.synthseg.labels import LabelTable
from medsynth_ext.phantoms import HeadPhantom, head_label_table, head_phantom, render_head, resample_to_phantom
from medsynth_ext.phantoms import with_boundary_noise as add_boundary_noise

__all__ = ["Heads", "Person", "Scan", "normalise", "phantom_label_table"]

OLD_MAPS, LARGE, LESIONS, CONTROLS, PATIENTS = 10_000, 1_000, 2_000, 3_000, 4_000  # offsets of seeds within a split
CT_WINDOW_HU = (0.0, 80.0)


@dataclass(frozen=True)
class Scan:
    """How a person is scanned: the group of the test, contrast, voxel size, and options of the renderer."""

    group: str
    contrast: str
    spacing_mm: tuple[float, float, float]
    options: tuple[tuple[str, float], ...] = ()

    @property
    def key(self) -> str:
        """Group, contrast and coarsest spacing: scans with equal keys are averaged."""
        return f"{self.group}/{self.contrast}/{max(self.spacing_mm):g}"


@dataclass(frozen=True)
class Person:
    """One phantom of the test and how it is scanned."""

    name: str
    seed: int
    population: str
    scans: tuple[Scan, ...]
    lesions: int | None = None


def phantom_label_table(merged: Mapping[str, int] | None = None) -> LabelTable:
    """The phantom's labels with what the generator needs to know; ``merged`` maps predicted values to others."""
    table = head_label_table()
    into = {int(value): other for value, other in (merged or {}).items()}
    predicted = [into.get(value, value) for value in table["segmentation_labels"]]
    labels = table["generation_labels"]
    return LabelTable(
        generation_labels=labels,
        n_neutral=table["n_neutral"],
        generation_classes=table["generation_classes"],
        segmentation_labels=predicted,
        names={int(value): name for value, name in table["names"].items()},
        topological_classes={int(v): group for v, group in table["topological_classes"].items() if int(v) in predicted},
        lesion_labels={25: 2, 57: 41},
        extra_cerebral_labels=[value for value in labels if value >= 500],
        csf_label=24,
    )


def normalise(image: Tensor, contrast: str) -> Tensor:
    """A scan in [0, 1]: CT by its window, MR between its percentiles 0.5 and 99.5."""
    if contrast == "CT":
        low, high = torch.tensor(CT_WINDOW_HU[0]), torch.tensor(CT_WINDOW_HU[1])
    else:
        low, high = torch.quantile(image.flatten()[:: max(1, image.numel() // 2**22)], torch.tensor([0.005, 0.995]))
    return ((image - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)


class Heads:
    """Training maps and test scans of one scale; every part is made once and kept in a file.

    Args:
        training: size of maps and how many.
        evaluation: who is scanned and how.
        split: ``validation`` for choices, ``test`` for results.
    """

    def __init__(self, training: TrainingSettings, evaluation: EvaluationSettings, *, split: str) -> None:
        if split not in SPLITS:
            raise ValueError(f"split must be one of {sorted(SPLITS)}, got {split!r}")
        self.training = training
        self.evaluation = evaluation
        self.split = split
        self.table = phantom_label_table(training.merged)

    # Training

    def training_items(self, kind: str) -> list[str]:
        """Names of the training data of a kind: ``young map``, ``old map`` or ``T1 scan`` (of the young)."""
        count = self.training.old_maps if kind == "old map" else self.training.young_maps
        return [f"{kind} {i}" for i in range(count)]

    def load_training(self, kind: str, data: Path) -> Tensor:  # (N, 1, D, H, W)
        """All training data of a kind that :meth:`prepare` has made."""
        return torch.stack(
            [torch.load(self._path(item, data), weights_only=True) for item in self.training_items(kind)]
        )

    def _phantom(self, seed: int, population: str, lesions: int | None = None) -> HeadPhantom:
        shape, spacing = self.training.shape, self.training.spacing_mm
        return head_phantom(seed, shape=shape, spacing_mm=spacing, population=population, lesions=lesions)

    def _training(self, item: str) -> Tensor:  # (1, D, H, W)
        kind, number = item.rsplit(" ", 1)
        i = int(number)
        if kind == "old map":
            labels = self._phantom(OLD_MAPS + i, "old").labels
            return add_boundary_noise(labels, seed=i, fraction=self.training.boundary_noise)[None]
        phantom = self._phantom(i, "young")
        if kind == "young map":
            return phantom.labels[None]
        contrast = self.evaluation.contrasts[0]
        scan = resample_to_phantom(render_head(phantom, contrast, i), phantom).as_tensor()
        return normalise(scan, contrast).half()

    # Test

    def people(self, groups: Sequence[str]) -> list[Person]:
        """Everybody who is scanned for these groups of the test."""
        base, found = SPLITS[self.split], []
        if "main" in groups:
            for i in range(self.evaluation.subjects):
                found.append(Person(f"person {i}", base + i, "young", tuple(self._main_scans(i))))
        if "large" in groups:
            scans = (self._native("large", self.evaluation.contrasts[0]),)
            found += [Person(f"large ventricles {i}", seed, "old", scans) for i, seed in enumerate(self._largest)]
        if "lesions" in groups:
            for i in range(self.evaluation.lesion_subjects):
                for group, count in (("lesions", self.evaluation.lesions), ("no lesions", 0)):
                    scan = (self._native(group, "FLAIR"),)
                    found.append(Person(f"{group} {i}", base + LESIONS + i, "young", scan, lesions=count))
        if "groups" in groups:
            for group, offset, population in (("control", CONTROLS, "old"), ("patient", PATIENTS, "patient")):
                scan = (Scan(group, "FLAIR", self.evaluation.group_spacing_mm),)
                for i in range(self.evaluation.group_subjects):
                    found.append(Person(f"{group} {i}", base + offset + i, population, scan))
        return found

    def _native(self, group: str, contrast: str, **options: float) -> Scan:
        return Scan(group, contrast, (self.training.spacing_mm,) * 3, tuple(options.items()))

    def _main_scans(self, person: int) -> Iterator[Scan]:
        setting, native = self.evaluation, self.training.spacing_mm
        axes = range(3) if setting.every_direction else [person % 3]
        for contrast in setting.contrasts:
            yield self._native("main", contrast)
            for coarse in setting.coarse_mm:
                for axis in axes:
                    spacing = [native] * 3
                    spacing[axis] = coarse
                    yield Scan("main", contrast, (spacing[0], spacing[1], spacing[2]))
        options = {"bias": setting.shifted_bias, "means_shift": setting.shifted_means}
        yield self._native("shifted", setting.contrasts[0], **options)

    @cached_property
    def _largest(self) -> list[int]:
        """Seeds of the old people with the largest ventricles."""
        base, setting = SPLITS[self.split], self.evaluation
        scales = {
            seed: self._phantom(seed, "old").parameters.ventricle_scale
            for seed in range(base + LARGE, base + LARGE + setting.old_candidates)
        }
        count = max(1, round(setting.largest_fraction * setting.old_candidates))
        return sorted(scales, key=lambda seed: scales[seed], reverse=True)[:count]

    def load_person(self, person: Person, data: Path) -> dict[str, Any]:
        """``images`` (N, 1, D, H, W) float16, ``truth`` (D, H, W) uint8 channels, ``volumes`` of the true labels."""
        return torch.load(self._path(person.name, data, asdict(person)), weights_only=True)

    def _scan(self, person: Person, progress: Progress) -> dict[str, Any]:
        phantom = self._phantom(person.seed, person.population, person.lesions)
        images = []
        for i, scan in enumerate(person.scans):
            progress(i / len(person.scans), scan.key)
            # A seed of its own for every scan: noise, bias and smooth variation differ between contrasts.
            seed = person.seed * 1000 + i
            image = render_head(phantom, scan.contrast, seed, spacing_mm=scan.spacing_mm, **dict(scan.options))
            images.append(normalise(resample_to_phantom(image, phantom).as_tensor(), scan.contrast).half())
        truth = self.table.target_of[self.table.lut[phantom.labels.long()].long()]
        volumes = {str(value): volume for value, volume in phantom.volumes_mm3.items()}
        return {"images": torch.stack(images), "truth": truth.to(torch.uint8), "volumes": volumes}

    # Files

    def prepare(self, item: str, people: Sequence[Person], *, data: Path, progress: Progress) -> None:
        """Make one item, unless its file is there: training data, or the scans of one of the people."""
        person = next((p for p in people if p.name == item), None)
        path = self._path(item, data, None if person is None else asdict(person))
        if path.is_file():
            return
        content = self._training(item) if person is None else self._scan(person, progress)
        with replacing(path) as temporary:
            torch.save(content, temporary)

    def _path(self, item: str, data: Path, details: dict[str, Any] | None = None) -> Path:
        setting = self.training
        depends: dict[str, Any] = {"shape": setting.shape, "spacing_mm": setting.spacing_mm, "person": details}
        if details is None:
            depends |= {"noise": setting.boundary_noise, "contrast": self.evaluation.contrasts[0]}
        return data / f"{item.replace(' ', '_')}-{fingerprint(depends)}.pt"
