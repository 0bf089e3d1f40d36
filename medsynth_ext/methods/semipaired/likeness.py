"""How like two folders of scans are: FID and KID of their slices in the space of any feature extractor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Transform
from torch import Tensor, nn
from tqdm.auto import tqdm

from medsynth_ext.data.files import write_json
from medsynth_ext.data.scans import find_scans
from medsynth_ext.metrics.fid import feature_vectors, fid, kid

__all__ = ["write_likeness"]


@torch.no_grad()
def write_likeness(
    path: str | Path,
    *,
    found: str | Path,
    real: str | Path,
    preparation: Transform,
    found_preparation: Transform | None = None,
    features: Callable[[Tensor], Any],
    device: str | torch.device,
    subset_size: int = 1000,
    batch_size: int = 16,
) -> dict[str, Any]:
    """Compare translated scans with real ones of other patients, and write the figures as JSON.

    Args:
        path: the JSON file.
        found: folder of translated scans.
        real: folder of real ones.
        preparation: from ``{"image": path}`` to a volume (1, H, W, D) in [-1, 1].
        found_preparation: the same for translated scans, when it differs.
        features: the extractor, see :func:`medsynth_ext.metrics.fid.feature_vectors`.
        device: where it runs.
        subset_size: greatest size of KID's subsets; no more than half of the smaller set.
        batch_size: slices at once.
    """
    if isinstance(features, nn.Module):
        features = features.to(device).eval()
    sets = []
    for folder, prepare in ((found, found_preparation or preparation), (real, preparation)):
        parts = []
        for scan in tqdm(find_scans(folder), desc=f"looking at {Path(folder).name}", leave=False):
            volume = torch.as_tensor(np.asarray(prepare({"image": str(scan)})["image"]))  # (1, H, W, D)
            slices = volume.movedim(-1, 0).float().to(device)
            parts.append(feature_vectors(features, list(slices.split(batch_size))))
        sets.append(torch.cat(parts))
    counts = [len(vectors) for vectors in sets]
    mean, deviation = kid(*sets, subset_size=max(2, min(subset_size, min(counts) // 2)))
    figures = {
        "fid": fid(*sets),
        "kid": mean,
        "kid_sd": deviation,
        "slices": dict(zip(("found", "real"), counts, strict=True)),
        "features": sets[0].shape[1],
    }
    write_json(path, figures)
    return figures
