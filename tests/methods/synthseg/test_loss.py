from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from monai.losses import DiceLoss

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


def test_terms_and_gradient_equal_monai_and_torch():
    pred = torch.randn(2, 5, 4, 3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    target = torch.randint(0, 5, (2, 1, 4, 3, 6), generator=torch.Generator().manual_seed(1))
    form = {"include_background": True, "to_onehot_y": True, "softmax": True, "squared_pred": True}
    dice = DiceLoss(**form, smooth_nr=1e-5, smooth_dr=1e-5)(pred, target)
    want = 0.7 * dice + 1.3 * F.cross_entropy(pred, target[:, 0])
    terms = SynthSegLoss(dice_weight=0.7, cross_entropy_weight=1.3, smooth=1e-5)(pred, target)
    assert terms["loss"].item() == pytest.approx(want.item(), rel=1e-7)  # MONAI sums the one-hot target in float32
    (grad_want,) = torch.autograd.grad(want, pred)
    (grad,) = torch.autograd.grad(terms["loss"], pred)
    assert torch.allclose(grad, grad_want, rtol=1e-6, atol=1e-10)
    small = torch.randn(1, 3, 2, 2, 2, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: SynthSegLoss(cross_entropy_weight=1.0)(x, target[:1, :, :2, :2, :2] % 3)["loss"], (small,)
    )


def test_target_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"target must be \(1, 1, 4, 4, 4\), got \(1, 4, 4, 4\)"):
        SynthSegLoss()(torch.zeros(1, 3, 4, 4, 4), torch.zeros(1, 4, 4, 4))


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
