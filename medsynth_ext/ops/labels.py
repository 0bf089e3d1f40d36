"""Label maps through look-up tables."""

from __future__ import annotations

import torch
from torch import Tensor

from medsynth_ext.ops import reference
from medsynth_ext.ops._checks import check_label, check_out, check_same, use_kernel

__all__ = ["map_labels"]


def map_labels(
    labels: Tensor,  # (B, ...) bool, uint8, int16, int32 or int64
    table: Tensor,  # (L,) or (B, L), any integer or float type
    *,
    validate: bool = True,
    out: Tensor | None = None,  # like labels, dtype of table
) -> Tensor:  # like labels, dtype of table
    """Replace every label by its entry in a table, a table of its own per sample if wanted: ``table[b, labels[b]]``.

    Args:
        labels: label maps; the first axis is the batch.
        table: entry ``l`` is the new value of label ``l``.
        validate: refuse labels without an entry. On CUDA this waits for the result. Without it such voxels get entry 0.
        out: where to write the result.

    Raises:
        TypeError: for labels that are no integers.
        ValueError: for a table of another shape, or a label that has no entry.

    >>> map_labels(torch.tensor([[0, 2, 1]]), torch.tensor([10, 20, 30])).tolist()
    [[10, 30, 20]]
    """
    check_label("labels", labels)
    if labels.ndim < 1:
        raise ValueError("labels must have a batch axis, got a scalar")
    check_same("table", table, "labels", labels, dtype=False)
    shared = table[None] if table.ndim == 1 else table
    if shared.ndim != 2 or shared.shape[0] not in (1, labels.shape[0]) or shared.shape[1] == 0:
        raise ValueError(f"table must be (L,) or ({labels.shape[0]}, L) with L > 0, got {tuple(table.shape)}")
    if out is None:
        out = torch.empty(labels.shape, dtype=table.dtype, device=labels.device)
    else:
        check_out(out, labels.shape, table.dtype, labels.device, ())
    target = out
    if table.dtype in (torch.float16, torch.bfloat16):  # entries are copied, not computed with: bits are enough
        shared, target = shared.view(torch.int16), out.view(torch.int16)
    if use_kernel(labels):
        unknown = torch.ops.medsynth_ext.map_labels_out(labels, shared, target)
    else:
        unknown = reference.map_labels_out(labels, shared, target)
    if validate and labels.device.type != "meta" and not torch.compiler.is_compiling():
        _refuse_unknown(labels, unknown, shared.shape[1])
    return out


def _refuse_unknown(labels: Tensor, unknown: Tensor, entries: int) -> None:
    for sample, position in enumerate(unknown.tolist()):
        if position >= 0:
            value = labels[sample].reshape(-1)[position].item()
            where = tuple(int(i) for i in torch.unravel_index(torch.tensor(position), labels.shape[1:]))
            raise ValueError(
                f"labels has value {value} at {where} of sample {sample}, "
                f"but the table has entries for 0 to {entries - 1} only"
            )


if use_kernel(torch.empty(0)):

    @torch.library.register_fake("medsynth_ext::map_labels_out")
    def _map_labels_out_fake(labels: Tensor, table: Tensor, out: Tensor) -> Tensor:
        return labels.new_empty((labels.shape[0],), dtype=torch.int64)
