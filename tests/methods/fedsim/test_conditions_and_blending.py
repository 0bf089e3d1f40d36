"""What the slice generator sees, and how hearts are put into volumes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from medsynth_ext.methods.fedsim.blending import blend_volumes, poisson_slices
from medsynth_ext.methods.fedsim.conditions import coarse_slices, slice_conditions
from medsynth_ext.methods.fedsim.generation import render_volume
from medsynth_ext.methods.fedsim.overlap import dice_and_iou


def test_coarse_slices_are_those_of_the_trilinearly_enlarged_volume() -> None:
    coarse = torch.randn(2, 1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    k = torch.tensor([[0, 7, 15], [3, 8, 12]])
    whole = F.interpolate(coarse, (16,) * 3, mode="trilinear", align_corners=False)
    want = torch.stack([whole[b, 0][..., k[b]].movedim(2, 0) for b in range(2)])
    assert torch.allclose(coarse_slices(coarse, k, 16), want, atol=1e-6)
    assert torch.allclose(coarse_slices(whole, k, 16), want, atol=1e-6)  # a full volume is not changed


def test_channels_are_coarse_label_and_position() -> None:
    heart = torch.zeros(1, 1, 8, 8, 8)
    heart[0, 0, 2, 3, 5] = 1
    condition = slice_conditions(torch.full((1, 1, 2, 2, 2), 0.5), heart, torch.tensor([[5, 4]]))
    assert condition.shape == (2, 3, 8, 8)
    assert (condition[:, 0] == 0.5).all()
    assert condition[0, 1].nonzero().tolist() == [[2, 3]]
    assert condition[1, 1].sum() == 0
    assert (condition[0, 2] == 5 / 8).all()


def test_context_adds_the_neighbouring_slices_and_repeats_the_ends() -> None:
    heart = torch.arange(8.0).expand(1, 1, 8, 8, 8).contiguous()
    condition = slice_conditions(torch.zeros(1, 1, 2, 2, 2), heart, torch.tensor([[0, 4]]), context=1)
    assert condition.shape == (2, 9, 8, 8)
    assert condition[0, [1, 4, 7], 0, 0].tolist() == [0, 0, 1]
    assert condition[1, [1, 4, 7], 0, 0].tolist() == [3, 4, 5]


def test_conditions_pass_gradients_to_both_volumes() -> None:
    coarse = torch.rand(1, 1, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    heart = torch.rand(1, 1, 4, 4, 4, dtype=torch.float64, requires_grad=True)
    k = torch.tensor([[1, 3]])
    assert torch.autograd.gradcheck(lambda c, h: slice_conditions(c, h, k), (coarse, heart))


class Shown(torch.nn.Module):
    """Shows the label channel of its condition."""

    def forward(self, condition: torch.Tensor) -> torch.Tensor:
        return condition[:, 1:2]


def test_rendered_slices_are_stacked_where_they_belong() -> None:
    heart = torch.rand(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(render_volume(Shown(), torch.zeros(1, 1, 2, 2, 2), heart, slices_at_once=3), heart)


def test_alpha_takes_values_inside_the_heart() -> None:
    image, heart_image = torch.zeros(1, 1, 2, 2, 2), torch.ones(1, 1, 2, 2, 2)
    heart = torch.zeros(1, 1, 2, 2, 2)
    heart[..., 0] = 1
    assert torch.equal(blend_volumes(image, heart_image, heart, mode="alpha"), heart)
    with pytest.raises(ValueError, match="mode must be 'alpha' or 'poisson', got 'paste'"):
        blend_volumes(image, heart_image, heart, mode="paste")


def test_poisson_solves_the_equation_and_keeps_the_background() -> None:
    generator = torch.Generator().manual_seed(0)
    background, foreground = (torch.randn(2, 12, 10, generator=generator, dtype=torch.float64) for _ in range(2))
    mask = torch.zeros(2, 12, 10)
    mask[0, 3:9, 2:7], mask[1, 0:5, 4:10] = 1, 1  # the second one touches the border
    blended = poisson_slices(background, foreground, mask, tolerance=1e-10)
    assert torch.equal(blended[mask == 0], background[mask == 0])

    def laplacian(f: torch.Tensor) -> torch.Tensor:
        padded = F.pad(f[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
        return padded[:, 2:, 1:-1] + padded[:, :-2, 1:-1] + padded[:, 1:-1, 2:] + padded[:, 1:-1, :-2] - 4 * f

    assert torch.allclose(laplacian(blended)[mask == 1], laplacian(foreground)[mask == 1], atol=1e-7)


def test_poisson_removes_a_constant_step() -> None:
    background = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(1, 8, 8)
    mask[0, 2:6, 2:6] = 1
    assert torch.allclose(poisson_slices(background, background + 0.7, mask), background, atol=1e-3)


def test_overlap_of_hand_worked_masks() -> None:
    a = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0]]).view(2, 1, 4, 1, 1)
    b = torch.tensor([[1, 0, 0, 1], [0, 0, 0, 0]]).view(2, 1, 4, 1, 1)
    dice, iou = dice_and_iou(a, b)
    assert dice.tolist() == [0.5, 1.0]
    assert iou.tolist() == [pytest.approx(1 / 3), 1.0]
