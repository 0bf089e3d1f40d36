"""The simulator's study on phantom hospitals."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medsynth_ext.claims import Arm, Claim, Progress, SettingsStudy
from medsynth_ext.methods.fedsim.claims.building import Workshop, stretched
from medsynth_ext.methods.fedsim.claims.judging import make_claims
from medsynth_ext.methods.fedsim.claims.settings import ARMS, SegmenterArm, Settings
from medsynth_ext.methods.fedsim.ct_simulator import CTSimulator
from medsynth_ext.methods.fedsim.objectives import iou_loss
from medsynth_ext.methods.fedsim.overlap import dice_and_iou
from medsynth_ext.methods.fedsim.rerendering import rerender
from medsynth_ext.methods.fedsim.segmenter import predict_hearts, score_segmenter, train_segmenter
from medsynth_ext.methods.fedsim.shape_gradient import heart_mask
from medsynth_ext.methods.fedsim.shape_model import ShapeModel
from medsynth_ext.methods.fedsim.unet import HeartUNet

__all__ = ["FedSimStudy"]

_REPEATS = 3


class FedSimStudy(SettingsStudy[Settings]):
    """The arms and claims of the simulator, one hospital at a time.

    Args:
        settings: the numbers of one scale.
        shape_model: file of the shape model.
        device: where networks are trained.
        split: ``test``, or ``validation`` while choices are made.

    Raises:
        ValueError: for another split, or settings that are missing or unknown.
    """

    settings_type = Settings

    def __init__(
        self,
        settings: Mapping[str, Any],
        *,
        shape_model: str | Path,
        device: str | torch.device = "cpu",
        split: str = "test",
    ) -> None:
        super().__init__(settings, device=device, split=split)
        self.shape_model = str(shape_model)

    def _workshop(self, data: Path) -> Workshop:
        return Workshop(self.settings, self.shape_model, device=self.device, data=data)

    def _cells(self) -> list[tuple[str, int]]:
        return [(site, count) for site in self.settings.sites for count in self.settings.labelled]

    def arms(self) -> list[Arm]:
        s = self.settings
        shared = self.shared()
        size = shared.pop("gradient_size")
        arms = [Arm(name, arm.description, s.seeds, {**shared, "arm": asdict(arm)}) for name, arm in ARMS.items()]
        upper = "all training volumes with their labels; then what it finds in generated volumes"
        samples = "how close generated patients are to those of the training, and how well these are matched"
        timing = "shape gradients by differences and by the surface integral, one thread"
        return [
            *arms,
            Arm("upper", upper, s.seeds, shared),
            Arm("samples", samples, s.seeds, shared),
            Arm("gradients", timing, (0,), {"size": size}, alone=True),
        ]

    def claims(self) -> list[Claim]:
        s = self.settings
        return make_claims(s.thresholds, sites=s.sites, seeds=len(s.seeds))

    # Data

    def items(self, arms: Sequence[Arm]) -> list[str]:
        names = {arm.name for arm in arms}
        if not names - {"gradients"}:
            return []
        if names <= {"lower", "gradients"}:
            return [f"site {site}" for site in self.settings.sites]
        cells = [(*cell, seed) for seed in self.settings.seeds for cell in self._cells()]
        return [f"simulators {site} {count} {seed}" for site, count, seed in cells]

    def prepare(self, item: str, *, data: Path, progress: Progress) -> None:
        kind, site, *rest = item.split()
        if kind == "site":
            self._workshop(data).hospital(site, progress)
        else:
            self._workshop(data).train_simulators(site, int(rest[0]), int(rest[1]), progress)

    # Arms

    def run(self, arm: Arm, seed: int, *, folder: Path, data: Path, progress: Progress) -> dict[str, Any]:
        if arm.name == "gradients":
            return self._gradients(progress)
        workshop = self._workshop(data)
        cells = self._cells()
        figures: dict[str, Any] = {}
        for i, (site, count) in enumerate(cells):

            def tell(fraction: float, text: str = "", i: int = i) -> None:
                progress((i + fraction) / len(cells), text)

            if arm.name == "samples":
                found = self._samples(workshop, site, count, seed, tell)
            elif arm.name == "upper":
                found = self._upper(workshop, site, count, seed, tell)
            else:
                found = self._segmenter(workshop, ARMS[arm.name], site, count, seed, tell)
            figures[f"{site}-{count}"] = found
        return figures

    def _network(self, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return HeartUNet(features=self.settings.unet).to(self.device)

    def _segmenter(
        self, workshop: Workshop, arm: SegmenterArm, site: str, count: int, seed: int, tell: Progress
    ) -> dict[str, Any]:
        s = self.settings
        hospital = workshop.hospital(site)
        images, hearts = hospital.part("train")
        options: dict[str, Any] = {
            "seed": seed,
            "validation": hospital.part("validation"),
            "check_every": s.check_every,
            "batch_size": s.unet_batch,
        }
        network = self._network(seed)
        if arm.simulator:
            simulator = workshop.simulator(
                site, count, seed, arm.simulator, blend=arm.blend, random_shapes=arm.random_shapes
            )
            generated = workshop.generate(simulator, s.generated, seed, stretched(tell, 0.0, 0.3))
            train_segmenter(
                network,
                *generated,
                steps=s.unet_steps["pretrain"],
                learning_rate=s.unet_rates["pretrain"],
                progress=stretched(tell, 0.3, 0.6),
                **options,
            )
        if arm.real:
            kind = "finetune" if arm.simulator else "scratch"
            train_segmenter(
                network,
                images[:count],
                hearts[:count],
                steps=s.unet_steps[kind],
                learning_rate=s.unet_rates[kind],
                progress=stretched(tell, 0.6, 0.9),
                **options,
            )
        return {
            **score_segmenter(network, *hospital.part(self.split)),
            "elsewhere": self._elsewhere(workshop, network, site, seed),
        }

    def _elsewhere(self, workshop: Workshop, network: nn.Module, site: str, seed: int) -> dict[str, float]:
        """Dice on the site's test patients as the other sites' generators show them."""
        s = self.settings
        images, hearts = workshop.hospital(site).part(self.split)
        material = nn.functional.avg_pool3d(images, s.size // s.coarse)
        result = {}
        for other in s.sites:
            path = workshop.files(other, max(s.labelled), seed)["pre"]
            if other != site and path.is_file():
                generator = workshop.simulator(other, max(s.labelled), seed, "pre").generator
                shown = rerender(generator, material.to(self.device), hearts.to(self.device)).cpu()
                result[other] = score_segmenter(network, shown, hearts)["dice"]
        return result

    def _upper(self, workshop: Workshop, site: str, count: int, seed: int, tell: Progress) -> dict[str, Any]:
        s = self.settings
        hospital = workshop.hospital(site)
        network = self._network(seed)
        train_segmenter(
            network,
            *hospital.part("train"),
            steps=s.unet_steps["scratch"],
            learning_rate=s.unet_rates["scratch"],
            seed=seed,
            validation=hospital.part("validation"),
            check_every=s.check_every,
            batch_size=s.unet_batch,
            progress=stretched(tell, 0.0, 0.7),
        )
        figures: dict[str, Any] = score_segmenter(network, *hospital.part(self.split))
        # The same patients for all, others than those that trained a network.
        for name, simulator, blend in (
            ("full", "full", "none"),
            ("fixed", "fix_mat", "none"),
            ("alpha", "fix_mat", "alpha"),
        ):
            maker = workshop.simulator(site, count, seed, simulator, blend=blend)
            images, hearts = workshop.generate(maker, s.test, seed + 5000, stretched(tell, 0.7, 1.0))
            dice, _ = dice_and_iou(predict_hearts(network, images), hearts)
            figures[f"dice_on_{name}"] = 100 * dice.mean().item()
        return figures

    def _samples(self, workshop: Workshop, site: str, count: int, seed: int, tell: Progress) -> dict[str, Any]:
        images, hearts = workshop.hospital(site).part("train")
        simulator = workshop.simulator(site, count, seed, "full")
        new_images, new_hearts = workshop.generate(simulator, self.settings.generated, seed, tell)
        figures: dict[str, Any] = {
            "label_distance": _nearest(new_hearts, hearts, _one_minus_dice),
            "label_distance_inside": _nearest(hearts, hearts, _one_minus_dice, itself=True),
            "volume_distance": _nearest(new_images, images, _rmse),
            "volume_distance_inside": _nearest(images, images, _rmse, itself=True),
        }
        return {**figures, **workshop.figures(site, count, seed, "pre")}

    def _gradients(self, progress: Progress) -> dict[str, Any]:
        size = self.settings.gradient_size
        model = ShapeModel.load(self.shape_model)
        generator = torch.Generator().manual_seed(0)
        t = (torch.rand(1, model.parameters_count, generator=generator) - 0.5).requires_grad_()
        target = (model.part_labels(torch.zeros_like(t), size) > 0).float()
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        seconds: dict[str, float] = {}
        found: dict[str, Tensor] = {}
        try:
            for kind in ("surface", "fd"):
                times = []
                for _ in range(_REPEATS):
                    loss = iou_loss(heart_mask(model, t, size, gradient=kind), target).sum()
                    started = time.perf_counter()
                    (found[kind],) = torch.autograd.grad(loss, t)
                    times.append(time.perf_counter() - started)
                seconds[kind] = statistics.median(times)
                progress(0.5, kind)
        finally:
            torch.set_num_threads(threads)
        cosine = nn.functional.cosine_similarity(found["surface"], found["fd"], dim=1).item()
        return {
            "cosine": cosine,
            "surface_s": seconds["surface"],
            "fd_s": seconds["fd"],
            "faces": len(model.faces),
            "size": size,
            "simulator_gradient_error": _simulator_gradient_error(),
        }


def _simulator_gradient_error() -> float:
    """Largest relative difference between <J v, w> and <v, J' w> of the simulator, in float64."""
    simulator = CTSimulator(8, views=16)
    generator = torch.Generator().manual_seed(0)
    x, v, w = (torch.rand(1, 1, 8, 8, 8, generator=generator, dtype=torch.float64) for _ in range(3))
    x.requires_grad_()
    (pulled,) = torch.autograd.grad((simulator(x) * w).sum(), x)
    step = 1e-4  # the simulator is affine, so the difference quotient is exact
    with torch.no_grad():
        pushed = (simulator(x + step * v) - simulator(x - step * v)) / (2 * step)
    left, right = (pushed * w).sum(), (pulled * v).sum()
    return abs(float((left - right) / left))


def _one_minus_dice(a: Tensor, b: Tensor) -> float:
    return 1 - dice_and_iou(a, b)[0].item()


def _rmse(a: Tensor, b: Tensor) -> float:
    return (a - b).square().mean().sqrt().item()


def _nearest(new: Tensor, known: Tensor, distance: Callable[[Tensor, Tensor], float], *, itself: bool = False) -> float:
    """Mean distance to the nearest known volume; ``itself`` leaves out the volume of the same number."""
    nearest = [
        min(distance(a[None], b[None]) for j, b in enumerate(known) if not (itself and i == j))
        for i, a in enumerate(new)
    ]
    return statistics.fmean(nearest)
