"""The figures of a translation of the test patients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from medsynth_ext.methods.semipaired.claims.patients import WINDOW_HU
from medsynth_ext.methods.semipaired.hallucinations import couch_pixels, gas_change
from medsynth_ext.metrics.fid import feature_vectors, fid, kid
from medsynth_ext.phantoms.pelvis_ct_mr import STRUCTURES

__all__ = ["score", "structure_dice"]

_NAMES = ("body", *STRUCTURES[1:])


@torch.no_grad()
def _in_parts(network: nn.Module, images: Tensor, count: int = 16) -> Tensor:
    return torch.cat([network(part.float()[:, None]).cpu() for part in images.split(count)])


def _masks(labels: Tensor) -> list[Tensor]:
    """Body and structures."""
    return [labels > 0, *(labels == k for k in range(2, len(STRUCTURES) + 1))]


def structure_dice(
    network: nn.Module,
    images: Tensor,  # (N, H, W)
    labels: Tensor,  # (N, H, W)
    slices: int,
) -> dict[str, float]:
    """Dice per structure, the mean over patients, and ``mean`` and ``sd`` over everything."""
    found = _in_parts(network, images).argmax(1)
    rows: dict[str, list[float]] = {name: [] for name in _NAMES}
    for f, t in zip(found.split(slices), labels.split(slices), strict=True):
        for name, a, b in zip(_NAMES, _masks(f), _masks(t), strict=True):
            if b.any():
                rows[name].append(float(2 * (a & b).sum() / (a.sum() + b.sum())))
    values = torch.tensor([v for row in rows.values() for v in row])
    figures = {name: sum(row) / len(row) for name, row in rows.items() if row}
    return {**figures, "mean": float(values.mean()), "sd": float(values.std())}


def _edge_correlation(a: Tensor, b: Tensor) -> float:
    """Correlation of gradient magnitudes, over all pixels of all slices."""
    slopes = [torch.hypot(*torch.gradient(part.float(), dim=(1, 2))).flatten() for part in (a, b)]
    return float(torch.corrcoef(torch.stack(slopes))[0, 1])


def _of_ct(pred: Tensor, record: Mapping[str, Tensor], slices: int) -> dict[str, Any]:
    """HU-Dif, error against the hidden CT, gas and couch."""
    hu, true_hu, real_hu = (WINDOW_HU * part.float() for part in (pred, record["mr_ct"], record["ct"]))
    gaps = []
    for mine, theirs in zip(_masks(record["mr_labels"]), _masks(record["ct_labels"]), strict=True):
        if mine.any() and theirs.any():
            gaps.append(abs(float(hu[mine].mean() - real_hu[theirs].mean())))
    body = record["mr_labels"] > 0
    changes = [
        gas_change(f.movedim(0, -1), t.movedim(0, -1))
        for f, t in zip(hu.split(slices), true_hu.split(slices), strict=True)
    ]
    gas = {name: sum(getattr(c, name) for c in changes) / len(hu) for name in ("true", "invented", "lost")}
    couch = torch.cat([couch_pixels(part.movedim(0, -1)) for part in hu.split(slices)])
    return {
        "hu_dif": sum(gaps) / len(gaps) if gaps else math.nan,
        "body_mae_hu": float((hu - true_hu)[body].abs().mean()),
        "gas_per_slice": gas,
        "slices_with_couch": float((couch > 0.005 * hu[0].numel()).float().mean()),
    }


def score(
    generator: nn.Module,
    direction: str,
    record: Mapping[str, Tensor],
    *,
    segmenters: Mapping[str, nn.Module],
    features: nn.Module,
    slices: int,
    kid_subset: int,
    device: str,
) -> tuple[dict[str, Any], Tensor]:
    """Figures and translations (N, H, W).

    Args:
        generator: the trained network, evaluated without dropout.
        direction: ``mr2ct`` or ``ct2mr``.
        record: the test patients, as :func:`draw_split` gives them.
        segmenters: of ``ct`` and ``mr``.
        features: extractor for FID and KID.
        slices: per patient.
        kid_subset: greatest size of KID's subsets.
        device: of the networks.
    """
    source, target = direction.split("2")
    generator.eval()
    inputs = record[source].to(device)
    pred = _in_parts(generator, inputs)[:, 0]
    batches = ((part.float()[:, None].to(device).split(16)) for part in (pred, record[target]))
    sets = [feature_vectors(features, list(parts)) for parts in batches]
    dice = structure_dice(segmenters[target], pred.to(device), record[f"{source}_labels"], slices)
    value, deviation = kid(*sets, subset_size=min(kid_subset, len(pred) // 2))
    figures: dict[str, Any] = {
        "fid": fid(*sets),
        "kid": value,
        "kid_sd": deviation,
        "dice": dice,
        "edge_correlation": _edge_correlation(inputs.cpu(), pred),
    }
    if direction == "mr2ct":
        figures |= _of_ct(pred, record, slices)
    return figures, pred
