"""The styles that were seen in training as a small file."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from medsynth_ext.data.files import replacing
from medsynth_ext.methods.ultrasound_style.frames import find_frames
from medsynth_ext.methods.ultrasound_style.network import StyleTransferNetwork

__all__ = ["write_bank"]


@torch.no_grad()
def write_bank(
    path: str | os.PathLike,
    network: StyleTransferNetwork,
    folder: str | os.PathLike,
    load: Callable[[dict], Any],
    *,
    most: int = 256,
    batch_size: int = 16,
) -> int:
    """Write the mean style code of frames of a folder, in half precision, for :func:`load_bank`.

    Args:
        path: the file.
        network: the trained transfer.
        folder: training frames.
        load: reads a frame, ``load({"image": path})["image"]`` (1, H, W).
        most: at most so many frames, evenly spread over the names.
        batch_size: frames at once.

    Returns:
        How many frames.

    Raises:
        ScanError: when the folder holds no frame, or one cannot be read.
    """
    files = find_frames(folder)
    count = min(most, len(files))
    chosen = [files[k * len(files) // count] for k in range(count)]
    network.eval()
    device = next(network.parameters()).device
    codes = []
    for start in range(0, count, batch_size):
        images = [load({"image": str(p)})["image"].as_subclass(Tensor) for p in chosen[start : start + batch_size]]
        means, _ = network.style_encoder(torch.stack(images).to(device))
        codes.append(network.join(means).cpu())
    with replacing(path) as temporary:
        torch.save({"codes": torch.cat(codes).half()}, temporary)
    return count
