"""Training of the feature network: which machine made a frame, and what does it show?"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from ignite.engine import Engine, Events
from torch import Tensor

from medsynth_ext.engines import StepTrainer
from medsynth_ext.methods.ultrasound_style.frames import frame_classes
from medsynth_ext.networks.feature_network import FeatureClassifier, FeatureNetwork

__all__ = ["Calibration", "ClassificationStep", "with_classes"]


def with_classes(
    folder: str | os.PathLike, files: Sequence[Mapping[str, str]], keys: Sequence[str]
) -> list[dict[str, Any]]:
    """Frames with a class per key from the folder's ``frames.csv``; an empty list when there are no frames.

    Raises:
        ScanError: see :func:`frame_classes`.
    """
    if not files:
        return []
    columns = {key: frame_classes(Path(folder), files, key) for key in keys}
    return [{**item, **{key: columns[key][n] for key in keys}} for n, item in enumerate(files)]


class ClassificationStep:
    """One update of a :class:`FeatureClassifier`: the sum of the cross-entropies of all its questions.

    Every other batch is mirrored left to right. The output has the share of right answers per question.
    """

    def __init__(self, network: FeatureClassifier, optimizer: torch.optim.Optimizer) -> None:
        self.network = network
        self.optimizer = optimizer

    def __call__(self, engine: StepTrainer, batch: Mapping[str, Any]) -> dict[str, Any]:
        image = batch["image"].as_subclass(Tensor).to(engine.state.device)
        if engine.state.iteration % 2:
            image = image.flip(3)
        self.network.train()
        with engine.autocast():
            answers = self.network(image)
        terms, shares = {}, {}
        for name, logits in answers.items():
            truth = torch.as_tensor(batch[name]).to(engine.state.device)
            terms[name] = F.cross_entropy(logits.float(), truth)
            shares[f"{name}_right"] = (logits.argmax(1) == truth).float().mean()
        loss = torch.stack(list(terms.values())).sum()
        engine.update(loss, self.optimizer)
        scalars = {name: term.detach() for name, term in {**terms, **shares}.items()}
        return {**scalars, "loss": loss.detach(), "image": image, "pred": torch.cat(list(answers.values()), 1).detach()}


class Calibration:
    """Sets a feature network's divisors from the last batch of every epoch; attach it before writers."""

    def __init__(self, features: FeatureNetwork) -> None:
        self.features = features

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        samples: list[dict[str, Any]] = engine.state.output  # type: ignore[assignment]
        images = torch.stack([sample["image"] for sample in samples]).as_subclass(Tensor)
        self.features.calibrate(images)
