"""A federation that is solved in a second: the sites share a matrix, and keep an offset and their latents."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medsynth_ext.engines import LatentGaussian
from medsynth_ext.engines.federated import Exchange, SiteResult


class ToyModel(nn.Module):
    """What is shared: ``x = matrix z``."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.tensor([[1.0, 0.2], [-0.3, 0.8], [0.5, 0.5]]))


class ToyOptimizer:
    """Adam on the shared matrix."""

    def __init__(self, model: nn.Module, rate: float = 0.1) -> None:
        self.parameters = dict(model.named_parameters())
        self.optimizer = torch.optim.Adam(self.parameters.values(), lr=rate)
        self.rate = rate

    def apply(self, gradients: Mapping[str, Tensor], phase: str, *, factor: float = 1.0) -> None:
        assert phase == "fit"
        for name, parameter in self.parameters.items():
            parameter.grad = gradients[name].clone()
        self.optimizer.param_groups[0]["lr"] = self.rate * factor
        self.optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        return self.optimizer.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.optimizer.load_state_dict(dict(state))


class ToySite:
    """Points of a plane through the site's own offset, fitted by ``matrix z + offset``."""

    def __init__(self, seed: int, count: int = 3, rate: float = 0.1, pause_s: float = 0.0) -> None:
        generator = torch.Generator().manual_seed(seed)
        plane = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, -1.0]])
        self.targets = torch.randn(count, 2, generator=generator) @ plane.T + torch.randn(3, generator=generator)
        self.z = nn.Parameter(torch.randn(count, 2, generator=generator))
        self.offset = nn.Parameter(torch.zeros(3))
        self.optimizer = torch.optim.Adam([self.z, self.offset], lr=rate)
        self.pause_s = pause_s  # of every step, for tests that have to catch a site at work
        self.prepared = 0
        self.poison: dict[int, str] = {}  # iteration to what goes wrong in it
        self.finished: tuple[dict[str, Tensor], LatentGaussian] | None = None

    def prepare(self) -> None:
        self.prepared += 1

    def size(self) -> int:
        return len(self.targets)

    def loss(self, matrix: Tensor) -> Tensor:
        return (self.z @ matrix.T + self.offset - self.targets).square().sum(1).mean() + 1e-3 * self.z.square().mean()

    def run(self, state: Mapping[str, Tensor], work: Sequence[Mapping[str, Any]]) -> SiteResult:
        for _ in work:
            time.sleep(self.pause_s)
            matrix = state["matrix"].clone().requires_grad_()
            loss = self.loss(matrix)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        assert matrix.grad is not None
        gradients = {"matrix": matrix.grad}
        match self.poison.get(work[-1]["iteration"]):
            case "nan":
                gradients = {"matrix": torch.full((3, 2), torch.nan)}
            case "shape":
                gradients = {"matrix": torch.zeros(2, 3)}
            case "name":
                gradients = {"latents": self.z.detach()}
            case "crash":
                raise KeyError("/data/patients/Jane_Doe.nii.gz is broken")
        return SiteResult(gradients, {"loss": float(loss.detach())}, len(self.targets))

    def latents(self) -> LatentGaussian:
        return LatentGaussian.fit(self.z)

    def finish(self, state: Mapping[str, Tensor], gaussian: LatentGaussian, folder: Path) -> None:
        self.finished = (dict(state), gaussian)

    def state_dict(self) -> dict[str, Any]:
        return copy.deepcopy(
            {"z": self.z.detach(), "offset": self.offset.detach(), "optimizer": self.optimizer.state_dict()}
        )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        with torch.no_grad():
            self.z.copy_(state["z"])
            self.offset.copy_(state["offset"])
        self.optimizer.load_state_dict(state["optimizer"])


def toy_plan(iterations: int = 14, *, alone: int = 0) -> list[Exchange]:
    """Iterations with gradients, then some in which the sites work for themselves, three to an exchange."""
    shared = [Exchange(({"iteration": i + 1},), "fit") for i in range(iterations)]
    own = [Exchange(tuple({"iteration": 1000 + 3 * i + k} for k in range(3))) for i in range(alone)]
    return [*shared, *own]
