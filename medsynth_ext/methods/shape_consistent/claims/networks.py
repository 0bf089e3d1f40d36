"""The networks of an arm and their training by the method's own step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from monai.losses import DiceCELoss
from monai.networks.utils import normal_init
from monai.transforms import Compose, RandAffined, RandScaleIntensityd
from torch import nn
from torch.utils.data import DataLoader

from medsynth_ext.claims import Progress
from medsynth_ext.data.sampler import CounterSampler
from medsynth_ext.engines import JointCycleStep, Stages, StepTrainer
from medsynth_ext.handlers import Checkpoint, RateSchedule
from medsynth_ext.losses import AdversarialLoss
from medsynth_ext.methods.shape_consistent.augmentation import AugmentedDomains
from medsynth_ext.methods.shape_consistent.claims.hearts import Hearts
from medsynth_ext.methods.shape_consistent.claims.settings import Settings
from medsynth_ext.methods.shape_consistent.generator import ShortUNetGenerator
from medsynth_ext.methods.shape_consistent.segmenters import make_segmenter
from medsynth_ext.methods.shape_consistent.volumes import DOMAINS, JointVolumes
from medsynth_ext.networks import PatchDiscriminator
from medsynth_ext.phantoms.heart_ct_mr import HEART_REGIONS

__all__ = ["CLASSES", "augmentation", "build_networks", "segmentation_loss", "train_networks"]

CLASSES = len(HEART_REGIONS) + 1
MODALITIES = ("ct", "mr")


def build_networks(
    settings: Settings, segmenter: str, seed: int, *, upsampling: str = "nearest"
) -> dict[str, nn.ModuleList]:
    """Pairs of fresh generators, discriminators and segmenters."""
    torch.manual_seed(seed)
    s = settings
    generators = [ShortUNetGenerator(features=s.features, upsampling=upsampling) for _ in MODALITIES]
    judges = [
        PatchDiscriminator(
            1,
            spatial_dims=3,
            features=s.discriminator_features,
            layers=s.discriminator_layers,
            padding=1,
            spectral=False,
        )
        for _ in MODALITIES
    ]
    for network in (*generators, *judges):
        network.apply(normal_init)
    students = [make_segmenter(segmenter, out_channels=CLASSES, features=s.segmenter_features) for _ in MODALITIES]
    pairs: dict[str, Sequence[nn.Module]] = {"generators": generators, "discriminators": judges, "segmenters": students}
    return {name: nn.ModuleList(pair) for name, pair in pairs.items()}


def augmentation(settings: Settings) -> Compose:
    """Image and label moved alike, and the image's intensities scaled."""
    s = settings
    keys = ["image", "label"]
    return Compose(
        [
            RandAffined(
                keys,
                prob=1.0,
                rotate_range=[math.radians(s.rotation_deg)] * 3,
                scale_range=[s.scale] * 3,
                translate_range=[s.translation] * 3,
                mode=["bilinear", "nearest"],
                padding_mode="border",
            ),
            RandScaleIntensityd("image", factors=s.intensity, prob=1.0),
        ]
    )


def segmentation_loss(settings: Settings) -> DiceCELoss:
    """Cross-entropy, and Dice where the settings ask for it."""
    return DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, lambda_dice=settings.dice_weight)


def _volumes(
    hearts: Mapping[str, Hearts], labelled: Mapping[str, int | None], counts: Mapping[str, int]
) -> JointVolumes:
    """Hearts in memory, as :class:`JointVolumes` reads them from files."""

    def reader(modality: str) -> Any:
        def read(case: Mapping[str, str]) -> dict[str, Any]:
            index = int(case["image"])
            item = {"image": hearts[modality]["images"][index]}
            return item | ({"label": hearts[modality]["labels"][index]} if "label" in case else {})

        return read

    pairs = dict(zip(DOMAINS, MODALITIES, strict=True))
    data = {d: [{"image": str(i), "label": str(i)} for i in range(counts[m])] for d, m in pairs.items()}
    limits = {d: labelled.get(m) for d, m in pairs.items()}
    return JointVolumes(data, {d: reader(m) for d, m in pairs.items()}, classes=CLASSES, labelled=limits)


def train_networks(
    networks: Mapping[str, nn.ModuleList],
    hearts: Mapping[str, Hearts],
    settings: Settings,
    stages: Stages,
    *,
    seed: int,
    folder: Path,
    device: str,
    progress: Progress,
    labelled: Mapping[str, int | None] | None = None,
    counts: Mapping[str, int] | None = None,
) -> None:
    """Run the stages; a run that was killed goes on from the checkpoint in ``folder``.

    Args:
        networks: of :func:`build_networks`.
        hearts: training hearts of ``ct`` and ``mr``.
        settings: of the scale.
        stages: what is learned when.
        seed: of the draws.
        folder: of the checkpoints.
        device: where it runs.
        progress: told after every iteration.
        labelled: how many of a modality's hearts have a label; all where ``None``.
        counts: how many hearts of a modality are there at all.
    """
    s = settings
    volumes = _volumes(hearts, labelled or {}, counts or {m: len(hearts[m]["images"]) for m in MODALITIES})
    sampler = CounterSampler(volumes, samples_per_epoch=s.train, batch_size=s.batch_size, seed=seed)
    for pair in networks.values():
        pair.to(device)
    rates = ((s.learning_rate, 0.5), (s.learning_rate, 0.5), (s.segmenter_learning_rate, 0.9))
    optimizers = {
        name: torch.optim.Adam(pair.parameters(), rate, (beta, 0.999))
        for (name, pair), (rate, beta) in zip(networks.items(), rates, strict=True)
    }
    step = JointCycleStep(
        list(networks["generators"]),
        list(networks["discriminators"]),
        list(networks["segmenters"]),
        optimizers["generators"],
        optimizers["discriminators"],
        optimizers["segmenters"],
        segmentation_loss=segmentation_loss(s),
        prepare=AugmentedDomains(augmentation(s), seed=seed),
        stages=stages,
        shape_weight=s.shape_weight,
        synthetic_weight=s.synthetic_weight,
        adversarial=AdversarialLoss("least_squares"),
        cycle_weight=s.cycle_weight,
        identity_weight=0.0,
        pool_size=s.pool_size,
        seed=seed,
    )
    loader = DataLoader(volumes, s.batch_size, sampler=sampler)
    trainer = StepTrainer(device, stages.epochs, loader, step, amp=s.amp, decollate=False)
    total = stages.epochs * len(loader)

    def show() -> None:
        progress(trainer.state.iteration / total, stages.at(trainer.state.epoch))

    trainer.add_event_handler(Events.ITERATION_COMPLETED, show)
    RateSchedule(stages.rate, list(optimizers.values())).attach(trainer)
    Checkpoint(folder / "checkpoints", step.checkpoint_objects(), keep=1, interval=5).attach(trainer)
    trainer.run()
