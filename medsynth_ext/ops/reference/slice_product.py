"""Plain PyTorch twin of the joint probability of three stacks of slices."""

from __future__ import annotations

from torch import Tensor

from medsynth_ext.ops._precision import float32_inside

__all__ = ["ortho_slice_product"]


@float32_inside("z", "y", "x")
def ortho_slice_product(
    z: Tensor,  # (*B, K, I, J)
    y: Tensor,  # (*B, J, K, I)
    x: Tensor,  # (*B, I, J, K)
    *,
    log: bool = False,
) -> Tensor:  # (*B, I, J, K)
    """See :func:`medsynth_ext.ops.ortho_slice_product`."""
    turned_y = y.movedim(-1, -3)  # (J, K, I) to (I, J, K)
    turned_z = z.movedim(-3, -1)  # (K, I, J) to (I, J, K)
    return (x + turned_y + turned_z).exp() if log else x * turned_y * turned_z
