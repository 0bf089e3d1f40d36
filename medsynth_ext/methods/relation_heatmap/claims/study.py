"""The study on endoscopic phantoms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from medsynth_ext.claims import Arm, Claim, Progress, SettingsStudy
from medsynth_ext.data.files import replacing
from medsynth_ext.handlers.weights import load_weights
from medsynth_ext.methods.relation_heatmap.claims.evaluation import evaluate, evaluate_rival, time_decoding
from medsynth_ext.methods.relation_heatmap.claims.frames import draw_frames, load_frames
from medsynth_ext.methods.relation_heatmap.claims.judging import make_claims
from medsynth_ext.methods.relation_heatmap.claims.rival import Rival
from medsynth_ext.methods.relation_heatmap.claims.settings import ARMS, FIRST_SEEDS, Settings
from medsynth_ext.methods.relation_heatmap.claims.training import make_network, train_arm, train_rival
from medsynth_ext.methods.relation_heatmap.network import PointHeatmapNet
from medsynth_ext.methods.relation_heatmap.preparation import INTRAOP, SIM

__all__ = ["RelationHeatmapStudy"]

SPEED = "decoding of a batch of maps, one thread, kernel against twin"


class RelationHeatmapStudy(SettingsStudy[Settings]):
    """The arms and claims of relation heatmaps.

    Args:
        settings: the numbers of one scale.
        rival: the other method's detector (claim 6).
        device: where networks are trained.
        split: ``test``, or ``validation`` while choices are made.

    Raises:
        ValueError: for another split, or settings that are missing or unknown.
    """

    settings_type = Settings

    def __init__(
        self,
        settings: Mapping[str, Any],
        rival: Rival,
        *,
        device: str | torch.device = "cpu",
        split: str = "test",
    ) -> None:
        super().__init__(settings, device=device, split=split)
        self.rival = rival

    def arms(self) -> list[Arm]:
        shared = self.shared()
        timing = {key: shared.pop(key) for key in ("speed_batch", "speed_size", "repeats")}
        seeds = self.settings.seeds
        arms = [Arm(name, arm.description, seeds, {**shared, "arm": asdict(arm)}) for name, arm in ARMS.items()]
        return [*arms, Arm("speed", SPEED, (0,), timing, alone=True)]

    def claims(self) -> list[Claim]:
        return make_claims(self.settings.thresholds)

    def items(self, arms: Sequence[Arm]) -> list[str]:
        needed = any(arm.name in ARMS for arm in arms)
        return ["sim", "intraop", "tuning", self.split, "known_sites"] if needed else []

    def _count(self, item: str) -> int:
        s = self.settings
        counts = {"sim": s.sim_recordings, "intraop": s.intraop_recordings, "tuning": s.tuning_recordings}
        return counts.get(item, s.test_recordings)

    def _file(self, item: str, data: Path) -> Path:
        s = self.settings
        rows, columns = s.frame_size
        return data / f"{item}-{self._count(item)}-{s.frames}-{rows}x{columns}-{s.gap:g}.pt"

    def prepare(self, item: str, *, data: Path, progress: Progress) -> None:
        s = self.settings
        known = item == "known_sites"
        draw_frames(
            self._file(item, data),
            FIRST_SEEDS[item],
            domain="sim" if item == "sim" else "intraop",
            recordings=self._count(item),
            frames=s.frames,
            size=s.frame_size,
            gap=s.gap,
            first_site=FIRST_SEEDS["intraop" if known else item],
            sites=s.intraop_recordings if known else self._count(item),
            progress=progress,
        )

    def run(self, arm: Arm, seed: int, *, folder: Path, data: Path, progress: Progress) -> dict[str, Any]:
        if arm.name == "speed":
            return time_decoding(self.settings, progress)
        s, chosen, weights = self.settings, ARMS[arm.name], folder / "weights.pt"
        torch.manual_seed(seed)
        network = self.rival.network() if chosen.strategy == "rival" else make_network(s)
        network.to(self.device)
        if weights.is_file():  # left by a run that was stopped during the evaluation
            load_weights(network, weights)
        else:
            frames = load_frames((self._file("sim", data), SIM), (self._file("intraop", data), INTRAOP))

            def tell(fraction: float, text: str = "") -> None:
                progress(0.9 * fraction, text)

            if isinstance(network, PointHeatmapNet):
                train_arm(network, chosen, s, frames, seed, tell)
            else:
                train_rival(network, self.rival, s, frames, seed, tell)
            with replacing(weights) as temporary:
                torch.save(network.state_dict(), temporary)
        progress(0.95, "testing")
        tuning, test, known = (
            load_frames((self._file(item, data), INTRAOP)) for item in ("tuning", self.split, "known_sites")
        )
        if isinstance(network, PointHeatmapNet):
            return evaluate(network, tuning, test, known, s)
        return evaluate_rival(network, self.rival, test, s)
