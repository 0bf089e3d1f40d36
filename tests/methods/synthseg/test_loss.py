from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from medsynth_ext.methods.synthseg.loss import SynthSegLoss, WarmUpLoss


def test_dice_is_the_papers_formula():
    pred = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    target = torch.randint(0, 3, (2, 1, 4, 5, 6), generator=torch.Generator().manual_seed(1))
    p = pred.softmax(1)
    t = torch.cat([target == k for k in range(3)], dim=1).double()
    dice = (2 * (p * t).sum((2, 3, 4)) + 1e-7) / ((p**2 + t**2).sum((2, 3, 4)) + 1e-7)
    terms = SynthSegLoss()(pred, target)
    assert terms["loss"].item() == pytest.approx(1 - dice.mean().item(), rel=1e-6)
    assert set(terms) == {"loss", "dice_loss"}


def test_the_right_answer_costs_nothing_and_a_wrong_one_everything():
    target = torch.randint(0, 2, (1, 1, 6, 6, 6), generator=torch.Generator().manual_seed(1))
    logits = 40 * F.one_hot(target[:, 0], 2).movedim(-1, 1).float()
    loss = SynthSegLoss(cross_entropy_weight=1.0)
    assert loss(logits, target)["loss"].item() == pytest.approx(0, abs=1e-5)
    assert loss(logits, 1 - target)["dice_loss"].item() == pytest.approx(1, abs=1e-5)


def test_terms_are_weighted():
    pred = torch.randn(1, 3, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    target = torch.zeros(1, 1, 4, 4, 4, dtype=torch.long)
    terms = SynthSegLoss(dice_weight=2.0, cross_entropy_weight=0.5)(pred, target)
    assert terms["loss"].item() == pytest.approx(2 * terms["dice_loss"].item() + 0.5 * terms["cross_entropy"].item())


def test_warm_up_wants_plus_and_minus_five_in_the_foreground():
    target = torch.tensor([0, 1, 2, 2]).reshape(1, 1, 4)
    wanted = torch.tensor([[5.0, -5, -5], [-5, 5, -5], [-5, -5, 5], [-5, -5, 5]]).T[None]
    loss = WarmUpLoss()
    assert loss(wanted, target)["loss"].item() == 0
    off = wanted.clone()
    off[0, 0, 1] += 3  # one class of one of three foreground voxels: 9 / (3 voxels x 3 classes)
    assert loss(off, target)["loss"].item() == pytest.approx(1)
    background = wanted.clone()
    background[0, :, 0] += 100
    assert loss(background, target)["loss"].item() < 1e-3
