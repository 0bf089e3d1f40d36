"""Plain twins of the region operators."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

__all__ = ["connected_components", "region_sums"]


def connected_components(mask: Tensor, full: bool) -> Tensor:
    """SciPy's labels of masks (N, *S); it numbers regions by their first voxels in raster order."""
    axes = mask.ndim - 1
    structure = ndimage.generate_binary_structure(axes, axes if full else 1)
    labels = [ndimage.label(m.cpu().numpy(), structure)[0] for m in mask]
    return torch.from_numpy(np.array(labels, dtype=np.int32).reshape(mask.shape)).to(mask.device)


def region_sums(labels: Tensor, q: Tensor, cut: Tensor | None, regions: int) -> Tensor:
    """The table of ``csrc/regions/region_sums.h``, region after region."""
    count, height, width = labels.shape
    rows = regions if cut is None else 2 * regions
    table = torch.zeros((count, rows, 11), dtype=torch.int64)
    table[..., 7], table[..., 8] = height, width
    for m in range(count):
        for label in range(1, regions + 1):
            y, x = (labels[m] == label).nonzero(as_tuple=True)
            value = q[m][y, x].long()
            behind = torch.zeros_like(y, dtype=torch.bool)
            if cut is not None:
                way, area, sum_y, sum_x = cut[m, label - 1].tolist()
                behind = y * area >= sum_y if way == 0 else x * area >= sum_x if way == 1 else behind
            for part in (False, True):
                here = behind == part
                if not bool(here.any()):
                    continue
                py, px, v = y[here], x[here], value[here]
                sums = [torch.ones_like(v).sum(), py.sum(), px.sum(), v.sum(), (v * py).sum(), (v * px).sum()]
                box = [v.max(), py.min(), px.min(), py.max() + 1, px.max() + 1]
                row = label - 1 if cut is None else 2 * (label - 1) + part
                table[m, row] = torch.stack(sums + box)
    return table.to(labels.device)
