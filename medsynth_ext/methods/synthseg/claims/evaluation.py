"""Dice and volumes of a trained network on people's scans."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medsynth_ext.methods.synthseg.claims.heads import Person
from medsynth_ext.methods.synthseg.inferer import FlipInferer
from medsynth_ext.methods.synthseg.labels import LabelTable

__all__ = ["Evaluator", "dice_per_channel"]

HIPPOCAMPI = (17, 53)


def dice_per_channel(predicted: Tensor, truth: Tensor, channels: int) -> Tensor:  # (channels - 1,)
    """Dice of every channel but the background; NaN where the truth has none of it."""
    predicted, truth = predicted.flatten().long(), truth.flatten().long()
    both = torch.bincount(truth[predicted == truth], minlength=channels).double()
    total = (torch.bincount(predicted, minlength=channels) + torch.bincount(truth, minlength=channels)).double()
    present = torch.bincount(truth, minlength=channels) > 0
    return torch.where(present, 2 * both / total, torch.nan)[1:]


class Evaluator:
    """Collects a network's figures person by person.

    Args:
        network: gives logits; stays on its device.
        table: labels of the network's channels.
        amp: whether it runs in bfloat16.
        batch_size: scans per call.
        voxel_mm3: volume of a voxel.
    """

    def __init__(self, network: nn.Module, table: LabelTable, *, amp: bool, batch_size: int, voxel_mm3: float) -> None:
        self.network = network.eval()
        self.device = next(network.parameters()).device
        self.table = table
        self.amp = amp
        self.batch_size = batch_size
        self.voxel_mm3 = voxel_mm3
        self.dice: dict[str, list[float]] = {}
        self.structures: list[Tensor] = []
        self.volumes: dict[str, list[dict[str, float]]] = {}
        self.flip: dict[str, list[float]] = {}

    @torch.inference_mode()
    def logits(self, images: Tensor) -> Tensor:  # (N, 1, D, H, W) -> (N, K, D, H, W)
        """Logits of some scans."""
        images = images.to(self.device).float().contiguous(memory_format=torch.channels_last_3d)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp):
            return self.network(images).float()

    def add(self, person: Person, record: dict[str, Any]) -> None:
        """Segment every scan of a person and compare with the truth."""
        truth = record["truth"].to(self.device)
        for start in range(0, len(person.scans), self.batch_size):
            scans = person.scans[start : start + self.batch_size]
            logits = self.logits(record["images"][start : start + len(scans)])
            for scan, one in zip(scans, logits, strict=True):
                values = dice_per_channel(one.argmax(0), truth, self.table.n_targets).cpu()
                self.dice.setdefault(scan.key, []).append(float(values.nanmean()))
                if scan.group == "main":
                    self.structures.append(values)
                if scan.group in ("control", "patient"):
                    soft = torch.softmax(one, dim=0).sum((1, 2, 3)) * self.voxel_mm3
                    predicted = sum(float(soft[self.table.target_values.index(v)]) for v in HIPPOCAMPI)
                    true = sum(record["volumes"].get(str(v), 0.0) for v in HIPPOCAMPI)
                    self.volumes.setdefault(scan.group, []).append({"predicted": predicted, "true": true})

    @torch.inference_mode()
    def add_flip(self, person: Person, record: dict[str, Any], native_mm: float) -> None:
        """Compare native scans with and without the mirrored image: Dice and how much left and right volumes differ."""
        truth = record["truth"].to(self.device)
        pairs = [(a, b) for a, b in enumerate(self.table.target_flip) if a < b]
        for i, scan in enumerate(person.scans):
            if scan.group != "main" or max(scan.spacing_mm) > native_mm:
                continue
            image = record["images"][i : i + 1].to(self.device).float()
            for name, flip in (("with", True), ("without", False)):
                posterior = FlipInferer(self.table.target_flip, flip=flip)(image, self.logits)[0]
                values = dice_per_channel(posterior.argmax(0), truth, self.table.n_targets)
                volume = posterior.double().sum((1, 2, 3))
                differences = [float(abs(volume[a] - volume[b]) / (0.5 * (volume[a] + volume[b]))) for a, b in pairs]
                self.flip.setdefault(f"dice {name}", []).append(float(values.nanmean()))
                self.flip.setdefault(f"asymmetry {name}", []).append(sum(differences) / len(differences))

    def figures(self) -> dict[str, Any]:
        """Everything that was collected, as JSON can hold."""
        figures: dict[str, Any] = {"dice": {key: _rounded(values) for key, values in sorted(self.dice.items())}}
        if self.structures:
            means = torch.stack(self.structures).nanmean(0).tolist()
            figures["structures"] = dict(zip(self.table.target_names[1:], _rounded(means), strict=True))
        if self.volumes:
            figures["hippocampus_mm3"] = {
                group: {kind: _rounded([person[kind] for person in people]) for kind in ("predicted", "true")}
                for group, people in self.volumes.items()
            }
        if self.flip:
            figures["flip"] = {name: _rounded(values) for name, values in self.flip.items()}
        return figures


def _rounded(values: Sequence[float]) -> list[float]:
    return [float(f"{value:.5g}") for value in values]
