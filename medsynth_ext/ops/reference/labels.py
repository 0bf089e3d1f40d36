"""Plain PyTorch twin of the labels family."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["map_labels_out"]


def map_labels_out(labels: Tensor, table: Tensor, out: Tensor) -> Tensor:
    """Write ``table[b, labels[b]]`` into ``out``; returns the first unknown position per sample, or -1."""
    flat = labels.reshape(labels.shape[0], -1).to(torch.int64)
    known = (flat >= 0) & (flat < table.shape[1])
    mapped = torch.gather(table.expand(labels.shape[0], -1), 1, flat.where(known, 0))
    out.copy_(mapped.reshape(labels.shape))
    position = torch.arange(flat.shape[1], device=labels.device).expand_as(flat)
    first = position.masked_fill(known, flat.shape[1]).amin(1) if flat.shape[1] else flat.new_zeros(flat.shape[0])
    return torch.where(first < flat.shape[1], first, -1)
