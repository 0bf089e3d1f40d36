from __future__ import annotations

import torch

from medsynth_ext.methods.__METHOD__ import __CLASS__


def test_logits_have_the_size_of_the_image():
    network = __CLASS__(1, 3, width=4)
    assert network(torch.rand(2, 1, 5, 8, 9)).shape == (2, 3, 5, 8, 9)


def test_every_parameter_gets_a_gradient():
    network = __CLASS__(1, 2, width=4)
    (network(torch.rand(1, 1, 8, 8, 8)) ** 2).mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.head.parameters())
    assert all(block[2].weight.grad.abs().sum() > 0 for block in network.blocks)
