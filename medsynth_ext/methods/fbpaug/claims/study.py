"""FBPAug's study on chest phantoms."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medsynth_ext import ops
from medsynth_ext.claims import Arm, Claim, Progress, SettingsStudy
from medsynth_ext.data.files import replacing
from medsynth_ext.engines import sample_states
from medsynth_ext.handlers.weights import load_weights
from medsynth_ext.methods.fbpaug.agreement import dice
from medsynth_ext.methods.fbpaug.augmentation import SliceAugmentation
from medsynth_ext.methods.fbpaug.claims.judging import make_claims
from medsynth_ext.methods.fbpaug.claims.real_anatomy import real_chest_slices
from medsynth_ext.methods.fbpaug.claims.scikit_chain import scikit_chain
from medsynth_ext.methods.fbpaug.claims.settings import ARMS, SPLITS, NetworkArm, Settings
from medsynth_ext.methods.fbpaug.network import ResidualUNet2D
from medsynth_ext.phantoms.chest import KERNELS, ChestSlice, chest_slice, infect_lungs, scan_slice
from medsynth_ext.transforms import RandFBPAug

__all__ = ["FBPAugStudy"]

TRAINED_ON = "soft"
HELD_OUT = tuple(kernel for kernel in KERNELS if kernel != TRAINED_ON)
SHARP = tuple(kernel for kernel in HELD_OUT if kernel.startswith("sharp"))
REAL = "real"
SPEED = "the whole chain on one slice, one thread, against scikit-image"


class FBPAugStudy(SettingsStudy[Settings]):
    """The arms and claims of FBPAug.

    Args:
        settings: the numbers of one scale.
        device: where networks are trained.
        split: ``test``, or ``validation`` while choices are made.
        chest_ct: a chest CT in HU whose anatomy is a second test (claim 8); without it that claim is left out.

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
        chest_ct: str | Path | None = None,
    ) -> None:
        super().__init__(settings, device=device, split=split)
        self.chest_ct = None if chest_ct is None else Path(chest_ct)

    def arms(self) -> list[Arm]:
        shared = self.shared()
        timing = {key: shared.pop(key) for key in ("speed_size", "speed_views", "repeats")}
        shared["chest_ct"] = None if self.chest_ct is None else self.chest_ct.name
        seeds = self.settings.seeds
        arms = [Arm(name, arm.description, seeds, {**shared, "arm": asdict(arm)}) for name, arm in ARMS.items()]
        return [*arms, Arm("speed", SPEED, (0,), timing, alone=True)]

    def claims(self) -> list[Claim]:
        return make_claims(self.settings.thresholds, held_out=HELD_OUT, sharp=SHARP, real=self.chest_ct is not None)

    # Data

    def _file(self, item: str, data: Path) -> Path:
        s = self.settings
        count, views, _ = self._extent(item)
        name = f"{self.chest_ct.name}-{self.split}" if self.chest_ct and item == REAL else item
        return data / f"{name}-{count}-{s.size}-{s.spacing_mm:g}-{views}-{s.photons:g}.pt"

    def _extent(self, item: str) -> tuple[int, int, tuple[str, ...]]:
        """Number of slices, views of their scans, and kernels."""
        s = self.settings
        if item == "train":
            return s.train_slices, s.train_views, (TRAINED_ON,)
        return s.real_slices if item == REAL else s.test_slices, s.test_views, KERNELS

    def items(self, arms: Sequence[Arm]) -> list[str]:
        if not any(arm.name in ARMS for arm in arms):
            return []
        return ["train", self.split, *([] if self.chest_ct is None else [REAL])]

    def prepare(self, item: str, *, data: Path, progress: Progress) -> None:
        path, s = self._file(item, data), self.settings
        if path.is_file():
            return
        count, views, kernels = self._extent(item)
        images: dict[str, list[Tensor]] = {kernel: [] for kernel in kernels}
        masks = []
        for i, (seed, chest) in enumerate(self._slices(item, count)):
            options: dict[str, Any] = {"spacing_mm": s.spacing_mm, "views": views, "photons": s.photons, "seed": seed}
            scans = scan_slice(chest.fine_hu, kernels=kernels, **options)
            for kernel in kernels:
                images[kernel].append(scans[kernel].half())
            masks.append(chest.lesions)
            progress((i + 1) / count, f"{item} slice {i + 1}")
        record = {**{kernel: torch.stack(parts) for kernel, parts in images.items()}, "lesions": torch.stack(masks)}
        with replacing(path) as temporary:
            torch.save(record, temporary)

    def _slices(self, item: str, count: int) -> Iterator[tuple[int, ChestSlice]]:
        """Seed and slice: phantoms, or the real chest with the phantoms' lesions."""
        s = self.settings
        if item != REAL:
            for seed in range(SPLITS[item], SPLITS[item] + count):
                yield seed, chest_slice(seed, size=s.size, spacing_mm=s.spacing_mm)
            return
        assert self.chest_ct is not None
        real = real_chest_slices(self.chest_ct, count=count, size=s.size, spacing_mm=s.spacing_mm)
        for seed, (hu, lungs) in enumerate(real, SPLITS[self.split]):
            yield seed, infect_lungs(hu, lungs, seed, spacing_mm=s.spacing_mm)

    # Arms

    def run(self, arm: Arm, seed: int, *, folder: Path, data: Path, progress: Progress) -> dict[str, Any]:
        if arm.name == "speed":
            return self._speed(progress)
        torch.manual_seed(seed)
        network = ResidualUNet2D(1, 1, features=self.settings.features).to(self.device)
        weights = folder / "weights.pt"
        if weights.is_file():  # left by a run that was stopped during the evaluation
            load_weights(network, weights)
        else:
            self._train(network, ARMS[arm.name], seed, data, lambda f, text="": progress(0.8 * f, text))
            with replacing(weights) as temporary:
                torch.save(network.state_dict(), temporary)
        progress(0.9, "testing")
        parts = {item: torch.load(self._file(item, data), weights_only=True) for item in self.items([arm])[1:]}
        figures = {item: self._evaluate(network, record) for item, record in parts.items()}
        return {**figures.pop(self.split), **figures}

    def _train(self, network: nn.Module, arm: NetworkArm, seed: int, data: Path, progress: Progress) -> None:
        s = self.settings
        record = torch.load(self._file("train", data), weights_only=True)
        images, masks = record[TRAINED_ON].float().to(self.device), record["lesions"].float().to(self.device)
        options = {"views": s.views, "check_units": False, **arm.kernel}
        augmentation = SliceAugmentation(arm.kind, fbpaug=RandFBPAug(0.5, **options))
        optimizer = torch.optim.Adam(network.parameters(), lr=s.learning_rate)
        loss_function = nn.BCEWithLogitsLoss()
        network.train()
        for step in range(s.steps):
            states = sample_states(seed, step * s.batch_size, s.batch_size)
            chosen = torch.tensor([int(state.randint(len(images))) for state in states], device=images.device)
            image, label = augmentation(images[chosen, None], masks[chosen, None], states)
            loss = loss_function(network(image), label)
            if not math.isfinite(loss.item()):
                raise RuntimeError(f"the training with seed {seed} diverged in step {step + 1}")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            if step % 10 == 9:
                progress((step + 1) / s.steps, f"step {step + 1}, loss {loss.item():.3f}")

    @torch.no_grad()
    def _evaluate(self, network: nn.Module, record: Mapping[str, Tensor]) -> dict[str, Any]:
        network.eval()
        window = SliceAugmentation("none", spatial_prob=0.0)
        masks: dict[str, np.ndarray] = {}
        for kernel in KERNELS:
            parts = []
            for images in record[kernel].float().split(8):
                x, _ = window(images[:, None], images[:, None], sample_states(0, 0, len(images)))
                parts.append((network(x.to(self.device)) > 0).cpu())
            masks[kernel] = torch.cat(parts)[:, 0].numpy()
        truth = record["lesions"].numpy()
        ill = truth.any((1, 2))
        pixel_ml = self.settings.spacing_mm**2 / 1000  # of a slice of 1 mm
        volumes = {kernel: mask.sum((1, 2)) * pixel_ml for kernel, mask in masks.items()}
        figures: dict[str, Any] = {"dice": {}, "agreement": {}, "both_empty": {}, "volume_bias": {}, "mean_volume": {}}
        for kernel, mask in masks.items():
            figures["dice"][kernel] = float(np.mean([dice(m, t) for m, t in zip(mask[ill], truth[ill], strict=True)]))
            pairs = [dice(m, t) for m, t in zip(mask, masks[TRAINED_ON], strict=True)]
            kept = [score for score in pairs if not math.isnan(score)]
            figures["agreement"][kernel] = float(np.mean(kept)) if kept else 0.0
            figures["both_empty"][kernel] = len(pairs) - len(kept)
            mean = (volumes[kernel].mean() + volumes[TRAINED_ON].mean()) / 2
            shift = volumes[kernel].mean() - volumes[TRAINED_ON].mean()
            figures["volume_bias"][kernel] = float(shift / max(mean, 1e-9))
            figures["mean_volume"][kernel] = float(volumes[kernel].mean())
        return figures

    def _speed(self, progress: Progress) -> dict[str, Any]:
        s = self.settings
        chest = chest_slice(0, size=s.speed_size, spacing_mm=320 / s.speed_size)
        image = torch.nn.functional.avg_pool2d(chest.fine_hu[None], 2)
        a, b = torch.tensor([30.0]), torch.tensor([3.0])
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            ours = [
                _seconds(lambda: ops.kernel_augment(image, a, b, views=s.speed_views)) for _ in range(s.repeats + 1)
            ]
            quick = [
                _seconds(lambda: ops.kernel_augment(image, a, b, views=s.speed_views, mode="fft2"))
                for _ in range(s.repeats + 1)
            ]
            progress(0.3, "scikit-image")
            slices = image[0].double().numpy()
            theirs = [_seconds(lambda: scikit_chain(slices, 30.0, 3.0, s.speed_views)) for _ in range(s.repeats)]
        finally:
            torch.set_num_threads(threads)
        return {
            "ours_s": statistics.median(ours[1:]),
            "fft2_s": statistics.median(quick[1:]),
            "scikit_image_s": statistics.median(theirs),
            "size": s.speed_size,
            "views": s.speed_views,
        }


def _seconds(call: Any) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
