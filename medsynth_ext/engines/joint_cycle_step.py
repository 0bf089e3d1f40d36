"""Unpaired translation and the segmentation of both domains, learned together (Cai et al., Med. Image Anal. 2019)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from medsynth_ext.engines.cycle_step import CycleStep, frozen
from medsynth_ext.engines.processes import gather_batch
from medsynth_ext.engines.stages import Stages
from medsynth_ext.engines.trainer import StepTrainer

__all__ = ["DomainBatch", "JointCycleStep"]


@dataclass(frozen=True)
class DomainBatch:
    """What a batch holds of one domain.

    Args:
        image: (B, C, *S) in [-1, 1], to be translated.
        label: (B, 1, *S) int64 of ``image``.
        labelled: (B,) whether ``label`` is one; where not, its values mean nothing.
        real: (B, C, *S) labelled images that the segmenter learns from, the same as ``image`` where these are labelled.
        real_label: (B, 1, *S) int64 of ``real``.
    """

    image: Tensor
    label: Tensor
    labelled: Tensor
    real: Tensor
    real_label: Tensor


class JointCycleStep(CycleStep):
    """The update of :class:`CycleStep`, then one of two segmenters on real and on generated images.

    What the training does is up to the stage of its epoch:

    ==============  ======================================================================================
    ``segmenters``  segmenters and references learn from real images
    ``generators``  generators and discriminators, without segmenters
    ``joint``       all: the generators minimise CycleGAN's terms and ``shape_weight`` times the loss of
                    ``shape_networks`` on generated images against the labels of the images that these came
                    from; the segmenters then learn from real images and from the same generated ones, detached,
                    the references from the real ones
    ==============  ======================================================================================

    Nothing but the cycle ties a generated image to the anatomy of its source: for any invertible warp T the pair
    ``T . G_ab`` and ``G_ba . T^-1`` has the same cycle loss. The shape term does not allow T.

    The references never see a generated image; the S-score is theirs. Where they judge the shape themselves, they
    stay what the first stage made of them.

    Args:
        generators: from a to b, and from b to a.
        discriminators: of a, and of b.
        segmenters: of a, and of b; (B, C, *S) to logits (B, K, *S).
        generator_optimizer: updates both generators.
        discriminator_optimizer: updates both discriminators.
        segmenter_optimizer: updates segmenters and references.
        segmentation_loss: ``loss(logits, label)`` with labels (B, 1, *S).
        prepare: ``prepare(engine, batch) -> DomainBatch of a, DomainBatch of b``, on the device.
        stages: which stage an epoch belongs to.
        references: segmenters of a, and of b that are kept apart; none by default.
        shape_networks: judge the shape of generated images of a, and of b; the segmenters by default.
        shape_weight: of the shape term, 0 for an ordinary CycleGAN beside segmenters.
        synthetic_weight: of the generated images in the segmenters' loss, against 1 for the real ones.
        options: of :class:`CycleStep`: ``adversarial``, ``cycle_weight``, ``identity_weight``, ``pool_size``, ``seed``.

    Raises:
        ValueError: for other than two of a kind of network.
    """

    def __init__(
        self,
        generators: Sequence[nn.Module],
        discriminators: Sequence[nn.Module],
        segmenters: Sequence[nn.Module],
        generator_optimizer: torch.optim.Optimizer,
        discriminator_optimizer: torch.optim.Optimizer,
        segmenter_optimizer: torch.optim.Optimizer,
        *,
        segmentation_loss: Callable[[Tensor, Tensor], Tensor],
        prepare: Callable[[StepTrainer, Any], tuple[DomainBatch, DomainBatch]],
        stages: Stages,
        references: Sequence[nn.Module] = (),
        shape_networks: Sequence[nn.Module] | None = None,
        shape_weight: float = 1.0,
        synthetic_weight: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(
            generators,
            discriminators,
            generator_optimizer,
            discriminator_optimizer,
            prepare=lambda engine, batch: (self._batch[0].image, self._batch[1].image),
            **options,
        )
        judges = segmenters if shape_networks is None else shape_networks
        for kind, networks, counts in (
            ("segmenters", segmenters, (2,)),
            ("references", references, (0, 2)),
            ("shape networks", judges, (2,)),
        ):
            if len(networks) not in counts:
                raise ValueError(f"wanted {' or '.join(map(str, counts))} {kind}, got {len(networks)}")
        self.segmenters = tuple(segmenters)
        self.references = tuple(references)
        self.shape_networks = tuple(judges)
        self.segmenter_optimizer = segmenter_optimizer
        self.segmentation_loss = segmentation_loss
        self.prepare_domains = prepare
        self.stages = stages
        self.shape_weight = shape_weight
        self.synthetic_weight = synthetic_weight
        self._batch: tuple[DomainBatch, DomainBatch]
        self._stage = ""

    def checkpoint_objects(self) -> dict[str, Any]:
        """Everything that the training changes, by name."""
        networks = {f"segmenter_{d}": n for d, n in zip("ab", self.segmenters, strict=True)}
        networks |= {f"reference_{d}": n for d, n in zip("ab", self.references, strict=False)}
        return {**super().checkpoint_objects(), **networks, "segmenter_optimizer": self.segmenter_optimizer}

    def __call__(self, engine: StepTrainer, batch: Any) -> dict[str, Any]:
        self._batch = self.prepare_domains(engine, batch)
        self._stage = self.stages.at(engine.state.epoch)
        labels = {"label": self._batch[0].label, "label_b": self._batch[1].label}
        if self._stage == "segmenters":
            images = {"image": self._batch[0].real, "image_b": self._batch[1].real}
            labels = {"label": self._batch[0].real_label, "label_b": self._batch[1].real_label}
            terms, predictions = self._teach(engine)
            loss = torch.stack(list(terms.values())).sum()
            return {"loss": loss, **terms, **images, **labels, "pred": predictions[0]}
        with frozen(*self.segmenters, *self.references, *self.shape_networks):
            output = super().__call__(engine, batch)
        if self._stage == "joint":
            terms, _ = self._teach(engine, fakes=(output["pred_a"], output["pred"]))
            own = [term for name, term in terms.items() if name.startswith("segmenter")]
            output |= {**terms, "segmenters": torch.stack(own).sum()}
        return {**output, **labels}

    def _generator_terms(self, a: Tensor, b: Tensor) -> tuple[dict[str, Tensor], tuple[Tensor, Tensor]]:
        terms, fakes = super()._generator_terms(a, b)
        if self._stage == "joint" and self.shape_weight > 0:
            for name, network, fake, source in zip(
                "ab", self.shape_networks, fakes, reversed(self._batch), strict=True
            ):
                terms[f"shape_{name}"] = self.shape_weight * self._labelled_loss(network, fake, source)
        return terms, fakes

    def _labelled_loss(self, network: nn.Module, fake: Tensor, source: DomainBatch) -> Tensor:
        """Loss on images that were generated from ``source``, as far as that is labelled.

        Where the processes have more or fewer labelled ones, the mean over processes is that over all of these.
        """
        labelled = source.labelled
        share = labelled.sum() / gather_batch(labelled.sum()[None]).float().mean().clamp(min=1e-9)
        if not bool(labelled.any()):
            return fake.new_zeros(())
        return share * self.segmentation_loss(network(fake[labelled]).float(), source.label[labelled])

    def _teach(
        self, engine: StepTrainer, fakes: tuple[Tensor, Tensor] | None = None
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """One update of the segmenters, and of the references by real images alone."""
        terms: dict[str, Tensor] = {}
        predictions = []
        students = {"segmenter": self.segmenters}
        if self.references and (fakes is None or self.shape_networks != self.references):
            students["reference"] = self.references
        with engine.autocast():
            for kind, networks in students.items():
                for i, (network, domain) in enumerate(zip(networks, self._batch, strict=True)):
                    network.train()
                    logits = network(domain.real).float()
                    predictions.append(logits.detach())
                    name = f"{kind}_{'ab'[i]}"
                    terms[name] = self.segmentation_loss(logits, domain.real_label)
                    if fakes is not None and kind == "segmenter":
                        synthetic = self._labelled_loss(network, fakes[i].detach(), self._batch[1 - i])
                        terms[f"{name}_synthetic"] = self.synthetic_weight * synthetic
        engine.update(torch.stack(list(terms.values())).sum(), self.segmenter_optimizer)
        return {name: term.detach() for name, term in terms.items()}, predictions
