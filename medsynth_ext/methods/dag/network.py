"""The deep adaptive graph: a mean shape that is moved as a whole and then point by point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from monai.networks.layers import get_norm_layer
from torch import Tensor, nn

from medsynth_ext import ops
from medsynth_ext.methods.dag.coordinates import to_index
from medsynth_ext.methods.dag.graph import GlobalGCN, LocalGCN, shape_features
from medsynth_ext.networks.hrnet import HRNet

__all__ = ["TRANSFORMS", "DAGNet", "DAGOutput", "DAGStages"]

TRANSFORMS = ("affine", "perspective")


class DAGOutput(NamedTuple):
    """What the losses compare; coordinates are normalised, -1 and 1 at the image's outer edges."""

    moved: Tensor  # (B, N, 2) after the transform of the whole shape
    points: Tensor  # (B, N, 2) after the last local step
    features: Tensor  # (B, C, H / 4, W / 4)


class DAGNet(nn.Module):
    """HRNet features, one transform of the mean shape, then local steps; all read the features at the points.

    A node's features are the image features at its point and the displacements to all other points. Without training
    the output is the mean shape, which is a buffer: set it with :meth:`set_mean_shape` before the training.

    Args:
        n_points: number of landmarks N.
        in_channels: channels of the image.
        width: HRNet's.
        stem_channels: HRNet's.
        modules: HRNet's.
        blocks: HRNet's.
        features: channels of the feature map and of the graph layers.
        transform: of the whole shape, ``affine`` or ``perspective``.
        global_blocks: residual blocks of the global graph network.
        local_blocks: residual blocks of a local one.
        local_steps: local steps.
        share_local: one recurrent local network in place of one per step.
        norm: of the convolutions, a name or a name and its options as MONAI's layers take it.

    Shapes: ``(B, in_channels, H, W)``, sides multiples of 32, to ``(B, N, 2)`` index coordinates ``(y, x)``.

    Raises:
        ValueError: for fewer than two points or another transform.
    """

    def __init__(
        self,
        n_points: int,
        *,
        in_channels: int = 1,
        width: int = 18,
        stem_channels: int = 64,
        modules: Sequence[int] = (1, 4, 3),
        blocks: Sequence[int] = (4, 4, 4, 4),
        features: int = 256,
        transform: str = "affine",
        global_blocks: int = 4,
        local_blocks: int = 3,
        local_steps: int = 3,
        share_local: bool = False,
        norm: str | tuple[str, dict[str, Any]] = "batch",
    ) -> None:
        super().__init__()
        if n_points < 2:
            raise ValueError(f"n_points must be at least 2, got {n_points}")
        if transform not in TRANSFORMS:
            raise ValueError(f"transform must be one of {', '.join(TRANSFORMS)}, got {transform!r}")
        self.encoder = HRNet(
            in_channels, width=width, stem_channels=stem_channels, modules=modules, blocks=blocks, norm=norm
        )
        self.head = nn.Sequential(
            nn.Conv2d(self.encoder.out_channels, features, 1, bias=False),
            get_norm_layer(norm, spatial_dims=2, channels=features),
            nn.ReLU(),
        )
        inputs = features + 2 * (n_points - 1)
        rows = 2 if transform == "affine" else 3
        identity = torch.eye(3)[:rows].flatten()
        self.global_gcn = GlobalGCN(inputs, features=features, blocks=global_blocks, initial=identity)
        count = 1 if share_local else local_steps
        self.local_gcns = nn.ModuleList(LocalGCN(inputs, features=features, blocks=local_blocks) for _ in range(count))
        self.repeats = local_steps // count
        self.min_depth = 0.1  # of the third homogeneous coordinate
        self.global_edges = nn.Parameter(torch.full((n_points, n_points), 1 / n_points))
        self.local_edges = nn.Parameter(torch.full((n_points, n_points), 1 / n_points))
        self.mean_shape: Tensor
        self.register_buffer("mean_shape", torch.zeros(n_points, 2))

    @torch.jit.unused
    def set_mean_shape(
        self,
        points: Tensor,  # (N, 2) normalised
    ) -> None:
        """Where the points start from.

        Raises:
            ValueError: for another number of points, or a point without a position.
        """
        if points.shape != self.mean_shape.shape or not torch.isfinite(points).all():
            raise ValueError(
                f"the mean shape must be {tuple(self.mean_shape.shape)} finite numbers, got {tuple(points.shape)}"
            )
        self.mean_shape.copy_(points)

    def _nodes(self, features: Tensor, points: Tensor) -> Tensor:
        """Image and shape features of every point, (B, N, C + 2 (N - 1))."""
        if torch.jit.is_scripting():  # an exported network runs without the extension
            grid = points.flip(-1)[:, :, None]
            seen = F.grid_sample(features, grid.to(features.dtype), padding_mode="border", align_corners=False)
            visual = seen[..., 0].transpose(1, 2)
        else:
            visual = ops.sample_at_points(features, to_index(points, features.shape[2:]).to(features.dtype))
        return torch.cat([visual.to(points.dtype), shape_features(points)], 2)

    def _transformed(self, parameters: Tensor, points: Tensor) -> Tensor:
        matrix = parameters.reshape(parameters.shape[0], -1, 3)
        moved = torch.matmul(points, matrix[:, :2, :2].transpose(1, 2)) + matrix[:, None, :2, 2]
        if matrix.shape[1] == 2:
            return moved
        depth = torch.matmul(points, matrix[:, 2:, :2].transpose(1, 2)) + matrix[:, None, 2:, 2]
        sign = torch.where(depth < 0, -torch.ones_like(depth), torch.ones_like(depth))
        return moved / (sign * depth.abs().clamp(min=self.min_depth))

    def stages(self, image: Tensor) -> DAGOutput:
        """What the losses compare."""
        features = self.head(self.encoder(image))
        start = self.mean_shape.expand(image.shape[0], -1, -1)
        parameters = self.global_gcn(self._nodes(features, start), self.global_edges)
        moved = self._transformed(parameters.to(start.dtype), start)
        points = moved
        for gcn in self.local_gcns:
            for _ in range(self.repeats):
                points = points + gcn(self._nodes(features, points), self.local_edges).to(points.dtype)
        return DAGOutput(moved, points, features)

    def forward(self, image: Tensor) -> Tensor:
        points = self.stages(image).points
        size = torch.tensor([image.shape[2], image.shape[3]], dtype=points.dtype, device=points.device)
        return (points + 1) / 2 * size - 0.5


class DAGStages(nn.Module):
    """A network whose output is what the losses compare.

    ``DistributedDataParallel`` watches a module's ``forward`` only, so wrap this in it, not the network.

    Args:
        network: the network in training.
    """

    def __init__(self, network: DAGNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> DAGOutput:
        return self.network.stages(image)
