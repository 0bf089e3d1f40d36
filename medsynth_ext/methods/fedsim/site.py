"""One hospital: its volumes and latents, its own slice generator and discriminator, and what it learns from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medsynth_ext.engines import AdversarialStep, LatentGaussian, LatentTable
from medsynth_ext.losses import ConditionalAdversarialLoss
from medsynth_ext.methods.fedsim.conditions import gather_slices, slice_conditions
from medsynth_ext.methods.fedsim.fixed_material import FixedMaterial
from medsynth_ext.methods.fedsim.model import HeartModel
from medsynth_ext.methods.fedsim.objectives import iou_loss, material_loss
from medsynth_ext.methods.fedsim.volumes import SiteVolumes

__all__ = ["PHASES", "Contribution", "Site"]

PHASES = ("fit", "gan", "pull", "labelled", "unlabelled")


@dataclass(frozen=True)
class Contribution:
    """What one step of a site gives back.

    Args:
        gradients: of theta_S and theta_M by name; empty in phases that leave them alone.
        scalars: loss and its terms.
        samples: volumes behind the gradients.
        pictures: ``image``, ``pred``, ``label`` of the step, for handlers of the site itself; never sent anywhere.
    """

    gradients: dict[str, Tensor]
    scalars: dict[str, float]
    samples: int
    pictures: dict[str, Tensor] = field(default_factory=dict, repr=False)


class Site:
    """A site's private state and its part of every training step.

    Phases: ``fit`` (latents, shape and material on labelled volumes), ``gan`` (slice generator and discriminator on
    labelled volumes), ``pull`` (latents of unlabelled volumes alone, to their material), ``labelled`` and
    ``unlabelled`` (semi-supervised; the discriminator is frozen unless told otherwise). Latents, generator and
    discriminator are updated here; the gradients of the shared networks are returned. All random choices are functions
    of (seed, phase, iteration), so a run can be cut anywhere.

    Args:
        volumes: the site's data.
        model: a copy of the shared networks; with one site, the shared networks themselves.
        generator: condition to slice.
        loss: of the generator and discriminator; holds the discriminator.
        rates: phase to the learning rates of ``latent``, ``generator`` and ``discriminator``, where the phase has them.
        distance: feature distance of the material loss.
        seed: key of latents and random choices.
        volumes_per_step: volumes in a step of ``fit``, ``pull`` and ``labelled``.
        slices_per_step: slices in a step of ``gan``.
        slices_per_volume: slices of every volume in the semi-supervised phases.
        context: slices on either side that the generator sees too.
        prior: weight of the mean squared norm of the latents.
        betas: of the generator's and discriminator's Adam.
        fixed_material: in place of the learned material.
        freeze_discriminator: leave the discriminator as it is in the semi-supervised phases.
        shrinkage: of the latent Gaussian.
    """

    def __init__(
        self,
        volumes: SiteVolumes,
        model: HeartModel,
        generator: nn.Module,
        loss: ConditionalAdversarialLoss,
        *,
        rates: Mapping[str, Mapping[str, float]],
        distance: nn.Module,
        seed: int = 0,
        volumes_per_step: int = 4,
        slices_per_step: int = 8,
        slices_per_volume: int = 4,
        context: int = 0,
        prior: float = 1e-3,
        betas: tuple[float, float] = (0.0, 0.9),
        fixed_material: FixedMaterial | None = None,
        freeze_discriminator: bool = True,
        shrinkage: float = 0.2,
    ) -> None:
        self.volumes, self.model, self.generator, self.loss = volumes, model, generator, loss
        self.rates = {phase: dict(rates[phase]) for phase in PHASES}
        self.distance = distance
        self.seed = seed
        self.volumes_per_step, self.slices_per_step = volumes_per_step, slices_per_step
        self.slices_per_volume, self.context = slices_per_volume, context
        self.prior = prior
        self.betas = (float(betas[0]), float(betas[1]))
        self.fixed_material = fixed_material
        self.freeze_discriminator = freeze_discriminator
        self.shrinkage = shrinkage
        self.latents: LatentTable
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self._scanned: dict[int, Tensor] = {}  # volume to its fixed material's CT

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.model.parameters()).device

    def prepare(self) -> None:
        """Read the volumes, draw the latents and make the optimisers; done once before the first step."""
        if self.optimizers:
            return
        self.volumes.load()
        if self.fixed_material is not None:
            labelled = self.volumes.labelled
            self.fixed_material.learn_background(self.volumes.images[labelled], self.volumes.part_maps(labelled))
        self.latents = LatentTable(len(self.volumes), self.model.latent, seed=self.seed).to(self.device)
        networks = {"latent": self.latents, "generator": self.generator, "discriminator": self.loss.discriminator}
        for phase, rates in self.rates.items():
            for name, rate in rates.items():
                betas = (0.9, 0.999) if name == "latent" else self.betas
                parameters = networks[name].parameters()
                self.optimizers[f"{phase}/{name}"] = torch.optim.Adam(parameters, lr=float(rate), betas=betas)

    # The step

    def gradients(
        self,
        shared_state: Mapping[str, Tensor] | None,
        phase: str,
        iteration: int,
        *,
        factor: float = 1.0,
        progress: float = 0.0,
    ) -> Contribution:
        """One step on a mini-batch of this site: private parts are updated, gradients of the shared ones returned.

        Args:
            shared_state: state of the shared networks to work with; ``None`` when ``model`` is the shared one.
            phase: one of ``PHASES``.
            iteration: number of the step in its phase, from 1.
            factor: of all learning rates.
            progress: finished share of the stage; shortens the steps of finite differences to a half.

        Raises:
            ValueError: for another phase, or an unprepared site.
            FloatingPointError: when a loss or gradient is not finite; nothing was changed then.
        """
        if phase not in PHASES:
            raise ValueError(f"phase must be one of {', '.join(PHASES)}, got {phase!r}")
        if not self.optimizers:
            raise ValueError(f"site {self.volumes.name} must be prepared before its first step")
        if shared_state is not None:
            self.model.load_state_dict(dict(shared_state))
        rng = np.random.Generator(
            np.random.Philox(key=np.array([self.seed, PHASES.index(phase) * 2**40 + iteration], dtype=np.uint64))
        )
        for name, optimizer in self.optimizers.items():
            if name.startswith(f"{phase}/"):
                for group in optimizer.param_groups:
                    group["lr"] = self.rates[phase][name.split("/")[1]] * factor
        self.model.train(phase not in ("gan", "pull"))
        # Running statistics and power iterations change in a forward pass, before anything is checked.
        networks = (self.model.material, self.generator, self.loss.discriminator)
        buffers = [(buffer, buffer.clone()) for network in networks for buffer in network.buffers()]
        try:
            return self._run(phase, rng, progress)
        except FloatingPointError:
            for buffer, before in buffers:
                buffer.copy_(before)
            raise

    def _run(self, phase: str, rng: np.random.Generator, progress: float) -> Contribution:
        if phase == "gan":
            return self._gan(rng)
        if phase == "fit":
            return self._fit(rng, progress)
        if phase == "pull":
            return self._pull(rng)
        return self._semi_supervised(phase, rng, progress)

    def draw_unlabelled_latents(self) -> None:
        """Begin the semi-supervised stage: latents of unlabelled volumes from the Gaussian of the labelled ones."""
        index = self.volumes.unlabelled
        if index:
            gaussian = LatentGaussian.fit(self.latents(self.volumes.labelled).cpu(), shrinkage=self.shrinkage)
            self.latents.set(index, gaussian.sample(len(index), seed=self.seed).to(self.device))

    def latent_gaussian(self, *, labelled_only: bool = False) -> LatentGaussian:
        """The Gaussian to sample from: of all latents, or of those of labelled volumes (before the last stage)."""
        index = self.volumes.labelled if labelled_only else range(len(self.volumes))
        return LatentGaussian.fit(self.latents(list(index)).cpu(), shrinkage=self.shrinkage)

    def _choose(self, rng: np.random.Generator, index: Sequence[int], count: int) -> list[int]:
        return [index[i] for i in rng.permutation(len(index))[: min(count, len(index))]]

    def _reconstruction(self, index: list[int], progress: float) -> tuple[dict[str, Tensor], Tensor, Tensor | None]:
        """Terms of the shape, the material and the prior; the heart, and the coarse CT where it is learned."""
        z = self.latents(index)
        heart = self.model.heart(z, motion_factor=1 - progress / 2)
        terms = {"shape": iou_loss(heart, self.volumes.hearts(index).to(self.device)).mean()}
        coarse = None
        if self.fixed_material is None:
            coarse = self.model.coarse_ct(z)
            terms["material"], terms["texture"] = material_loss(
                coarse, self.volumes.material[index].to(self.device), self.distance
            )
        terms["prior"] = self.prior * z.square().sum(1).mean()
        return terms, heart, coarse

    def _fit(self, rng: np.random.Generator, progress: float) -> Contribution:
        index = self._choose(rng, self.volumes.labelled, self.volumes_per_step)
        terms, heart, _ = self._reconstruction(index, progress)
        gradients = self._update(terms, "fit", ("latent",))
        pictures = {
            "image": self.volumes.images[index],
            "pred": heart.detach(),
            "label": self.volumes.hearts(index),
        }
        return _contribution(gradients, terms, len(index), pictures)

    def _pull(self, rng: np.random.Generator) -> Contribution:
        index = self._choose(rng, self.volumes.unlabelled, self.volumes_per_step)
        if not index or self.fixed_material is not None:
            return _contribution({}, {}, 0, {})
        z = self.latents(index)
        coarse = self.model.coarse_ct(z)
        target = self.volumes.material[index].to(self.device)
        terms = dict(zip(("material", "texture"), material_loss(coarse, target, self.distance), strict=True))
        terms["prior"] = self.prior * z.square().sum(1).mean()
        self._update(terms, "pull", ("latent",))
        return _contribution({}, terms, len(index), {"image": target, "pred": coarse.detach(), "label": target})

    def _gan(self, rng: np.random.Generator) -> Contribution:
        labelled = self.volumes.labelled
        # All slices have the same chance; those of one volume share its coarse CT.
        chosen = rng.integers(len(labelled), size=self.slices_per_step)
        k = torch.from_numpy(rng.integers(self.model.size, size=(self.slices_per_step, 1)))
        index = [labelled[i] for i in chosen]
        with torch.no_grad():
            distinct = sorted(set(index))
            coarse = self._coarse(distinct)[[distinct.index(i) for i in index]]
            k = k.to(self.device)
            condition = slice_conditions(coarse, self.volumes.hearts(index).to(self.device), k, context=self.context)
            real = gather_slices(self.volumes.images[index].to(self.device), k)
        step = AdversarialStep(
            self.generator, self.loss, self.optimizers["gan/generator"], self.optimizers["gan/discriminator"]
        )
        output = step.run(condition, real)
        scalars = {name: float(value) for name, value in output.items() if value.ndim == 0}
        pictures = {"image": real, "pred": output["pred"], "label": condition[:, 1:2]}
        return Contribution({}, scalars, len(distinct), pictures)

    def _coarse(self, index: list[int]) -> Tensor:
        """Simulated CT of labelled volumes: of their latents, or of the fixed material of their labels."""
        if self.fixed_material is None:
            return self.model.coarse_ct(self.latents(index))
        for i in index:
            if i not in self._scanned:
                self._scanned[i] = self.fixed_material(self.volumes.part_maps([i]).to(self.device))
        return torch.cat([self._scanned[i] for i in index])

    def _semi_supervised(self, phase: str, rng: np.random.Generator, progress: float) -> Contribution:
        supervised = phase == "labelled"
        index = self._choose(
            rng,
            self.volumes.labelled if supervised else self.volumes.unlabelled,
            self.volumes_per_step if supervised else 1,
        )
        if not index:
            return _contribution({}, {}, 0, {})
        terms: dict[str, Tensor] = {}
        if supervised:
            terms, _, coarse = self._reconstruction(index, progress)
            coarse = self._coarse(index) if coarse is None else coarse
            heart = self.volumes.hearts(index).to(self.device)
        else:
            z = self.latents(index)
            heart = self.model.heart(z, motion_factor=1 - progress / 2)
            if self.fixed_material is None:
                coarse = self.model.coarse_ct(z)
            else:
                coarse = self.fixed_material(self.model.shape_model.part_labels(self.model.shape(z), self.model.size))
            terms["prior"] = self.prior * z.square().sum(1).mean()
        k = torch.from_numpy(rng.integers(self.model.size, size=(len(index), self.slices_per_volume))).to(self.device)
        condition = slice_conditions(coarse, heart, k, context=self.context)
        real = gather_slices(self.volumes.images[index].to(self.device), k).flatten(0, 1)[:, None]
        self.generator.train()
        self.loss.discriminator.train(not self.freeze_discriminator)
        fake = self.generator(condition)
        terms |= self.loss.generator_terms(condition, real, fake)
        gradients = self._update(terms, phase, ("latent", "generator"))
        if not self.freeze_discriminator:
            terms["discriminator"] = self.loss.discriminator_term(condition, real, fake)
            self._update({"discriminator": terms["discriminator"]}, phase, ("discriminator",))
        pictures = {"image": real, "pred": fake.detach(), "label": condition[:, 1:2].detach()}
        return _contribution(gradients, terms, len(index), pictures)

    def _update(self, terms: Mapping[str, Tensor], phase: str, names: Sequence[str]) -> dict[str, Tensor]:
        """Back-propagate the sum, step the private optimisers, and return the gradients of the shared parameters.

        The check comes before the first step, so that a bad batch changes nothing.
        """
        loss = torch.stack(list(terms.values())).sum()
        where = f"in phase {phase} of site {self.volumes.name}"
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss must be finite, got {loss.item()} {where}")
        optimizers = [self.optimizers[f"{phase}/{name}"] for name in names]
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        self.model.zero_grad(set_to_none=True)
        loss.backward()
        shared = {name: p.grad for name, p in self.model.named_parameters() if p.grad is not None}
        private = [
            p.grad for o in optimizers for group in o.param_groups for p in group["params"] if p.grad is not None
        ]
        if not all(bool(torch.isfinite(gradient).all()) for gradient in [*shared.values(), *private]):
            raise FloatingPointError(f"a gradient is not finite {where}")
        for optimizer in optimizers:
            optimizer.step()
        gradients = {name: gradient.clone() for name, gradient in shared.items()} if phase != "pull" else {}
        self.model.zero_grad(set_to_none=True)
        return gradients

    # State

    def state_dict(self) -> dict[str, Any]:
        """Everything private that training changes: latents, generator, discriminator and all their optimisers."""
        return {
            "latents": self.latents.state_dict(),
            "generator": self.generator.state_dict(),
            "discriminator": self.loss.discriminator.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of :meth:`state_dict`; the site must be prepared."""
        self.latents.load_state_dict(state["latents"])
        self.generator.load_state_dict(state["generator"])
        self.loss.discriminator.load_state_dict(state["discriminator"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])


def _contribution(
    gradients: dict[str, Tensor], terms: Mapping[str, Tensor], samples: int, pictures: dict[str, Tensor]
) -> Contribution:
    scalars = {name: float(term.detach()) for name, term in terms.items()}
    return Contribution(gradients, {**scalars, "loss": sum(scalars.values())}, samples, pictures)
