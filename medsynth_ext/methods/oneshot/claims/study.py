"""The study on phantoms: one reference, one network and a set of test volumes per seed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medsynth_ext.claims import Arm, Claim, Progress, SettingsStudy
from medsynth_ext.data.files import replacing
from medsynth_ext.handlers.weights import load_weights
from medsynth_ext.methods.oneshot.anatomies import anatomy
from medsynth_ext.methods.oneshot.claims.judging import make_claims
from medsynth_ext.methods.oneshot.claims.naive import naive_transfer
from medsynth_ext.methods.oneshot.claims.settings import ARMS, BLOCK, SPLITS, Settings
from medsynth_ext.methods.oneshot.cubes import rotation_degrees
from medsynth_ext.methods.oneshot.localisation import Localisation, Localiser
from medsynth_ext.methods.oneshot.network import OneShotCNN
from medsynth_ext.methods.oneshot.reference import make_reference
from medsynth_ext.methods.oneshot.slices import TransformedSlices, mask_centre
from medsynth_ext.methods.oneshot.transfer import LandmarkTransfer, Transfer
from medsynth_ext.phantoms.painter import Grid
from medsynth_ext.phantoms.posed_anatomy import annotate
from medsynth_ext.phantoms.posed_ct import PosedPhantom

__all__ = ["OneShotStudy", "landmark_voxels", "unit_volume"]

WINDOW_HU = (-1000.0, 3000.0)
_SHORT = {"errors_mm": "error_mm", "annotated_errors_mm": "annotated_error_mm"}
LOST_MM = 50.0  # error of a landmark that was not found


def unit_volume(phantom: PosedPhantom) -> Tensor:  # (1, 1, X, Y, Z)
    """The phantom's intensities in [0, 1]."""
    return ((phantom.image - WINDOW_HU[0]) / (WINDOW_HU[1] - WINDOW_HU[0])).clamp(0, 1)[None, None]


def landmark_voxels(phantom: PosedPhantom) -> Tensor:  # (N, 3)
    """The phantom's landmarks in voxels."""
    return (phantom.landmarks_mm - torch.tensor(phantom.grid.first_mm).double()) / phantom.grid.spacing_mm


