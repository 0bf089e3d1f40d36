"""A picture of what a trained generator makes: source, translation, hidden truth and error."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from monai.inferers import Inferer
from monai.transforms import Transform
from PIL import Image
from torch import Tensor, nn

from medsynth_ext.data.files import replacing

__all__ = ["write_comparison"]

_GAP = 4


@torch.no_grad()
def write_comparison(
    path: str | Path,
    pairs: Sequence[dict[str, str]],
    *,
    network: nn.Module,
    preprocessing: Transform,
    inferer: Inferer,
    device: str | torch.device,
    shares: Sequence[float] = (0.35, 0.6),
    window: Sequence[float] = (-1.0, 1.0),
    error: float = 0.3,
    zoom: int = 2,
) -> None:
    """Write a PNG with a row per slice: source, translation, truth, and absolute error (dark none, bright much).

    Without a true translation, as for patients, a row ends with the translation.

    Args:
        path: the PNG.
        pairs: ``image`` and, where it is known, ``label``, its true translation, as files.
        network: the generator.
        preprocessing: from the files to volumes in [-1, 1].
        inferer: runs the network.
        device: of the network.
        shares: which slices of a scan are shown, as shares of their number.
        window: what is black and white in translation and truth.
        error: what is brightest in the error.
        zoom: pixels of the picture per pixel.
    """
    network.eval()
    rows = []
    for pair in pairs:
        item = preprocessing(pair)
        image, *label = (item[key].as_tensor()[None].float().to(device) for key in ("image", "label") if key in item)
        pred = inferer(image, network)
        for share in shares:
            planes = [volume[0, 0, :, :, int(share * volume.shape[-1])].cpu() for volume in (image, pred, *label)]
            shown = [_grey(planes[0], (-1.0, 1.0)), *(_grey(plane, window) for plane in planes[1:])]
            if label:
                shown.append(_heat((planes[1] - planes[2]).abs() / error))
            gap = np.zeros((len(shown[0]), _GAP, 3), np.uint8)
            rows.append(np.concatenate([part for one in shown for part in (one, gap)][:-1], axis=1))
    picture = Image.fromarray(np.concatenate(rows))
    with replacing(path) as temporary:
        picture.resize((zoom * picture.width, zoom * picture.height)).save(temporary, format="PNG", optimize=True)


def _grey(plane: Tensor, window: Sequence[float]) -> np.ndarray:  # (H, W, 3) uint8
    share = ((plane - window[0]) / (window[1] - window[0])).clamp(0, 1)
    return (share[..., None].expand(-1, -1, 3) * 255).round().to(torch.uint8).numpy()


def _heat(share: Tensor) -> np.ndarray:  # (H, W, 3) uint8
    return (colormaps["inferno"](share.clamp(0, 1).numpy())[..., :3] * 255).round().astype(np.uint8)
