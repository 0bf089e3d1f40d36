"""Graph convolutions over landmarks: every point is a node, and how much nodes tell each other is learnt."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["GlobalGCN", "LocalGCN", "shape_features"]


def shape_features(
    points: Tensor,  # (B, N, 2)
) -> Tensor:  # (B, N, 2 (N - 1))
    """For every point the displacements to all others, in their order."""
    batch, n = points.shape[0], points.shape[1]
    offsets = points[:, None, :, :] - points[:, :, None, :]  # (B, i, j, 2): from i to j
    # Row i without its own column: in the flattened N x N array the diagonal is every (N + 1)-th entry.
    flat = offsets.reshape(batch, n * n, 2)[:, 1:].reshape(batch, n - 1, n + 1, 2)
    return flat[:, :, :n].reshape(batch, n, 2 * (n - 1))


class _GraphConv(nn.Module):
    """``h_i' = W1 h_i + sum_j E_ij W2 h_j``."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__()
        self.own = nn.Linear(first, second)
        self.others = nn.Linear(first, second, bias=False)

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:  # (B, N, F), (N, N)
        return self.own(nodes) + torch.matmul(edges.to(nodes.dtype), self.others(nodes))


class _Block(nn.Module):
    """Two graph convolutions beside a shortcut."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = _GraphConv(features, features), _GraphConv(features, features)
        self.norm1, self.norm2 = nn.LayerNorm(features), nn.LayerNorm(features)

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        inner = F.relu(self.norm1(self.conv1(nodes, edges)))
        return F.relu(nodes + self.norm2(self.conv2(inner, edges)))


class _Trunk(nn.Module):
    """Input layer and residual blocks; gives the nodes after each of them."""

    def __init__(self, in_features: int, features: int, blocks: int) -> None:
        super().__init__()
        self.first, self.norm = _GraphConv(in_features, features), nn.LayerNorm(features)
        self.blocks = nn.ModuleList(_Block(features) for _ in range(blocks))

    def forward(self, nodes: Tensor, edges: Tensor) -> list[Tensor]:
        nodes = F.relu(self.norm(self.first(nodes, edges)))
        depths = [nodes]
        for block in self.blocks:
            nodes = block(nodes, edges)
            depths.append(nodes)
        return depths


class GlobalGCN(nn.Module):
    """From the nodes to the parameters of one transform of all points.

    The means over the nodes after every layer are put side by side and read out by two linear layers. The last one
    starts with zero weights, so that the parameters start as ``initial``. What goes into the rectifier between them is
    normalised: means of rectified features are all positive, and without that the whole layer soon stays at zero.

    Args:
        in_features: features of a node.
        features: inside.
        blocks: residual blocks.
        initial: parameters at the start, (P,).

    Shapes: nodes ``(B, N, in_features)`` and edges ``(N, N)`` to ``(B, P)``.
    """

    def __init__(self, in_features: int, *, features: int, blocks: int, initial: Tensor) -> None:
        super().__init__()
        self.trunk = _Trunk(in_features, features, blocks)
        self.hidden = nn.Linear((blocks + 1) * features, features)
        self.norm = nn.LayerNorm(features)
        self.last = nn.Linear(features, len(initial))
        nn.init.zeros_(self.last.weight)
        with torch.no_grad():
            self.last.bias.copy_(initial)

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        means = [depth.mean(1) for depth in self.trunk(nodes, edges)]
        return self.last(F.relu(self.norm(self.hidden(torch.cat(means, 1)))))


class LocalGCN(nn.Module):
    """From the nodes to a displacement of each of them; zero at the start.

    Args:
        in_features: features of a node.
        features: inside.
        blocks: residual blocks.

    Shapes: nodes ``(B, N, in_features)`` and edges ``(N, N)`` to ``(B, N, 2)``.
    """

    def __init__(self, in_features: int, *, features: int, blocks: int) -> None:
        super().__init__()
        self.trunk = _Trunk(in_features, features, blocks)
        self.last = nn.Linear(features, 2)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        return self.last(self.trunk(nodes, edges)[-1])
