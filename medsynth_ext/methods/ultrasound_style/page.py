"""The picture of the bundle's page: phantom frames in other machines' styles beside the truth, and drawn styles."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from medsynth_ext.data.files import replacing
from medsynth_ext.methods.ultrasound_style.frames import find_frames
from medsynth_ext.methods.ultrasound_style.network import StyleTransferNetwork
from medsynth_ext.methods.ultrasound_style.styles import StyleSource, load_bank
from medsynth_ext.phantoms.ultrasound import UltrasoundFrame, ultrasound_frame

__all__ = ["draw_page"]

_COLUMNS = 5
_OUTLINE = (255, 180, 40)


@torch.no_grad()
def draw_page(
    path: str | os.PathLike,
    network: StyleTransferNetwork,
    *,
    pairs: Sequence[tuple[str, int, str, int]],
    bank: str | os.PathLike,
    load: Callable[[dict], Any],
    style_dir: str | os.PathLike | None = None,
    size: Sequence[int] = (64, 64),
    seed: int = 1_000_000,
    temperature: float = 1.5,
    scale: int = 2,
) -> None:
    """Draw a row for each pair, one for real frames as styles, one of drawn styles, one of steps between two.

    The steps lead from the style of the first pair to that of the last.

    Args:
        path: the PNG.
        network: the trained transfer.
        pairs: content and machine of the frame that is shown, content and machine of its style frame.
        bank: styles of the training, for drawn styles.
        load: reads a real frame, ``load({"image": path})["image"]`` (1, H, W).
        style_dir: real frames, of which the first two are styles; ``None`` leaves out their row.
        size: rows and columns of the frames.
        seed: the first phantom frame; style frames follow behind the pairs.
        temperature: of the drawn styles.
        scale: pixels of the picture per pixel.
    """
    network.eval()
    codes = load_bank(bank, sum(network.features))
    rows, looks = [], []
    for n, (content, machine, other, style_machine) in enumerate(pairs):
        frame = ultrasound_frame(seed + n, content=content, machine=machine, size=size)
        truth = ultrasound_frame(seed + n, content=content, machine=style_machine, size=size).image
        style = ultrasound_frame(seed + len(pairs) + n, content=other, machine=style_machine, size=size).image
        looks.append((str(n), style))
        made = network(frame.image[None], style[None])[0]
        rows.append([_outlined(frame), *(_grey(x) for x in (style, made, truth, 2 * (made - truth).abs()))])
    if style_dir is not None:
        rows.append([_outlined(frame)])
        for file in find_frames(style_dir)[:2]:
            look = load({"image": str(file)})["image"].as_subclass(Tensor)
            rows[-1] += [_grey(look), _grey(network(frame.image[None], look[None])[0])]
    ends = [(name, lambda style=style: style) for name, style in (looks[0], looks[-1])]
    for source in (
        StyleSource(network, "posterior_mix", count=_COLUMNS, bank=codes, temperature=temperature),
        StyleSource(network, "interpolate", count=_COLUMNS, images=ends),
    ):
        rows.append([_grey(network.render(frame.image[None], style.codes)[0]) for style in source(0)])
    page = Image.fromarray(np.concatenate([np.concatenate(row, 1) for row in rows]))
    with replacing(path) as temporary:
        shown = page.resize((page.width * scale, page.height * scale), Image.Resampling.NEAREST)
        shown.save(temporary, format="PNG", optimize=True)


def _grey(image: Tensor) -> np.ndarray:  # (1, H, W) -> (H, W, 3) uint8
    return (image[0].clamp(0, 1) * 255).round().to(torch.uint8)[..., None].expand(-1, -1, 3).numpy()


def _outlined(frame: UltrasoundFrame) -> np.ndarray:  # (H, W, 3) uint8
    """The frame with the outline of its vessels."""
    mask = frame.labels[0].numpy() > 0
    inner = np.pad(mask, 1)
    inner = inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]
    shown = _grey(frame.image).copy()
    shown[mask & ~inner] = _OUTLINE
    return shown
