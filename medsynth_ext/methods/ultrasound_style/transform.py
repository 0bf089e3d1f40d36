"""The transfer as an augmentation: any training's frames in looks that are drawn on the fly."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from monai.bundle import ConfigParser
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, RandomizableTransform
from torch import Tensor

from medsynth_ext.handlers.weights import load_weights
from medsynth_ext.methods.ultrasound_style.styles import StyleSource, load_bank

__all__ = ["RandUltrasoundStyled"]


class RandUltrasoundStyled(RandomizableTransform, MapTransform):
    """Re-renders frames in a drawn style; masks are left alone, since nothing moves.

    A frame is resized to the size that the network works at, re-rendered, and resized back. All keys of an item get the
    same style. In worker processes the network runs on the CPU: use it there with ``device="cpu"``.

    Args:
        keys: frames (1, H, W) in [0, 1].
        bundle: folder of the bundle with weights and, for ``posterior_mix``, the bank of styles.
        prob: probability for an item.
        mode: ``posterior_mix`` or ``prior``.
        temperature: how far beyond the observed styles.
        device: where the network runs.
        allow_missing_keys: as in MONAI.

    Raises:
        ValueError: for another mode.
        WeightsError: when the bundle's weights or bank do not fit.
    """

    def __init__(
        self,
        keys: KeysCollection,
        bundle: str | os.PathLike,
        *,
        prob: float = 0.5,
        mode: str = "posterior_mix",
        temperature: float = 1.0,
        device: str | torch.device = "cpu",
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        if mode not in ("posterior_mix", "prior"):
            raise ValueError(f"mode must be posterior_mix or prior, got {mode!r}")
        parser = ConfigParser()
        parser.read_config(str(Path(bundle) / "configs/inference.json"))
        parser["bundle_root"] = str(bundle)
        network = parser.get_parsed_content("network_def").eval()
        load_weights(network, parser.get_parsed_content("weights"))
        bank = None
        if mode == "posterior_mix":
            bank = load_bank(parser.get_parsed_content("style_bank"), sum(network.features))
        self.size = [int(n) for n in parser.get_parsed_content("size")]
        self.device = torch.device(device)
        self.network = network.to(self.device).requires_grad_(False)
        self.source = StyleSource(self.network, mode, bank=bank, temperature=temperature)
        self.number = 0

    def randomize(self, data: Any = None) -> None:
        super().randomize(None)
        self.number = int(self.R.randint(2**31))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        self.randomize()
        if not self._do_transform:
            return result
        (style,) = self.source(self.number)
        for key in self.key_iterator(result):
            result[key] = self._render(result[key], style.codes)
        return result

    @torch.no_grad()
    def _render(self, frame: Tensor, codes: list[Tensor]) -> Tensor:  # (1, H, W)
        image = torch.as_tensor(frame).as_subclass(Tensor)[None].to(self.device)
        size = list(image.shape[2:])
        small = F.interpolate(image, size=self.size, mode="bilinear", antialias=True)
        made = F.interpolate(self.network.render(small, codes), size=size, mode="bilinear", antialias=True)
        made = made[0].clamp(0, 1).to(frame.device)
        if isinstance(frame, MetaTensor):
            made = MetaTensor(made, meta=frame.meta, applied_operations=frame.applied_operations)
        return made
