"""The slices of a split, normalised as the bundle does it, with labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from medsynth_ext.methods.semipaired.claims.settings import SPLITS, Settings
from medsynth_ext.methods.semipaired.phantom_cases import CT_SEEDS, ct_patient
from medsynth_ext.phantoms.pelvis_ct_mr import PelvisPatient, pelvis_ct, pelvis_mr, pelvis_patient, pelvis_surrogate

__all__ = ["draw_split", "scaled_ct", "scaled_mr"]

PERCENTILES = (0.5, 99.5)
WINDOW_HU = 1000.0


def scaled_mr(mr: Tensor) -> Tensor:  # (S, H, W)
    """A scan with its percentiles at -1 and 1."""
    low, high = (torch.quantile(mr.flatten(), p / 100) for p in PERCENTILES)
    return (2 * (mr - low) / (high - low) - 1).clamp(-1, 1)


def scaled_ct(hu: Tensor) -> Tensor:
    """HU from -1000 to 1000 as -1 to 1."""
    return (hu / WINDOW_HU).clamp(-1, 1)


def draw_split(split: str, s: Settings, progress: Callable[..., None]) -> dict[str, Tensor]:
    """All slices of a split, (N, H, W) half and uint8 labels, patient after patient.

    ``mr``, ``surrogate`` and ``mr_labels`` of one group, ``ct`` and ``ct_labels`` of the other; and the CT of the first
    group, ``mr_ct``, which nobody trains with.
    """
    first = SPLITS[split]
    count_mr, count_ct = (s.train_mr, s.train_ct) if split == "train" else (s.test_mr, s.test_ct)
    grid = {"size": s.size, "spacing_mm": s.spacing_mm, "slices": s.slices, "slice_mm": s.slice_mm}
    parts: dict[str, list[Tensor]] = {}

    def keep(**images: Tensor) -> None:
        for name, image in images.items():
            parts.setdefault(name, []).append(image if image.dtype == torch.uint8 else image.half())

    def patients(draw: Callable[..., PelvisPatient], seeds: Sequence[int], done: float) -> Iterator[PelvisPatient]:
        for i, seed in enumerate(seeds):
            progress(done + 0.5 * i / len(seeds), f"{split} patient {i + 1} of {len(seeds)}")
            yield draw(seed, **grid)

    for p in patients(pelvis_patient, range(first, first + count_mr), 0.0):
        keep(mr=scaled_mr(pelvis_mr(p)), surrogate=scaled_ct(pelvis_surrogate(p)), mr_labels=p.structures)
        if split != "train":
            keep(mr_ct=scaled_ct(pelvis_ct(p, couch=False, views=s.views, photons=s.photons)))
    for p in patients(ct_patient, range(CT_SEEDS + first, CT_SEEDS + first + count_ct), 0.5):
        keep(ct=scaled_ct(pelvis_ct(p, views=s.views, photons=s.photons)), ct_labels=p.structures)
    return {name: torch.cat(images) for name, images in parts.items()}
