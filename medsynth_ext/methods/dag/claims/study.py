"""Few-shot DAG's study on radiographs of phantoms and of a real chest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medsynth_ext.claims import Arm, Claim, Progress, SettingsStudy
from medsynth_ext.data.chest_projections import ChestProjections
from medsynth_ext.data.files import replacing
from medsynth_ext.handlers.weights import load_weights
from medsynth_ext.methods.dag.cases import mean_shape
from medsynth_ext.methods.dag.claims.judging import make_claims
from medsynth_ext.methods.dag.claims.settings import ARMS, PHANTOM, REAL_ARMS, SPLITS, Settings, TrainingArm
from medsynth_ext.methods.dag.claims.training import Part, make_network, point_errors, train_graph, train_heatmaps
from medsynth_ext.methods.dag.evaluation import NotConvergedError, check_convergence
from medsynth_ext.methods.dag.network import DAGNet
from medsynth_ext.methods.dag.phantom_cases import ANATOMIES
from medsynth_ext.phantoms.xray_film import XrayPhantom

__all__ = ["DAGStudy"]

_ALL = {**ARMS, **REAL_ARMS}


class DAGStudy(SettingsStudy[Settings]):
    """The arms and claims of few-shot DAG.

    Stage 1 is trained once per seed and number of labelled images; all arms with so many start from it.

    Args:
        settings: the numbers of one scale.
        device: where networks are trained.
        split: ``test``, or ``choice`` while choices are made.
        chest_ct: a chest CT in HU whose projections are a second test (claim 8); without it that claim is left out.
        chest_ct_labels: its labelled structures.

    Raises:
        ValueError: for another split, settings that are missing or unknown, or a CT without labels.
    """

    settings_type = Settings
    splits = ("choice", "test")

    def __init__(
        self,
        settings: Mapping[str, Any],
        *,
        device: str | torch.device = "cpu",
        split: str = "test",
        chest_ct: str | Path | None = None,
        chest_ct_labels: str | Path | None = None,
    ) -> None:
        super().__init__(settings, device=device, split=split)
        if (chest_ct is None) != (chest_ct_labels is None):
            raise ValueError(f"chest_ct and chest_ct_labels belong together, got {chest_ct} and {chest_ct_labels}")
        self.chest = None if chest_ct is None or chest_ct_labels is None else (Path(chest_ct), Path(chest_ct_labels))

    def arms(self) -> list[Arm]:
        shared = self.shared()
        chosen = ARMS if self.chest is None else _ALL
        return [
            Arm(name, arm.description, self.settings.seeds, {**shared, "arm": asdict(arm)})
            for name, arm in chosen.items()
        ]

    def claims(self) -> list[Claim]:
        return make_claims(self.settings.thresholds, real=self.chest is not None)

    # Data and stage 1; the names of items are SOURCE-PART and SOURCE-stage1-LABELLED-SEED.

    def items(self, arms: Sequence[Arm]) -> list[str]:
        items: dict[str, None] = {}
        for arm in (_ALL[arm.name] for arm in arms):
            parts = ["labelled", "unlabelled", "validation", self.split]
            items |= dict.fromkeys(f"{arm.source}-{part}" for part in parts)
        for arm in (_ALL[arm.name] for arm in arms):
            if arm.kind != "heatmap":
                items |= dict.fromkeys(_stage1(arm, seed) for seed in self.settings.seeds)
        return list(items)

    def _file(self, item: str, data: Path) -> Path:
        s = self.settings
        source, part, *_ = item.split("-")
        image = f"{s.anatomy if source == PHANTOM else source}-{s.size}"
        if part != "stage1":
            return data / f"{image}-{part}-{self._count(source, part)}.pt"
        numbers = [s.supervised_steps, s.batch_size, f"{s.supervised_rate:g}", s.margin, s.validation]
        numbers += [str(value).replace(" ", "") for value in s.network.values()]
        return data / f"{image}-{item}-{'-'.join(map(str, numbers))}-{torch.device(self.device).type}.pt"

    def _count(self, source: str, part: str) -> int:
        s = self.settings
        phantom = source == PHANTOM
        most = max(arm.labelled for arm in _ALL.values() if arm.source == source)
        counts = {
            "labelled": most * (max(s.seeds) + 1),
            "unlabelled": s.unlabelled if phantom else s.real_unlabelled,
            "validation": s.validation,
        }
        return counts.get(part, s.test if phantom else s.real_test)

    def _part(self, source: str, part: str, data: Path) -> Part:
        item = f"{source}-{part}"
        self.prepare(item, data=data, progress=lambda fraction, text="": None)
        return torch.load(self._file(item, data), weights_only=True)

    def _labelled(self, arm: TrainingArm, seed: int, data: Path) -> Part:
        """Every seed has images of its own; those of a smaller number are among those of a larger one."""
        part = self._part(arm.source, "labelled", data)
        first = seed * max(a.labelled for a in _ALL.values() if a.source == arm.source)
        return {key: value[first : first + arm.labelled] for key, value in part.items()}

    def prepare(self, item: str, *, data: Path, progress: Progress) -> None:
        path = self._file(item, data)
        if path.is_file():
            return
        source, part, *rest = item.split("-")
        if part == "stage1":
            record: Any = self._train_stage1(source, int(rest[0]), int(rest[1]), data, progress).state_dict()
        else:
            record = self._draw(source, part, progress)
        with replacing(path) as temporary:
            torch.save(record, temporary)

    def _draw(self, source: str, part: str, progress: Progress) -> Part:
        draw: Callable[..., XrayPhantom]
        if source == PHANTOM:
            draw = ANATOMIES[self.settings.anatomy]
        else:
            assert self.chest is not None
            draw = ChestProjections(*self.chest).radiograph
        draw = partial(draw, size=self.settings.size)
        count = self._count(source, part)
        images, labels = [], []
        for i in range(count):
            phantom = draw(SPLITS[part] + i)
            low, high = torch.quantile(phantom.image.flatten(), torch.tensor([0.01, 0.99]))
            images.append(((phantom.image - low) / (high - low)).clamp(0, 1).half())
            labels.append(torch.where(phantom.visible[:, None], phantom.points, torch.nan).float())
            progress((i + 1) / count, f"{source} {part} image {i + 1}")
        return {"image": torch.stack(images), "label": torch.stack(labels)}

    def _train_stage1(self, source: str, count: int, seed: int, data: Path, progress: Progress) -> DAGNet:
        arm = next(a for a in _ALL.values() if (a.source, a.labelled, a.kind) == (source, count, "dag"))
        labelled = self._labelled(arm, seed, data)
        torch.manual_seed(seed)
        network = make_network(self.settings, labelled["label"].shape[1])
        pairs = zip(labelled["image"], labelled["label"], strict=True)
        network.set_mean_shape(mean_shape([{"image": image, "label": label} for image, label in pairs]))
        validation = self._part(source, "validation", data)
        return train_graph(self.settings, arm, network.to(self.device), labelled, None, validation, seed, progress)

    # Arms

    def run(self, arm: Arm, seed: int, *, folder: Path, data: Path, progress: Progress) -> dict[str, Any]:
        s, chosen = self.settings, _ALL[arm.name]
        validation, labelled = self._part(chosen.source, "validation", data), self._labelled(chosen, seed, data)
        torch.manual_seed(seed)
        network: nn.Module
        refused = False
        if chosen.kind == "heatmap":
            network = train_heatmaps(s, labelled, validation, seed, progress, torch.device(self.device))
        else:
            item = _stage1(chosen, seed)
            self.prepare(item, data=data, progress=progress)
            network = make_network(s, labelled["label"].shape[1])
            load_weights(network, self._file(item, data))
            network.to(self.device)
            share = float(point_errors(network, validation).nanmean()) / s.size
            try:
                check_convergence(share, s.max_error)
            except NotConvergedError:
                refused = True  # as the workflow does: what stage 1 has learnt is all there is
            if chosen.kind != "dag" and not refused:
                unlabelled = self._part(chosen.source, "unlabelled", data)["image"]
                network = train_graph(s, chosen, network, labelled, unlabelled, validation, seed, progress)
        with replacing(folder / "weights.pt") as temporary:
            torch.save(network.state_dict(), temporary)
        figures = self._figures(point_errors(network, self._part(chosen.source, self.split, data)))
        share = float(point_errors(network, validation).nanmean()) / s.size
        return {**figures, "validation_share": share, "refused": refused}

    def _figures(self, errors: Tensor) -> dict[str, Any]:
        found = errors[~errors.isnan()]
        return {
            "mean_px": found.mean().item(),
            "std_px": found.std().item(),
            "median_px": found.median().item(),
            "failure_rate": (found > self.settings.max_error * self.settings.size).double().mean().item(),
            "points": len(found),
        }


def _stage1(arm: TrainingArm, seed: int) -> str:
    return f"{arm.source}-stage1-{arm.labelled}-{seed}"
