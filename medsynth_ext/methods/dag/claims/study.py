"""Few-shot DAG's study on radiographs of phantoms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medsynth_ext.claims import Arm, Claim, Progress, Study
from medsynth_ext.data.files import replacing
from medsynth_ext.handlers.weights import load_weights
from medsynth_ext.methods.dag.cases import mean_shape
from medsynth_ext.methods.dag.claims.judging import make_claims
from medsynth_ext.methods.dag.claims.settings import ARMS, SPLITS, Settings
from medsynth_ext.methods.dag.claims.training import Part, make_network, point_errors, train_graph, train_heatmaps
from medsynth_ext.methods.dag.evaluation import NotConvergedError, check_convergence
from medsynth_ext.methods.dag.network import DAGNet
from medsynth_ext.methods.dag.phantom_cases import ANATOMIES

__all__ = ["DAGStudy"]

_MOST_LABELLED = max(arm.labelled for arm in ARMS.values())


class DAGStudy(Study):
    """The arms and claims of few-shot DAG.

    Stage 1 is trained once per seed and number of labelled images; all arms with so many start from it.

    Args:
        settings: the numbers of one scale.
        device: where networks are trained.
        split: ``test``, or ``choice`` while choices are made.

    Raises:
        ValueError: for another split, or settings that are missing or unknown.
    """

    def __init__(self, settings: Mapping[str, Any], *, device: str | torch.device = "cpu", split: str = "test") -> None:
        if split not in ("choice", "test"):
            raise ValueError(f"split must be one of choice, test, got {split!r}")
        self.settings = Settings.from_config(settings)
        self.device = str(device)
        self.split = split

    def arms(self) -> list[Arm]:
        numbers = {key: value for key, value in asdict(self.settings).items() if key not in ("thresholds", "seeds")}
        shared = {**numbers, "split": self.split, "device": torch.device(self.device).type}
        return [
            Arm(name, arm.description, self.settings.seeds, {**shared, "arm": asdict(arm)})
            for name, arm in ARMS.items()
        ]

    def claims(self) -> list[Claim]:
        return make_claims(self.settings.thresholds)

    # Data and stage 1

    def items(self, arms: Sequence[Arm]) -> list[str]:
        counts = sorted({ARMS[arm.name].labelled for arm in arms if ARMS[arm.name].kind != "heatmap"})
        stages = [f"stage1-{n}-{seed}" for n in counts for seed in self.settings.seeds]
        return ["labelled", "unlabelled", "validation", self.split, *stages]

    def _file(self, item: str, data: Path) -> Path:
        s = self.settings
        if item.startswith("stage1"):
            numbers = [s.anatomy, s.size, s.supervised_steps, s.batch_size, f"{s.supervised_rate:g}", s.margin]
            numbers += [s.validation, *(str(v).replace(" ", "") for v in s.network.values())]
            return data / f"{item}-{'-'.join(map(str, numbers))}-{torch.device(self.device).type}.pt"
        return data / f"{s.anatomy}-{item}-{self._count(item)}-{s.size}.pt"

    def _count(self, item: str) -> int:
        s = self.settings
        counts = {
            "labelled": _MOST_LABELLED * (max(s.seeds) + 1),
            "unlabelled": s.unlabelled,
            "validation": s.validation,
        }
        return counts.get(item, s.test)

    def _part(self, item: str, data: Path) -> Part:
        self.prepare(item, data=data, progress=lambda fraction, text="": None)
        return torch.load(self._file(item, data), weights_only=True)

    def _labelled(self, count: int, seed: int, data: Path) -> Part:
        """Every seed has images of its own; those of a smaller number are among those of a larger one."""
        first = seed * _MOST_LABELLED
        return {key: value[first : first + count] for key, value in self._part("labelled", data).items()}

    def prepare(self, item: str, *, data: Path, progress: Progress) -> None:
        path = self._file(item, data)
        if path.is_file():
            return
        if item.startswith("stage1"):
            _, count, seed = item.split("-")
            record: Any = self._stage1(int(count), int(seed), data, progress).state_dict()
        else:
            record = self._draw(item, progress)
        with replacing(path) as temporary:
            torch.save(record, temporary)

    def _draw(self, item: str, progress: Progress) -> Part:
        count = self._count(item)
        images, labels = [], []
        for i in range(count):
            phantom = ANATOMIES[self.settings.anatomy](SPLITS[item] + i, size=self.settings.size)
            low, high = torch.quantile(phantom.image.flatten(), torch.tensor([0.01, 0.99]))
            images.append(((phantom.image - low) / (high - low)).clamp(0, 1).half())
            labels.append(torch.where(phantom.visible[:, None], phantom.points, torch.nan).float())
            progress((i + 1) / count, f"{item} image {i + 1}")
        return {"image": torch.stack(images), "label": torch.stack(labels)}

    def _stage1(self, count: int, seed: int, data: Path, progress: Progress) -> DAGNet:
        labelled = self._labelled(count, seed, data)
        torch.manual_seed(seed)
        network = make_network(self.settings, labelled["label"].shape[1])
        samples = [
            {"image": image, "label": label} for image, label in zip(labelled["image"], labelled["label"], strict=True)
        ]
        network.set_mean_shape(mean_shape(samples))
        return train_graph(
            self.settings,
            ARMS[f"dag_{count}"],
            network.to(self.device),
            labelled,
            None,
            self._part("validation", data),
            seed,
            progress,
        )

    # Arms

    def run(self, arm: Arm, seed: int, *, folder: Path, data: Path, progress: Progress) -> dict[str, Any]:
        s, chosen = self.settings, ARMS[arm.name]
        validation, labelled = self._part("validation", data), self._labelled(chosen.labelled, seed, data)
        torch.manual_seed(seed)
        network: nn.Module
        refused = False
        if chosen.kind == "heatmap":
            network = train_heatmaps(s, labelled, validation, seed, progress, torch.device(self.device))
        else:
            item = f"stage1-{chosen.labelled}-{seed}"
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
                unlabelled = self._part("unlabelled", data)["image"]
                network = train_graph(s, chosen, network, labelled, unlabelled, validation, seed, progress)
        with replacing(folder / "weights.pt") as temporary:
            torch.save(network.state_dict(), temporary)
        figures = self._figures(point_errors(network, self._part(self.split, data)))
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
