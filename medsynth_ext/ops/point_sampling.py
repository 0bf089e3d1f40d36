"""Values of feature maps at points."""

from __future__ import annotations

from torch import Tensor

from medsynth_ext.ops import reference
from medsynth_ext.ops._checks import check_float, check_out, check_same, use_kernel
from medsynth_ext.ops._precision import float32_inside
from medsynth_ext.ops.warping import warp

__all__ = ["sample_at_points"]


@float32_inside("feat", "pts")
def sample_at_points(
    feat: Tensor,  # (B, C, *S)
    pts: Tensor,  # (B, N, D) in voxels
    *,
    out: Tensor | None = None,
) -> Tensor:  # (B, N, C)
    """Feature vectors at points, linear between voxels; differentiable in both.

    Points outside take the border's value (and no gradient along that axis), NaN gives NaN.

    Args:
        feat: feature maps; a batch of 1 serves all points.
        pts: index coordinates in the order of the tensor's axes; integers are voxel centres. For a map of stride s,
            voxel p of the image is ``(p + 0.5) / s - 0.5``.
        out: receives the values; no gradient then.

    >>> import torch
    >>> sample_at_points(torch.tensor([[[0.0, 10.0, 20.0]]]), torch.tensor([[[0.5], [7.0]]])).flatten().tolist()
    [5.0, 20.0]
    """
    check_float("feat", feat)
    check_float("pts", pts)
    axes = feat.ndim - 2
    if not 1 <= axes <= 3 or 0 in feat.shape[2:]:
        raise ValueError(f"feat must be (B, C, *S) with one to three spatial axes, none empty, got {tuple(feat.shape)}")
    if pts.ndim != 3 or pts.shape[2] != axes:
        raise ValueError(f"pts must be (B, N, {axes}), got {tuple(pts.shape)}")
    check_same("pts", pts, "feat", feat)
    if feat.shape[0] not in (1, pts.shape[0]):
        raise ValueError(f"feat must have batch 1 or {pts.shape[0]}, got {feat.shape[0]}")
    if out is not None:
        check_out(out, (*pts.shape[:2], feat.shape[1]), feat.dtype, feat.device, (feat, pts))
    if pts.shape[1] == 0:
        return feat.new_zeros((pts.shape[0], 0, feat.shape[1])) if out is None else out
    if not use_kernel(feat):
        return reference.sample_at_points(feat, pts, out=out)
    values = warp(feat, reference.points_as_field(pts)).flatten(2).movedim(1, 2)
    return values.contiguous() if out is None else out.copy_(values)
