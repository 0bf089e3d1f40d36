"""The deterministic transfer that the method is compared with (Huang and Belongie, ICCV 2017)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medsynth_ext.engines import StepTrainer
from medsynth_ext.methods.ultrasound_style.blocks import glorot_uniform
from medsynth_ext.methods.ultrasound_style.decoder import Decoder
from medsynth_ext.networks.adain import adain, channel_statistics
from medsynth_ext.networks.feature_network import FeatureNetwork

__all__ = ["AdaINStep", "AdaINTransfer"]


class AdaINTransfer(nn.Module):
    """Features of a fixed network take over the style features' means and deviations; a decoder learns the way back.

    The decoder is the method's own, with AdaIN on the skips; the style is from the skips of the style image.

    Args:
        features: fixed, gives maps that halve in size from layer to layer.
        widths: channels of these maps.
        out_channels: of the images.
    """

    def __init__(self, features: FeatureNetwork, widths: Sequence[int], *, out_channels: int = 1) -> None:
        super().__init__()
        self.features = features
        self.decoder = Decoder(out_channels, widths, adain_on="skip")
        glorot_uniform(self.decoder)

    def forward(self, image: Tensor, style: Tensor | None = None) -> Tensor:  # (B, C, H, W) in [0, 1]
        """The image in the style of ``style`` (B, C, h, w), or of itself."""
        content = self.features(image)
        statistics = [channel_statistics(part) for part in (content if style is None else self.features(style))]
        return self.decoder(content, [mean for mean, _ in statistics], [deviation for _, deviation in statistics])


class AdaINStep:
    """One update of the decoder.

    ``content``: mean square of the output's deepest features against AdaIN's result; ``style``: ``style_weight`` times
    the sum over layers of the mean squares of the differences in channels' means and deviations.

    Args:
        network: the transfer.
        optimizer: of its decoder.
        style_weight: of the style; 10 as published.
    """

    def __init__(self, network: AdaINTransfer, optimizer: torch.optim.Optimizer, *, style_weight: float = 10.0) -> None:
        self.network = network
        self.optimizer = optimizer
        self.style_weight = style_weight

    def terms(self, pred: Tensor, content: Tensor, style: Tensor) -> dict[str, Tensor]:
        """The two weighted terms."""
        features = self.network.features
        with torch.no_grad():
            shown, look = features(content)[-1], features(style)
            target = adain(shown, *channel_statistics(look[-1]))
        found = features(pred)
        alike = [
            F.mse_loss(a, b)
            for x, y in zip(found, look, strict=True)
            for a, b in zip(channel_statistics(x), channel_statistics(y), strict=True)
        ]
        return {"content": F.mse_loss(found[-1], target), "style": self.style_weight * torch.stack(alike).sum()}

    def __call__(self, engine: StepTrainer, batch: Mapping[str, Any]) -> dict[str, Any]:
        """From ``{"a": content, "b": style}``, (B, C, H, W) each in [0, 1]."""
        content, style = (batch[key].as_subclass(Tensor).to(engine.state.device) for key in ("a", "b"))
        self.network.train()
        with engine.autocast():
            pred = self.network(content, style)
        terms = self.terms(pred.float(), content, style)
        loss = torch.stack(list(terms.values())).sum()
        engine.update(loss, self.optimizer)
        scalars = {name: term.detach() for name, term in terms.items()}
        return {**scalars, "loss": loss.detach(), "image": content, "style_image": style, "pred": pred.detach()}
