"""The study of suture detection on phantom recordings."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medsynth_ext import ops
from medsynth_ext.claims import Arm, Claim, Progress, SettingsStudy
from medsynth_ext.data.files import replacing
from medsynth_ext.data.point_frames import FrameError, find_point_frames, read_frame, read_points
from medsynth_ext.handlers.weights import load_weights
from medsynth_ext.methods.suture_heatmap.claims.judging import make_claims
from medsynth_ext.methods.suture_heatmap.claims.networks import build_network, detection_figures, train_network
from medsynth_ext.methods.suture_heatmap.claims.scipy_loop import scipy_points
from medsynth_ext.methods.suture_heatmap.claims.settings import ARMS, FIRST_SEEDS, TRANSLATED, Settings
from medsynth_ext.methods.suture_heatmap.decoding import RegionPoints
from medsynth_ext.phantoms.endoscopy import endoscopy_recording

__all__ = ["SutureHeatmapStudy"]

SPEED = "the whole post-processing of a batch, one thread, against a loop over SciPy and scikit-image"
_MOST_POINTS = 64


class SutureHeatmapStudy(SettingsStudy[Settings]):
    """The arms and claims of suture detection.

    Args:
        settings: the numbers of one scale.
        device: where networks are trained.
        split: ``test``, or ``validation`` while choices are made.
        translated: folder of simulator frames that ``translate.json`` made look like surgery, with labels; without it
            claim 3 is left out. They must come from the simulator recordings that the arms train with, translated by
            networks that never saw a test recording.

    Raises:
        ValueError: for another split, or settings that are missing or unknown.
    """

    settings_type = Settings

    def __init__(
        self,
        settings: Mapping[str, Any],
        *,
        device: str | torch.device = "cpu",
        split: str = "test",
        translated: str | Path | None = None,
    ) -> None:
        super().__init__(settings, device=device, split=split)
        self.translated = None if translated is None else Path(translated)

    def arms(self) -> list[Arm]:
        shared = self.shared()
        timing = {key: shared.pop(key) for key in ("speed_size", "speed_batch", "repeats")}
        seeds = self.settings.seeds
        kinds = {name: arm for name, arm in ARMS.items() if self.translated or TRANSLATED not in arm.train}
        arms = [Arm(name, arm.description, seeds, {**shared, "arm": asdict(arm)}) for name, arm in kinds.items()]
        return [*arms, Arm("speed", SPEED, (0,), timing, alone=True)]

    def claims(self) -> list[Claim]:
        return make_claims(self.settings.thresholds, translated=self.translated is not None)

    # Data

    def _file(self, item: str, data: Path) -> Path:
        s = self.settings
        if item == TRANSLATED:
            return data / f"{item}-{s.size[0]}x{s.size[1]}.pt"
        recordings, frames = self._extent(item)
        return data / f"{item}-{recordings}x{frames}-{s.size[0]}x{s.size[1]}-{s.gap:g}.pt"

    def _extent(self, item: str) -> tuple[int, int]:
        """Number of recordings, and frames of each."""
        s = self.settings
        if not item.endswith("_train"):
            return s.test_recordings, s.test_frames
        return s.sim_recordings if item.startswith("sim") else s.intraop_recordings, s.frames

    def items(self, arms: Sequence[Arm]) -> list[str]:
        wanted = [ARMS[arm.name] for arm in arms if arm.name in ARMS]
        names = [name for arm in wanted for name in (*arm.train, f"{arm.domain}_{self.split}")]
        return list(dict.fromkeys(names))

    def prepare(self, item: str, *, data: Path, progress: Progress) -> None:
        path = self._file(item, data)
        if path.is_file():
            return
        images, points = [], []
        for number, (image, places) in enumerate(self._frames(item)):
            images.append((image * 255).round().to(torch.uint8))
            rows = torch.full((_MOST_POINTS, 2), torch.nan)
            rows[: len(places)] = places
            points.append(rows)
            progress(min(0.99, number / 240), f"{item} frame {number + 1}")
        with replacing(path) as temporary:
            torch.save({"images": torch.stack(images), "points": torch.stack(points)}, temporary)

    def _frames(self, item: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Pictures and points: phantoms, or files."""
        if item == TRANSLATED:
            assert self.translated is not None
            for frame in find_point_frames(self.translated):
                image = read_frame(frame["image"])
                if image.shape[1:] != self.settings.size:
                    size, wanted = tuple(image.shape[1:]), tuple(self.settings.size)
                    raise FrameError(f"{frame['image']} must have {wanted} rows and columns, got {size}")
                yield image, read_points(frame["points"], image.shape[1:])
            return
        recordings, count = self._extent(item)
        for seed in range(FIRST_SEEDS[item], FIRST_SEEDS[item] + recordings):
            options: dict[str, Any] = {"domain": item.split("_")[0], "size": self.settings.size}
            for drawn in endoscopy_recording(seed, frames=count, gap=self.settings.gap, **options):
                yield drawn.image, drawn.points

    # Arms

    def run(self, arm: Arm, seed: int, *, folder: Path, data: Path, progress: Progress) -> dict[str, Any]:
        if arm.name == "speed":
            return self._speed(progress)
        kind, s = ARMS[arm.name], self.settings
        torch.manual_seed(seed)
        network = build_network(kind, s).to(self.device)
        weights = folder / "weights.pt"
        if weights.is_file():  # left by a run that was stopped during the evaluation
            load_weights(network, weights)
        else:
            parts = [torch.load(self._file(item, data), weights_only=True) for item in kind.train]
            train_network(network, kind, s, parts, seed, lambda f, text="": progress(0.9 * f, text))
            with replacing(weights) as temporary:
                torch.save(network.state_dict(), temporary)
        progress(0.95, "testing")
        frames = torch.load(self._file(f"{kind.domain}_{self.split}", data), weights_only=True)
        return detection_figures(network, kind, s, frames)

    def _speed(self, progress: Progress) -> dict[str, Any]:
        s = self.settings
        maps = _maps(s.speed_batch, s.speed_size)
        decoder, array = RegionPoints(kappa=1.5), maps[:, 0].numpy()
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            ours = [_seconds(lambda: decoder(maps)) for _ in range(s.repeats + 1)]
            progress(0.3, "SciPy")
            theirs = [_seconds(lambda: scipy_points(array, 1.5)) for _ in range(s.repeats)]
        finally:
            torch.set_num_threads(threads)
        points, _, count, _ = decoder(maps)
        differences = [
            float(np.abs(p[: int(n)].numpy() - q).max())
            for p, n, q in zip(points, count, scipy_points(array, 1.5), strict=True)
        ]
        return {
            "ours_s": statistics.median(ours[1:]),
            "scipy_s": statistics.median(theirs),
            "largest_difference": max(differences),
            "maps": s.speed_batch,
            "size": list(s.speed_size),
        }


def _maps(batch: int, size: tuple[int, int]) -> Tensor:  # (B, 1, H, W)
    """Heatmaps of twelve points with some noise, as a network makes them."""
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(batch, 12, 2, generator=generator) * torch.tensor(size)
    maps = ops.render_point_map(points, torch.ones(batch, 12, dtype=torch.bool), size, 3.0)
    return (maps + 0.02 * torch.rand(maps.shape, generator=generator)).clamp(0, 1)


def _seconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
