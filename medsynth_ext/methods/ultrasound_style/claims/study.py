"""The study of style transfer on phantom frames."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medsynth_ext.claims import Arm, Claim, Progress, SettingsStudy
from medsynth_ext.data.files import replacing
from medsynth_ext.handlers.ema import EMA
from medsynth_ext.handlers.weights import load_weights
from medsynth_ext.methods.ultrasound_style.baseline import AdaINStep, AdaINTransfer
from medsynth_ext.methods.ultrasound_style.claims.frames import Frames, cached_frames
from medsynth_ext.methods.ultrasound_style.claims.judging import make_claims
from medsynth_ext.methods.ultrasound_style.claims.settings import AUGMENTED, FIRST_SEEDS, ROBUST, Settings
from medsynth_ext.methods.ultrasound_style.claims.training import (
    MachineJudge,
    mean_dice,
    run_step,
    segmenter,
    train_segmenter,
)
from medsynth_ext.methods.ultrasound_style.losses import StyleTransferLoss, StyleVAELoss
from medsynth_ext.methods.ultrasound_style.network import ContentUNet, StyleTransferNetwork, StyleVAE
from medsynth_ext.methods.ultrasound_style.step import ReconstructionStep, StyleTransferStep, StyleVAEStep
from medsynth_ext.methods.ultrasound_style.styles import StyleSource
from medsynth_ext.networks import FeatureNetwork
from medsynth_ext.phantoms.ultrasound_anatomy import CONTENTS
from medsynth_ext.phantoms.ultrasound_machines import OBSERVED, UNOBSERVED

__all__ = ["UltrasoundStyleStudy"]

_VESSELS = ("leg", "pig")  # contents in which every frame has vessels
_VGG_WIDTHS = (64, 128, 256, 512, 512)


class UltrasoundStyleStudy(SettingsStudy[Settings]):
    """The arms and claims of the style transfer.

    Args:
        settings: the numbers of one scale.
        feature_weights: of the feature network in both transfers' losses.
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
        feature_weights: str | Path,
        device: str | torch.device = "cpu",
        split: str = "test",
    ) -> None:
        super().__init__(settings, device=device, split=split)
        self.feature_weights = str(feature_weights)

    def arms(self) -> list[Arm]:
        shared = self.shared()
        seeds = self.settings.seeds
        transfer = Arm("transfer", "the transfer itself, seen by the judges", seeds, shared)
        robust = {f"robust_{name}": text for name, text in ROBUST.items()}
        others = {**{name: text for name, (_, text) in AUGMENTED.items()}, **robust}
        return [transfer, *(Arm(name, text, seeds, shared) for name, text in others.items())]

    def claims(self) -> list[Claim]:
        return make_claims(self.settings.thresholds, self.settings.targets)

    # Frames and networks that the arms share

    def items(self, arms: Sequence[Arm]) -> list[str]:
        seeds = self.settings.seeds
        return ["judge", *(f"{kind}-{seed}" for seed in seeds for kind in ("variational", "adain"))]

    def prepare(self, item: str, *, data: Path, progress: Progress) -> None:
        path = self._file(item, data)
        if path.is_file():
            return
        kind, _, seed = item.partition("-")
        network: nn.Module
        if kind == "judge":
            network = self._train_judges(data, progress)
        elif kind == "variational":
            network = self._train_transfer(int(seed), data, progress)
        else:
            network = self._train_adain(int(seed), data, progress)
        with replacing(path) as temporary:
            torch.save(network.state_dict(), temporary)

    def _file(self, item: str, data: Path) -> Path:
        """Weights of shared networks; other numbers are another file."""
        numbers = {key: value for key, value in asdict(self.settings).items() if key not in ("thresholds", "seeds")}
        digest = hashlib.sha256(json.dumps([numbers, Path(self.feature_weights).stat().st_size]).encode()).hexdigest()
        return data / f"{item}-{digest[:12]}.pt"

    def frames(self, part: str, data: Path, progress: Progress | None = None) -> Frames:
        """The frames of a part: pool, judge, phantom, target, labelled, or a test of it (``test_judge``, ...)."""
        s = self.settings
        every, target, phantom = OBSERVED, (s.target_machine,), (s.phantom_machine,)
        parts: dict[str, tuple[int, Sequence[str], Sequence[int]]] = {
            "pool": (s.pool, tuple(CONTENTS), every),
            "judge": (s.judge_frames, _VESSELS, every),
            "phantom": (s.phantom_frames, ("leg",), phantom),
            "target": (max(s.targets), ("pig",), target),
            "labelled": (s.labelled_frames, _VESSELS, every),
            "test_judge": (s.test_frames, _VESSELS, every),
            "test_target": (s.test_frames, ("pig",), target),
            "test_unobserved": (s.test_frames, _VESSELS, UNOBSERVED),
        }
        count, contents, machines = parts[part]
        if part.startswith("test_"):
            place = 10_000 * list(parts).index(part)
            first, name = FIRST_SEEDS[self.split] + place, f"{self.split}_{part.removeprefix('test_')}"
        else:
            first, name = FIRST_SEEDS[part], part
        found = cached_frames(
            data / f"frames_{name}-{count}-{s.size}.pt",
            count=count,
            first_seed=first,
            contents=contents,
            machines=machines,
            size=s.size,
            progress=progress,
        )
        return Frames(*(part.to(self.device) for part in (found.images, found.labels, found.machines)))

    def _features(self) -> FeatureNetwork:
        return FeatureNetwork(width=self.settings.feature_width, weights=self.feature_weights).to(self.device)

    def _transfer(self) -> StyleTransferNetwork:
        return StyleTransferNetwork(1, self.settings.features).to(self.device)

    def _adain(self) -> AdaINTransfer:
        widths = [max(1, round(self.settings.feature_width * w)) for w in _VGG_WIDTHS]
        return AdaINTransfer(self._features(), widths).to(self.device)

    def _judges(self) -> nn.ModuleDict:
        torch.manual_seed(1_000)
        s = self.settings
        return nn.ModuleDict({"machine": MachineJudge(len(OBSERVED), s.size), "masks": segmenter(s.unet, 1_000)}).to(
            self.device
        )

    def _train_judges(self, data: Path, progress: Progress) -> nn.ModuleDict:
        s, judges, frames = self.settings, self._judges(), self.frames("judge", data, progress)
        options: dict[str, Any] = {"batch_size": s.batch_size, "rate": s.segmentation_rate, "seed": 1_000}
        options |= {"steps": s.judge_steps, "progress": progress}
        judges["machine"].fit(frames, **options)  # type: ignore[operator]
        train_segmenter(judges["masks"], frames, None, augmented=False, **options)
        return judges

    def _train_encoders(self, network: StyleTransferNetwork, seed: int, images: Tensor, progress: Progress) -> None:
        """The first stages: both encoders learn in networks that give frames back."""
        s = self.settings
        options: dict[str, Any] = {"batch_size": s.batch_size, "seed": seed, "keys": ("image",), "progress": progress}
        content = ContentUNet(1, s.features).to(self.device)
        optimizer = torch.optim.Adam(content.parameters(), s.learning_rate)
        step: Any = ReconstructionStep(content, nn.MSELoss(), optimizer, seed=seed)
        run_step(step, images, steps=s.content_steps, **options)
        network.content_encoder.load_state_dict(content.content_encoder.state_dict())
        style = StyleVAE(1, s.features).to(self.device)
        optimizer = torch.optim.Adam(style.parameters(), s.learning_rate)
        step = StyleVAEStep(style, StyleVAELoss(), optimizer, seed=seed, sampling=s.sampling)
        run_step(step, images, steps=s.style_steps, **options)
        network.style_encoder.load_state_dict(style.style_encoder.state_dict())

    def _train_transfer(self, seed: int, data: Path, progress: Progress) -> nn.Module:
        s, images = self.settings, self.frames("pool", data, progress).images
        torch.manual_seed(seed)
        network = self._transfer()
        self._train_encoders(network, seed, images, progress)
        loss = StyleTransferLoss(
            self._features(),
            content_weights=s.content_weights,
            style_weights=s.style_weights,
            normalise_content=s.normalise_content,
            structure_weight=s.structure_weight,
            structure_px=s.structure_px,
            kl_weight=s.kl_weight,
        )
        optimizer = torch.optim.Adam(network.parameters(), s.learning_rate)
        step = StyleTransferStep(network, loss, optimizer, seed=seed, sampling=s.sampling)
        return self._train_pairs(network, step, images, seed, progress)

    def _train_adain(self, seed: int, data: Path, progress: Progress) -> nn.Module:
        s, images = self.settings, self.frames("pool", data, progress).images
        torch.manual_seed(seed)
        network = self._adain()
        step = AdaINStep(network, torch.optim.Adam(network.decoder.parameters(), s.learning_rate))
        return self._train_pairs(network, step, images, seed, progress)

    def _train_pairs(self, network: nn.Module, step: Any, images: Tensor, seed: int, progress: Progress) -> nn.Module:
        """Run a transfer's step on pairs of frames; the average of its weights, as the bundle writes them."""
        s = self.settings
        ema = EMA(network, decay=s.ema_decay)
        options: dict[str, Any] = {"batch_size": s.batch_size, "seed": seed, "progress": progress, "ema": ema}
        run_step(step, images, steps=s.transfer_steps, keys=("a", "b"), **options)
        return ema.network

    # Arms

    def run(self, arm: Arm, seed: int, *, folder: Path, data: Path, progress: Progress) -> dict[str, Any]:
        if arm.name == "transfer":
            return self._judge(seed, data)
        if arm.name.startswith("robust_"):
            return self._robust(arm.name.removeprefix("robust_"), seed, data, progress)
        kind = AUGMENTED[arm.name][0]
        figures = {}
        for place, count in enumerate(self.settings.targets):
            target = self.frames("target", data).first(count)
            extra = self._extra(kind, target, seed, data)
            network = segmenter(self.settings.unet, seed).to(self.device)
            self._segment(
                network,
                target,
                extra,
                seed,
                lambda f, text="", place=place: progress((place + f) / len(self.settings.targets), text),
                augmented=kind == "augmented",
            )
            test = self.frames("test_target", data)
            figures[str(count)] = mean_dice(network, test.images, test.labels)
        return figures

    def _segment(
        self,
        network: nn.Module,
        target: Frames,
        extra: Frames | None,
        seed: int,
        progress: Progress,
        *,
        augmented: bool = False,
    ) -> None:
        s = self.settings
        options: dict[str, Any] = {"steps": s.segmentation_steps, "batch_size": s.batch_size}
        options |= {"rate": s.segmentation_rate, "seed": seed, "progress": progress, "augmented": augmented}
        train_segmenter(network, target, extra, **options)

    @torch.no_grad()
    def _extra(self, kind: str, target: Frames, seed: int, data: Path) -> Frames | None:
        """What there is beside the target's frames."""
        if kind in ("", "augmented"):
            return None
        phantom = self.frames("phantom", data)
        if kind == "phantom":
            return phantom
        copies = self.settings.renderings
        images = phantom.images.repeat(copies, 1, 1, 1)
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randint(len(target.images), (len(images),), generator=generator)
        if kind == "adain":
            network = self._adain().eval()
            load_weights(network, self._file(f"adain-{seed}", data))
            pairs = zip(images.split(16), target.images[chosen].split(16), strict=True)
            made = torch.cat([network(content, style) for content, style in pairs])
        else:
            made = self._rendered(seed, data, images, styles=target.images, chosen=chosen.tolist())
        return Frames(made, phantom.labels.repeat(copies, 1, 1, 1), phantom.machines.repeat(copies))

    def _loaded(self, seed: int, data: Path) -> StyleTransferNetwork:
        network = self._transfer().eval()
        load_weights(network, self._file(f"variational-{seed}", data))
        return network

    @torch.no_grad()
    def _rendered(
        self, seed: int, data: Path, images: Tensor, *, styles: Tensor, chosen: Sequence[int], exact: bool = False
    ) -> Tensor:
        """Image n in the style of ``styles[chosen[n]]``: a draw of its code, or its mean where ``exact``."""
        network, made = self._loaded(seed, data), []
        sources = {}
        for n, (image, index) in enumerate(zip(images, chosen, strict=True)):
            if index not in sources:
                look = [(str(index), lambda index=index: styles[index])]
                options: dict[str, Any] = {"deterministic": exact, "seed": seed, "sampling": self.settings.sampling}
                sources[index] = StyleSource(network, "reference", images=look, **options)
            made.append(network.render(image[None], sources[index](n)[0].codes))
        return torch.cat(made)

    @torch.no_grad()
    def _judge(self, seed: int, data: Path) -> dict[str, Any]:
        """Claims 1 and 5."""
        s, judges = self.settings, self._judges()
        load_weights(judges, self._file("judge", data))
        judges.eval()
        test = self.frames("test_judge", data)
        known = (judges["machine"](test.images).argmax(1) == test.machines).float().mean().item()
        generator = torch.Generator().manual_seed(seed)
        pairs = [
            (a, b)
            for a, b in torch.randint(len(test.images), (20 * s.pairs, 2), generator=generator).tolist()
            if test.machines[a] != test.machines[b]
        ][: s.pairs]
        content, style = ([p[k] for p in pairs] for k in (0, 1))
        made = self._rendered(seed, data, test.images[content], styles=test.images, chosen=style)
        answers = judges["machine"](made).argmax(1)
        before = mean_dice(judges["masks"], test.images[content], test.labels[content])
        after = mean_dice(judges["masks"], made, test.labels[content])
        return {
            "judge_accuracy": known,
            "style_moved": (answers == test.machines[style]).float().mean().item(),
            "content_kept": (answers == test.machines[content]).float().mean().item(),
            "dice_before": before["mean"],
            "dice_after": after["mean"],
            **self._diversity(seed, data, test),
        }

    @torch.no_grad()
    def _diversity(self, seed: int, data: Path, test: Frames) -> dict[str, float]:
        """Mean absolute distance between renderings of one frame: drawn from the prior, and in the machines' styles."""
        network = self._loaded(seed, data)
        image = test.images[:1]
        prior = StyleSource(network, "prior", count=self.settings.samples, seed=seed)(0)
        drawn = torch.cat([network.render(image, style.codes) for style in prior])
        firsts = [int((test.machines == m).nonzero()[0]) for m in OBSERVED if (test.machines == m).any()]
        references = torch.cat(
            [network.render(image, network.style_encoder(test.images[i : i + 1])[0]) for i in firsts]
        )
        return {"prior_distance": _spread(drawn), "reference_distance": _spread(references)}

    @torch.no_grad()
    def _restyled(self, kind: str, frames: Frames, seed: int, data: Path) -> Frames:
        """Labelled frames, and beside them the same in other styles."""
        if kind == "reference":
            order = torch.randperm(len(frames.images), generator=torch.Generator().manual_seed(seed)).tolist()
            made = self._rendered(seed, data, frames.images, styles=frames.images, chosen=order)
        else:
            network = self._loaded(seed, data)
            pool = self.frames("pool", data).images
            bank = torch.cat([network.join(network.style_encoder(part)[0]) for part in pool.split(32)]).cpu()
            temperature = self.settings.temperature
            source = StyleSource(network, "posterior_mix", bank=bank, temperature=temperature, seed=seed)
            parts = [network.render(image[None], source(n)[0].codes) for n, image in enumerate(frames.images)]
            made = torch.cat(parts)
        return Frames(made, frames.labels, frames.machines)

    def _robust(self, kind: str, seed: int, data: Path, progress: Progress) -> dict[str, Any]:
        """Claim 4."""
        frames = self.frames("labelled", data)
        extra = None if kind == "original" else self._restyled(kind, frames, seed, data)
        network = segmenter(self.settings.unet, seed).to(self.device)
        self._segment(network, frames, extra, seed, progress)
        figures: dict[str, Any] = {}
        for name in ("test_unobserved", "test_judge"):
            test = self.frames(name, data)
            figures[name.removeprefix("test_")] = mean_dice(network, test.images, test.labels)
        return figures


def _spread(images: Tensor) -> float:  # (N, 1, H, W)
    """Mean absolute difference over all pairs."""
    flat = images.flatten(1)
    return float(torch.nn.functional.pdist(flat, p=1).mean() / flat.shape[1])
