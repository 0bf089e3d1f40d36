"""The study of frequency supervision on head phantoms."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.metrics import PSNRMetric, SSIMMetric
from torch import Tensor, nn

from medsynth_ext.claims import Arm, Claim, Progress, SettingsStudy
from medsynth_ext.data.files import replacing
from medsynth_ext.handlers.weights import load_weights
from medsynth_ext.inferers import VolumeInferer
from medsynth_ext.methods.frequency_supervised.bands import RestoreHUd
from medsynth_ext.methods.frequency_supervised.claims.judging import make_claims
from medsynth_ext.methods.frequency_supervised.claims.settings import ARMS, SPLITS, NetworkArm, Settings
from medsynth_ext.methods.frequency_supervised.claims.training import build_network, train_network, value_range
from medsynth_ext.methods.frequency_supervised.targets import low_pass
from medsynth_ext.metrics.synthetic_ct import TISSUES, GradientRatio, HUError, LineIntegralError, TissueDice
from medsynth_ext.phantoms.head_mr_ct import head_mr_ct

__all__ = ["FrequencyStudy"]

HU_WINDOW = (-1024.0, 2252.7)
WIDTH_HU = HU_WINDOW[1] - HU_WINDOW[0]
_REGIONS = ("whole", "body", "edges", "flat", *TISSUES)


class FrequencyStudy(SettingsStudy[Settings]):
    """The arms and claims of frequency-supervised synthesis.

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

    def _file(self, item: str, data: Path) -> Path:
        s = self.settings
        return data / f"{item}-{self._count(item)}-{s.size}-{s.spacing_mm:g}.pt"

    def _count(self, item: str) -> int:
        return self.settings.train_heads if item == "train" else self.settings.test_heads

    def items(self, arms: Sequence[Arm]) -> list[str]:
        return ["train", self.split]

    def prepare(self, item: str, *, data: Path, progress: Progress) -> None:
        path, s = self._file(item, data), self.settings
        if path.is_file():
            return
        scans: dict[str, list[Tensor]] = {"mr": [], "ct": []}
        count = self._count(item)
        for i in range(count):
            pair = head_mr_ct(SPLITS[item] + i, shape=(s.size,) * 3, spacing_mm=s.spacing_mm)
            mr = pair.mr.as_tensor()
            scans["mr"].append(((mr - mr.mean()) / mr.std()).half())
            scans["ct"].append(pair.ct.as_tensor().round().clamp(*HU_WINDOW).to(torch.int16))
            progress((i + 1) / count, f"{item} head {i + 1}")
        with replacing(path) as temporary:
            torch.save({key: torch.stack(parts) for key, parts in scans.items()}, temporary)

    def run(self, arm: Arm, seed: int, *, folder: Path, data: Path, progress: Progress) -> dict[str, Any]:
        torch.manual_seed(seed)
        kind, device = ARMS[arm.name], torch.device(self.device)
        network = build_network(kind, self.settings).to(device)
        weights = folder / "weights.pt"
        if weights.is_file():  # left by a run that was stopped during the evaluation
            load_weights(network, weights)
            curve = torch.load(folder / "curve.pt", weights_only=True).tolist()
        else:
            heads = self._training_heads(kind, data)
            share = lambda f, text="": progress(0.9 * f, text)  # noqa: E731
            curve = train_network(network, kind, self.settings, heads, seed=seed, device=device, progress=share)
            with replacing(folder / "curve.pt") as temporary:
                torch.save(torch.tensor(curve, dtype=torch.float64), temporary)
            with replacing(weights) as temporary:
                torch.save(network.state_dict(), temporary)
        progress(0.9, "testing")
        fifth = max(1, len(curve) // 5)
        before, last = statistics.fmean(curve[-2 * fifth : -fifth]), statistics.fmean(curve[-fifth:])
        low, high = value_range(kind)
        return {
            **self._evaluate(network, kind, torch.load(self._file(self.split, data), weights_only=True)),
            "parameters": sum(p.numel() for p in network.parameters()),
            "curve_hu": [value * WIDTH_HU / (high - low) for value in curve],
            "last_fall": 1 - last / before,
        }

    def _training_heads(self, arm: NetworkArm, data: Path) -> list[dict[str, Tensor]]:
        s, record = self.settings, torch.load(self._file("train", data), weights_only=True)
        low, high = value_range(arm)
        heads = []
        for mr, ct in zip(record["mr"], record["ct"], strict=True):
            label = (ct.float() - HU_WINDOW[0]) / WIDTH_HU * (high - low) + low
            band = label - low_pass(label, width_mm=s.low_pass_mm, spacing_mm=(s.spacing_mm,) * 3)
            heads.append({"image": mr.float(), "label": label, "high": band})
        return heads

    @torch.no_grad()
    def _evaluate(self, network: nn.Module, arm: NetworkArm, record: Mapping[str, Tensor]) -> dict[str, Any]:
        network.eval()
        s = self.settings
        inferer = VolumeInferer((s.patch,) * 3, overlap=s.overlap, progress=False)
        restore = RestoreHUd("pred", hu_window=HU_WINDOW, value_range=value_range(arm))
        affine = torch.diag(torch.tensor([s.spacing_mm] * 3 + [1.0], dtype=torch.float64))
        edges = {"sigma_mm": s.low_pass_mm}
        metrics: dict[str, Any] = {name: HUError(name, **edges) for name in _REGIONS}
        metrics |= {f"dice_{name}": TissueDice(name) for name in TISSUES}
        metrics["gradient_ratio"] = GradientRatio(**edges)
        metrics["line_integral_error_percent"] = LineIntegralError(views=s.views)
        metrics["psnr"] = PSNRMetric(max_val=WIDTH_HU)
        metrics["ssim"] = SSIMMetric(spatial_dims=3, data_range=WIDTH_HU, kernel_type="uniform", win_size=7)
        for mr, ct in zip(record["mr"], record["ct"], strict=True):
            output = inferer(mr.float()[None].to(self.device), network)[0].cpu()
            found, truth = restore({"pred": output})["pred"][None], MetaTensor(ct.float()[None], affine=affine)
            for metric in metrics.values():
                metric(found, truth)
        figures = {name: _mean(metric.get_buffer()) for name, metric in metrics.items()}
        return {
            "mae_hu": {name: figures.pop(name) for name in _REGIONS},
            "dice": {name: figures.pop(f"dice_{name}") for name in TISSUES},
            **figures,
        }


def _mean(values: Any) -> float:
    """Mean over cases, without those that have nothing to measure."""
    return float(np.nanmean(np.asarray(values, dtype=float)))
