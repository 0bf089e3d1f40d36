"""The network, the transformed slices, and the handler that ends a training."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from medsynth_ext.handlers import EarlyStop
from medsynth_ext.methods.oneshot.metric import JointMask, ViewCrossEntropy
from medsynth_ext.methods.oneshot.network import OneShotCNN
from medsynth_ext.methods.oneshot.slices import Jitter, SliceNumbers, TransformedSlices

OPTIONS = {"size": 24, "slices_per_volume": 12, "shift_voxels": 4.0, "rotation_deg": 30.0}


def slices_of(structure, **changes) -> TransformedSlices:
    image, mask, _ = structure()
    item = {"image": image, "label": mask}
    found = TransformedSlices([{"image": "a", "label": "b"}], lambda _: item, **(OPTIONS | changes))
    found.load()
    return found


def test_the_network_has_the_layers_of_the_paper():
    network = OneShotCNN()
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [64] * 4 + [128] * 3 + [64] * 4 + [1]
    assert convolutions[7].in_channels == 192
    assert not any(isinstance(m, nn.BatchNorm2d) for m in network.modules())
    assert any(isinstance(m, nn.BatchNorm2d) for m in OneShotCNN(norm=True).modules())


@pytest.mark.parametrize("size", [(48, 48), (25, 31), (1, 7)])
def test_the_network_is_fully_convolutional(size):
    assert OneShotCNN(features=(2, 3))(torch.rand(2, 1, *size)).shape == (2, 1, *size)


def test_slices_are_a_function_of_seed_and_number(structure):
    one, two = slices_of(structure), slices_of(structure)
    ahead = one[29]["image"]
    assert torch.equal(one[3]["image"], two[3]["image"])
    assert torch.equal(two[29]["image"], ahead)
    assert not torch.equal(slices_of(structure, seed=1)[3]["image"], one[3]["image"])


def test_half_of_the_slices_meet_the_structure(structure):
    slices = slices_of(structure, coarse_prob=0.0)
    for copy in range(4):
        masks = torch.stack([slices[copy * 12 + i]["label"] for i in range(12)])
        assert masks.flatten(1).any(1).sum() >= 6


def test_masks_lie_on_the_bright_structure(structure):
    slices = slices_of(structure, jitter=Jitter(gamma=(1.0, 1.0), gain=0.0, noise=0.0), coarse_prob=0.5)
    for number in range(24):
        item = slices[number]
        inside = item["image"][item["label"] > 0]
        assert len(inside) < 12 or inside.median() > 0.6


def test_numbers_of_an_epoch_follow_each_other(structure):
    sampler = SliceNumbers(slices_of(structure), samples_per_epoch=12, batch_size=4)
    sampler.set_epoch(3)
    assert list(sampler) == list(range(36, 48))
    ranks = [
        SliceNumbers(slices_of(structure), samples_per_epoch=8, batch_size=2, num_replicas=2, rank=r) for r in (0, 1)
    ]
    assert [list(r) for r in ranks] == [[0, 1, 4, 5], [2, 3, 6, 7]]


def test_missing_and_unfit_volumes_are_refused(structure):
    with pytest.raises(ValueError, match="one annotated volume is wanted, got 0"):
        TransformedSlices([], lambda _: {}, **OPTIONS).load()
    image, mask, _ = structure()
    unfit = TransformedSlices(
        [{"image": "a", "label": "b"}], lambda _: {"image": image, "label": mask[:, 1:]}, **OPTIONS
    )
    with pytest.raises(ValueError, match="b must have the shape"):
        unfit.load()


def test_validation_measures_all_three_views():
    label = (torch.rand(1, 1, 4, 5, 6) > 0.5).float()
    right = (label * 2 - 1).expand(1, 3, 4, 5, 6) * 30
    metric = ViewCrossEntropy()
    metric(right, label)
    assert metric.aggregate() < 1e-6
    metric.reset()
    metric(right * torch.tensor([1.0, 1.0, 0.0]).view(1, 3, 1, 1, 1), label)
    assert metric.aggregate().item() == pytest.approx(0.6931 / 3, rel=1e-3)
    joint = JointMask()({"pred": right[0]})["joint"]
    assert torch.equal(joint, label[0])


def test_a_training_ends_when_nothing_gets_better_even_after_an_interruption():
    evaluator = SimpleNamespace(state=SimpleNamespace(epoch=0, metrics={}))
    stopped = []
    trainer = SimpleNamespace(state=SimpleNamespace(epoch=0), terminate=lambda: stopped.append(trainer.state.epoch))
    stop = EarlyStop(evaluator, metric="val_loss", patience=2)
    for epoch, loss in enumerate((0.5, 0.4, 0.45), start=1):
        trainer.state.epoch = evaluator.state.epoch = epoch
        evaluator.state.metrics["val_loss"] = loss
        stop(trainer)
    again = EarlyStop(evaluator, metric="val_loss", patience=2)
    again.load_state_dict(stop.state_dict())
    trainer.state.epoch = 4
    again(trainer)  # not validated: does not count
    assert not stopped
    evaluator.state.epoch = 4
    again(trainer)
    assert stopped == [4]


def test_an_untrained_network_gives_the_prior_and_the_structure_is_learnt_with_confidence():
    torch.manual_seed(0)
    image = torch.rand(8, 1, 24, 24) * 0.2
    label = torch.zeros_like(image)
    label[:, :, 9:13, 9:13] = 1
    image = image + 0.6 * label
    network = OneShotCNN(features=(4, 8), norm=True, prior=0.02)
    start = float(network.head.bias.detach().sigmoid())
    optimizer = torch.optim.Adam(network.parameters(), lr=0.005)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(network(image), label).backward()
        optimizer.step()
    inside = network(image).detach().sigmoid()[label > 0]
    assert start == pytest.approx(0.02)
    assert inside.mean() > 0.8
    with pytest.raises(ValueError, match="prior must be between 0 and 1"):
        OneShotCNN(prior=1.0)
