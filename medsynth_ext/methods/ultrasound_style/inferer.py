"""Every frame of a folder in the wanted styles."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor

from medsynth_ext.data.scans import ScanError
from medsynth_ext.methods.ultrasound_style.frames import find_frames
from medsynth_ext.methods.ultrasound_style.network import StyleTransferNetwork
from medsynth_ext.methods.ultrasound_style.styles import Style, StyleSource, load_bank

__all__ = ["StyleInferer"]


class StyleInferer(Inferer):
    """Renders a batch of one frame in several styles: the outputs are the channels of what it returns.

    The styles of the last frame are in ``styles``; frames are counted from 0 on.

    Args:
        mode: see :class:`StyleSource`.
        load: reads a style image, ``load({"image": path})["image"]`` (1, H, W); the preprocessing of content images.
        style_dir: folder of style images, or one of them.
        style_bank: file of training styles, read when the mode needs it.
        options: of :class:`StyleSource`.
    """

    def __init__(
        self,
        mode: str,
        *,
        load: Callable[[dict], Any],
        style_dir: str | os.PathLike | None = None,
        style_bank: str | os.PathLike | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.mode, self.load, self.options = mode, load, options
        self.style_dir, self.style_bank = style_dir, style_bank
        self.source: StyleSource | None = None
        self.styles: list[Style] = []
        self.frames = 0

    def prepare(self, network: StyleTransferNetwork) -> StyleSource:
        """Find style images and read the bank, once.

        Raises:
            ScanError: for a folder of styles without a frame, or settings that do not go together.
            WeightsError: for a bank that does not fit.
        """
        if self.source is None:
            files = [] if self.style_dir is None else find_frames(self.style_dir)
            bank = None
            if self.mode == "posterior_mix" or (self.mode == "interpolate" and len(files) < 2):
                bank = None if self.style_bank is None else load_bank(self.style_bank, sum(network.features))
            images = [(str(path), lambda path=path: self._read(path)) for path in files]
            try:
                self.source = StyleSource(network, self.mode, images=images, bank=bank, **self.options)
            except ValueError as error:
                raise ScanError(str(error)) from error
        return self.source

    def _read(self, path: os.PathLike) -> Tensor:  # (1, H, W)
        return self.load({"image": str(path)})["image"].as_subclass(Tensor)

    @torch.no_grad()
    def __call__(self, inputs: Tensor, network: Any, *args: Any, **kwargs: Any) -> Tensor:  # (1, N, H, W)
        if len(inputs) != 1:
            raise ValueError(f"frames must come one by one, got {len(inputs)} at once")
        self.styles = self.prepare(network)(self.frames)
        self.frames += 1
        outputs = [network.render(inputs, style.codes) for style in self.styles]
        return torch.cat(outputs, 1).float()