class OneShotStudy(SettingsStudy[Settings]):
    """The arms and claims of one-shot landmark detection.

    Args:
        settings: one scale of the config.
        device: of the networks.
        split: ``test`` for results, ``validation`` for choices.

    Raises:
        ValueError: for another split, or settings that are missing or unknown.
    """

    settings_type = Settings
    splits = tuple(SPLITS)

    def arms(self) -> list[Arm]:
        shared = self.shared()
        if self.settings.weights is not None:  # other weights in the same place are another arm
            shared["weights"] = hashlib.sha256(Path(self.settings.weights).read_bytes()).hexdigest()[:12]
        return [
            Arm(name, arm.description, self.settings.seeds, {**shared, "arm": asdict(arm)})
            for name, arm in ARMS.items()
        ]

    def claims(self) -> list[Claim]:
        return make_claims(self.settings.thresholds, spacing_mm=self.settings.spacing_mm)

    # One network a seed, which all arms share

    def items(self, arms: Sequence[Arm]) -> list[str]:
        seeds = self.settings.seeds
        kinds = ("volumes", "network") if self.settings.weights is None else ("volumes",)
        return [f"{kind} {seed}" for kind in kinds for seed in seeds]

    def prepare(self, item: str, *, data: Path, progress: Progress) -> None:
        kind, seed = item.split()
        if kind == "volumes":
            self._draw(int(seed), data, progress)
            return
        path = self._weights(int(seed), data)
        if path.is_file():
            return
        network = self._network()
        self._train(network, int(seed), self._phantom(int(seed), 0, data), progress)
        with replacing(path) as temporary:
            torch.save(network.state_dict(), temporary)

    def _draw(self, seed: int, data: Path, progress: Progress) -> None:
        s = self.settings
        for number in range(1 + s.cases):
            progress(number / (1 + s.cases), f"volume {number}")
            path = self._file(seed, number, data)
            if path.is_file():
                continue
            person = SPLITS[self.split] + BLOCK * seed + number
            if number == 0 and s.reference_person is not None:
                person = s.reference_person
            kind = anatomy(s.anatomy)
            ranges = kind.shifted(s.translation_mm)
            phantom = kind.draw(person, size=s.size, spacing_mm=s.spacing_mm, ranges=ranges)
            with replacing(path) as temporary:
                torch.save(
                    {
                        "image": phantom.image.round().to(torch.int16),
                        "mask": phantom.mask,
                        "landmarks_mm": phantom.landmarks_mm,
                        "rotation": phantom.rotation,
                    },
                    temporary,
                )

    def _file(self, seed: int, number: int, data: Path) -> Path:
        s = self.settings
        grid = "x".join(str(n) for n in s.size)
        name = f"{number}" if number else f"reference-{s.reference_person}"
        return data / f"{s.anatomy}-{self.split}-{seed}-{name}-{grid}-{s.spacing_mm:g}-{s.translation_mm:g}.pt"

    def _phantom(self, seed: int, number: int, data: Path) -> PosedPhantom:
        """The reference is number 0 of a seed's block."""
        s = self.settings
        record = torch.load(self._file(seed, number, data), weights_only=True)
        first = tuple(-(n - 1) / 2 * s.spacing_mm for n in s.size)
        grid = Grid((first[0], first[1], first[2]), (s.size[0], s.size[1], s.size[2]), s.spacing_mm)
        image = record.pop("image").float()
        return PosedPhantom(image, landmark_names=anatomy(s.anatomy).landmarks, grid=grid, **record)

    def _weights(self, seed: int, data: Path) -> Path:
        s = self.settings
        if s.weights is not None:
            return Path(s.weights)
        texts = [*s.size, s.spacing_mm, s.cube, *s.features, int(s.norm), s.steps, s.batch_size, s.slices_per_volume]
        texts += [s.prior, s.learning_rate, s.lr_decay, s.shift_mm, s.rotation_deg, s.translation_mm]
        return data / f"network-{s.anatomy}-{self.split}-{seed}-{'-'.join(f'{v:g}' for v in texts)}.pt"

    def _network(self) -> OneShotCNN:
        torch.manual_seed(0)
        s = self.settings
        return OneShotCNN(features=s.features, norm=s.norm, prior=s.prior).to(self.device)

    def _train(self, network: nn.Module, seed: int, reference: PosedPhantom, progress: Progress) -> None:
        s = self.settings
        item = {"image": unit_volume(reference)[0], "label": reference.mask[None]}
        slices = TransformedSlices(
            [{"image": "phantom", "label": "phantom"}],
            lambda _: item,
            size=s.cube,
            slices_per_volume=s.slices_per_volume,
            shift_voxels=s.shift_mm / s.spacing_mm,
            rotation_deg=s.rotation_deg,
            seed=seed,
        )
        slices.load()
        torch.manual_seed(seed)
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
        optimizer = torch.optim.Adam(network.parameters(), lr=s.learning_rate)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, s.lr_decay)
        loss_function = nn.BCEWithLogitsLoss()
        network.train()
        for step in range(s.steps):
            batch = [slices[step * s.batch_size + i] for i in range(s.batch_size)]
            image, label = (torch.stack([b[key] for b in batch]).to(self.device) for key in ("image", "label"))
            loss = loss_function(network(image), label)
            if not math.isfinite(loss.item()):
                raise RuntimeError(f"the training with seed {seed} diverged in step {step + 1}")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            if (step + 1) * s.batch_size % s.slices_per_volume < s.batch_size:
                schedule.step()
            if step % 10 == 9:
                progress((step + 1) / s.steps, f"step {step + 1}, loss {loss.item():.4f}")

    # Arms

    def run(self, arm: Arm, seed: int, *, folder: Path, data: Path, progress: Progress) -> dict[str, Any]:
        s, kind = self.settings, ARMS[arm.name]
        annotated = self._phantom(seed, 0, data)
        reference = make_reference(
            unit_volume(annotated)[0],
            annotated.mask[None],
            landmark_voxels(annotated),
            annotated.landmark_names,
            size=s.cube,
            spacing_mm=s.spacing_mm,
        )
        cases = []
        if kind.naive:
            source = unit_volume(annotated), landmark_voxels(annotated)
            for number, target in self._targets(seed, data, progress):
                landmarks = naive_transfer(*source, unit_volume(target), s.registration_settings())
                cases.append({"number": number, **self._errors(landmarks, target, seed, number)})
            return _figures(cases)
        network = self._network()
        load_weights(network, self._weights(seed, data))
        network.eval()
        options: dict[str, Any] = {
            "size": s.cube,
            "spacing_mm": s.spacing_mm,
            "reference_volume_mm3": reference.volume_mm3,
        }
        options |= {**s.localisation, **kind.localisation}
        localiser = Localiser(network, **options, fusion=kind.fusion, restart=not kind.search_only)
        transfer = LandmarkTransfer(reference, localiser, s.registration_settings(**kind.registration))
        for number, target in self._targets(seed, data, progress):
            volume = unit_volume(target).to(self.device)
            found = localiser(volume)
            figures = self._search(found, target)
            if not kind.search_only:
                figures |= self._carried(transfer.register(volume, found), annotated, target, seed, number)
            cases.append({"number": number, **figures})
        return _figures(cases)

    def _targets(self, seed: int, data: Path, progress: Progress) -> Iterator[tuple[int, PosedPhantom]]:
        for number in range(1, 1 + self.settings.cases):
            progress((number - 1) / self.settings.cases, f"case {number}")
            yield number, self._phantom(seed, number, data)

    def _search(self, found: Localisation, target: PosedPhantom) -> dict[str, Any]:
        way = (found.path - mask_centre(target.mask)).norm(dim=1) * self.settings.spacing_mm
        return {
            "iterations": found.iterations,
            "stands": bool(found.converged and found.iterations <= 6 and found.restarts == 0),
            "restarts": found.restarts,
            "start_distance_mm": float(way[0]),
            "last_distance_mm": float(way[-1]),
        }

    def _carried(
        self, result: Transfer, annotated: PosedPhantom, target: PosedPhantom, seed: int, number: int
    ) -> dict[str, Any]:
        true_turn = target.rotation @ annotated.rotation.T
        return {
            **self._errors(result.landmarks, target, seed, number),
            "wrong_rotation_deg": rotation_degrees(result.alignment.linear @ true_turn.T),
            "correlation": list(result.correlation),
            "flags": list(result.flags),
        }

    def _errors(self, landmarks: Tensor, target: PosedPhantom, seed: int, number: int) -> dict[str, Any]:
        """Errors in mm against the truth and against a simulated person; and that person's second look."""
        s = self.settings
        found = target.grid.spacing_mm * landmarks + torch.tensor(target.grid.first_mm).double()
        first, second = (annotate(target.landmarks_mm, [seed, number, k], std_mm=s.annotator_mm) for k in (0, 1))
        return {
            "errors_mm": (found - target.landmarks_mm).norm(dim=1).tolist(),
            "annotated_errors_mm": (found - first).norm(dim=1).tolist(),
            "intra_rater_mm": (second - first).norm(dim=1).tolist(),
        }


def _figures(cases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over cases and landmarks; a landmark that was not found counts as ``LOST_MM``."""

    def mean(key: str) -> float:
        values = [v for case in cases for v in (case[key] if isinstance(case[key], list) else [case[key]])]
        return math.fsum(LOST_MM if math.isnan(v) else v for v in values) / len(values)

    names = {name for name, value in cases[0].items() if isinstance(value, float) or name.endswith("_mm")}
    figures: dict[str, Any] = {_SHORT.get(name, name): mean(name) for name in sorted(names)}
    if "stands" in cases[0]:
        figures |= {"within_six": mean("stands"), "iterations": mean("iterations")}
    if "wrong_rotation_deg" in cases[0]:
        figures["flipped"] = sum(case["wrong_rotation_deg"] > 90 for case in cases) / len(cases)
    figures["cases"] = [_finite(case) for case in cases]
    return figures


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    return value
