"""The off-line baseline of both domains, from networks in a folder to networks in another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from medsynth_ext.data.files import check_writable, replacing
from medsynth_ext.handlers.weights_writer import half_state_dict
from medsynth_ext.methods.shape_consistent.offline import generate_offline, tune_offline
from medsynth_ext.methods.shape_consistent.volumes import DOMAINS, JointVolumes

__all__ = ["OfflineTuning"]


class OfflineTuning:
    """Tunes a segmenter per domain on real volumes and on what a finished CycleGAN makes, which learns no more.

    To a domain the CycleGAN adds a translation of every labelled volume of the other one, and the reconstruction of
    every labelled one of its own; half of every batch is real.

    Args:
        dataset: volumes of both domains.
        generators: from the first domain to the second, and back.
        segmenters: of each domain, trained on real volumes.
        optimizers: of each segmenter.
        loss: ``loss(logits, label)``.
        rate: share of the full learning rate in an epoch, counted from 0.
        epochs: passes over as many batches as the domain has labelled volumes.
        transform: random transform of ``{"image": ..., "label": ...}``.
        paths: where the tuned segmenters are written, after each domain.
        seed: key of all draws.
    """

    def __init__(
        self,
        dataset: JointVolumes,
        *,
        generators: Sequence[nn.Module],
        segmenters: Sequence[nn.Module],
        optimizers: Sequence[torch.optim.Optimizer],
        loss: Callable[[Tensor, Tensor], Tensor],
        rate: Callable[[int], float],
        epochs: int,
        transform: Callable[[Mapping[str, Tensor]], Mapping[str, Any]],
        paths: Sequence[str | Path],
        seed: int = 0,
    ) -> None:
        self.dataset = dataset
        self.generators, self.segmenters, self.optimizers = generators, segmenters, optimizers
        self.loss, self.rate, self.epochs, self.transform = loss, rate, epochs, transform
        self.paths = [Path(path) for path in paths]
        self.seed = seed

    def run(self) -> None:
        """Tune both.

        Raises:
            ScanError: for volumes or labels that cannot be used.
            OutputError: for a folder that cannot be written to.
            FloatingPointError: when a loss is not finite.
        """
        for path in self.paths:
            check_writable(path.parent)
        self.dataset.load()
        volumes = [self.dataset.labelled(domain) for domain in DOMAINS]
        for i, path in enumerate(self.paths):
            (images, labels), (others, other_labels) = volumes[i], volumes[1 - i]
            made = generate_offline(images, others, to_own=self.generators[1 - i], to_other=self.generators[i])
            name = self.dataset.names[DOMAINS[i]]
            with tqdm(total=1.0, desc=f"tuning {name}", bar_format="{percentage:3.0f}%|{bar}| {desc}") as bar:
                self._tune(i, (images, labels), (torch.cat(made), torch.cat([other_labels, labels])), bar)
            with replacing(path) as temporary:
                torch.save(half_state_dict(self.segmenters[i]), temporary)

    def _tune(self, i: int, real: tuple[Tensor, Tensor], synthetic: tuple[Tensor, Tensor], bar: tqdm) -> None:
        count = len(real[0])

        def show(share: float, text: str) -> None:
            bar.update(share - bar.n)
            bar.set_postfix_str(text)

        tune_offline(
            self.segmenters[i],
            real,
            synthetic,
            loss=self.loss,
            optimizer=self.optimizers[i],
            rate=lambda step: self.rate(step // count),
            steps=self.epochs * count,
            transform=self.transform,
            seed=self.seed,
            progress=show,
        )
