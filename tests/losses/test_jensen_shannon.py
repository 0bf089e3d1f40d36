"""Jensen-Shannon divergence against hand-worked numbers and its definition."""

from __future__ import annotations

import math

import pytest
import torch

from medsynth_ext.losses import jensen_shannon


def test_hand_worked_numbers() -> None:
    # a = (1/2, 1/2), b = (1, 0): m = (3/4, 1/4)
    a, b = torch.zeros(1, 2), torch.tensor([[60.0, -60.0]])
    expected = 0.5 * (0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25) + math.log(1 / 0.75))
    assert jensen_shannon(a, b).item() == pytest.approx(expected, rel=1e-5)


def test_equals_the_definition_and_is_symmetric() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(2, 5, 3, 4, dtype=torch.float64), torch.randn(2, 5, 3, 4, dtype=torch.float64)
    a, b = x.softmax(1), y.softmax(1)
    m = (a + b) / 2
    expected = (a * (a / m).log() + b * (b / m).log()).sum() / (2 * 2 * 3 * 4)
    assert jensen_shannon(x, y).item() == pytest.approx(expected.item(), rel=1e-5)
    assert jensen_shannon(y, x).item() == pytest.approx(expected.item(), rel=1e-5)
    assert jensen_shannon(x, y, reduction="all").item() == pytest.approx(expected.item() / 5, rel=1e-5)


def test_is_zero_with_zero_gradient_for_equal_beliefs_and_at_most_log_2() -> None:
    x = torch.randn(2, 6, 3, requires_grad=True)
    value = jensen_shannon(x, x.detach() + 3.0)  # the same softmax
    value.backward()
    assert value.item() == pytest.approx(0.0, abs=1e-6)
    assert x.grad.abs().max() < 1e-6
    far = torch.tensor([[1e5, -1e5]])
    assert jensen_shannon(far, -far).item() == pytest.approx(math.log(2))


def test_gradient_is_finite_where_a_probability_vanishes() -> None:
    x = torch.tensor([[500.0, -500.0, 0.0]], requires_grad=True)
    jensen_shannon(x, torch.zeros(1, 3)).backward()
    assert torch.isfinite(x.grad).all()


def test_gradcheck() -> None:
    # The loss computes in float32, so the finite differences are wide.
    x, y = torch.randn(1, 4, 2, requires_grad=True), torch.randn(1, 4, 2)
    (grad,) = torch.autograd.grad(jensen_shannon(x, y), x)
    for i in range(8):
        step = torch.zeros(8)
        step[i] = 1e-2
        step = step.reshape(1, 4, 2)
        slope = (jensen_shannon(x + step, y) - jensen_shannon(x - step, y)) / 2e-2
        assert slope.item() == pytest.approx(grad.flatten()[i].item(), abs=2e-4)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"logits must both be \(B, C, ...\)"):
        jensen_shannon(torch.zeros(1, 2), torch.zeros(1, 3))
    with pytest.raises(ValueError, match="reduction must be one of position, all, got 'mean'"):
        jensen_shannon(torch.zeros(1, 2), torch.zeros(1, 2), reduction="mean")
