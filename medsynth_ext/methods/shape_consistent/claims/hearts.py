"""Hearts of the claims as tensors, with the modality that a translation never saw."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from medsynth_ext.claims import Progress
from medsynth_ext.methods.shape_consistent.claims.settings import FIRST_PERSON, Settings
from medsynth_ext.phantoms.heart_ct_mr import HEART_POSES, heart_subject

__all__ = ["Hearts", "draw_hearts"]

# images (N, 1, *S) of the domain's modality in [-1, 1], hidden (N, 1, *S) of the other one, labels (N, 1, *S) uint8
Hearts = Mapping[str, Tensor]


def draw_hearts(domain: str, part: str, settings: Settings, progress: Progress) -> dict[str, Tensor]:
    """The hearts of one domain and one part of the study; only those of the tests have a hidden modality."""
    s = settings
    (other,) = (name for name in HEART_POSES if name != domain)
    columns: dict[str, list[Tensor]] = {"images": [], "labels": [], "hidden": []}
    count = s.train if part == "train" else s.test
    for number in range(count):
        subject = heart_subject(0, FIRST_PERSON[part] + number, domain=domain, size=s.size, fov_mm=s.fov_mm)
        columns["images"].append(_scaled(subject.image(domain, views=s.views), domain, s))
        columns["labels"].append(subject.labels[None])
        if part != "train":
            columns["hidden"].append(_scaled(subject.image(other, views=s.views), other, s))
        progress((number + 1) / count, f"{domain} heart {number + 1}")
    return {name: torch.stack(rows) for name, rows in columns.items() if rows}


def _scaled(image: Tensor, modality: str, settings: Settings) -> Tensor:
    values = image.as_subclass(Tensor)
    if modality == "ct":
        low, high = (torch.tensor(v) for v in settings.ct_window_hu)
    else:
        low, high = (values.flatten().quantile(p / 100) for p in settings.mr_percentiles)
    return (2 * (values - low) / (high - low) - 1).clamp(-1, 1)
