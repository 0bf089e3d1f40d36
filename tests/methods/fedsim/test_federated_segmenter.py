from __future__ import annotations

import copy

import pytest
import torch
from monai.losses import DiceCELoss
from torch import nn

from medsynth_ext.engines.federated import FederatedServer, LocalSites, SiteRunner
from medsynth_ext.methods.fedsim.federated_segmenter import SegmenterHospital, segmenter_plan
from medsynth_ext.methods.fedsim.shared import SharedOptimizers
from medsynth_ext.methods.fedsim.unet import HeartUNet


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return HeartUNet(features=(2, 4))


def volumes(first: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Balls of different places and sizes, brighter than their surroundings."""
    grid = torch.stack(torch.meshgrid(*(torch.arange(8.0),) * 3, indexing="ij"))
    hearts = []
    for i in range(first, first + count):
        centre = torch.tensor([3.0 + i % 2, 3.0 + i % 3, 4.0]).view(3, 1, 1, 1)
        hearts.append(((grid - centre).square().sum(0, keepdim=True) < 6.0 + i).float())
    labels = torch.stack(hearts)
    return labels - 0.5, labels


def run(network, folder, steps, counts=(2, 1, 1)):
    runners, first = {}, 0
    for i, count in enumerate(counts):
        hospital = SegmenterHospital(copy.deepcopy(network), *volumes(first, count), seed=i)
        runners[str(i)] = SiteRunner(hospital, folder / str(i), name=str(i))
        first += count
    optimizer = SharedOptimizers(network, {"fit": 1e-2})
    server = FederatedServer(
        network, optimizer, segmenter_plan(steps), folder / "server", save_every=steps, pool_latents=False
    )
    assert server.run(LocalSites(runners)) is None
    return server


def test_step_is_that_of_a_batch_with_one_volume_of_every_site(tmp_path, network):
    twin = copy.deepcopy(network)
    run(network, tmp_path, 1, counts=(1, 1, 1))
    images, hearts = volumes(0, 3)
    optimizer = torch.optim.Adam(twin.parameters(), lr=1e-2)
    losses = [DiceCELoss(to_onehot_y=True, softmax=True)(twin(images[i : i + 1]), hearts[i : i + 1]) for i in range(3)]
    torch.stack(losses).mean().backward()
    gradients = {name: parameter.grad.clone() for name, parameter in twin.named_parameters()}
    optimizer.step()
    for (name, ours), theirs in zip(network.named_parameters(), twin.parameters(), strict=True):
        # Where the gradient is next to nothing, Adam's first step has the sign of its rounding error.
        clear = gradients[name].abs() > 1e-6
        torch.testing.assert_close(ours[clear], theirs[clear], atol=1e-5, rtol=0)


def test_federation_learns_to_segment(tmp_path, network):
    server = run(network, tmp_path, 40)
    losses = [row["loss"] for row in server.history]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_segmenter_has_no_latents(network):
    with pytest.raises(ValueError, match="no latents"):
        SegmenterHospital(network, *volumes(0, 1)).latents()
